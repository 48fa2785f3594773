"""Content codings: the beginning of what is packed comes out, in whatever pieces it comes, and never much more."""

import contextlib
import gzip
import struct
import time
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.codings import UNPACKERS, ZSTD_WINDOW
from tests.peers.bombs import CODINGS, bomb, members, pack, windowed

MOST = 262
SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"12345"


def unpacked(body: bytes, coding: str, step: int = 65536) -> bytes:
    """Return the beginning of what is in a body that comes in pieces."""
    unpacker, found = UNPACKERS[coding](), b""
    for at in range(0, len(body), step):
        if len(found) >= MOST:
            return found[:MOST]
        found += unpacker.unpack(body[at : at + step], MOST - len(found), last=False)
    if len(found) < MOST:
        found += unpacker.unpack(b"", MOST - len(found), last=True)
    return found[:MOST]


@given(st.sampled_from(CODINGS), st.binary(max_size=2000), st.integers(1, 300))
def test_the_beginning_comes_out(coding: str, content: bytes, step: int) -> None:
    """Of anything in any coding, in any pieces."""
    assert unpacked(pack(coding, content), coding, step) == content[:MOST]


@given(st.sampled_from(sorted(UNPACKERS)), st.binary(max_size=600), st.integers(1, 64))
def test_any_octets(coding: str, body: bytes, step: int) -> None:
    """They are the beginning of something, or an error that says so."""
    with contextlib.suppress(ValueError):
        assert len(unpacked(body, coding, step)) <= MOST


@pytest.mark.parametrize("coding", CODINGS)
def test_bombs_are_what_they_are_said_to_be(coding: str) -> None:
    """A client that unpacks one gets more and more of it: a hundred megabytes, here."""
    body, wanted = bomb(coding)[: 4 << 20], 100 << 20
    match coding:
        case "br":
            found = 0
            decoder = brotli.Decompressor()
            for at in range(0, len(body), 20):
                found += len(decoder.process(body[at : at + 20]))
                if found >= wanted:
                    break
        case "zstd":
            found = len(zstandard.ZstdDecompressor().stream_reader(body).read(wanted))
        case _:
            found = len(zlib.decompressobj(31 if coding == "gzip" else -15).decompress(body, wanted))
    assert found >= wanted


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("step", [1, 1000, 65536])
def test_a_bomb_costs_little(coding: str, step: int) -> None:
    """No more than the beginning of it is unpacked, and it takes no longer than a window."""
    began = time.thread_time()
    assert unpacked(bomb(coding)[:65536], coding, step) == b"MZ" + bytes(MOST - 2)
    assert time.thread_time() - began < 0.25


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", gzip.compress(b"a") + gzip.compress(b"MZ"), id="a second gzip member"),
        pytest.param("gzip", members("gzip"), id="many empty gzip members"),
        pytest.param("gzip", gzip.compress(b"a")[:-8] + bytes(8), id="gzip with a wrong sum"),
        pytest.param("zstd", zstandard.compress(b"a") + zstandard.compress(b"MZ"), id="a second zstd frame"),
        pytest.param("zstd", zstandard.compress(b"MZ") + b"more", id="something behind a zstd frame"),
        pytest.param("zstd", windowed("zstd"), id="a large zstd window"),
        pytest.param("br", brotli.compress(b"a") + brotli.compress(b"MZ"), id="a second br stream"),
        pytest.param("br", brotli.compress(b"MZ") + b"\0", id="something behind a br stream"),
        pytest.param("br", b"\x11" + bytes(100), id="br with a window that only extensions have"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 65536])
def test_what_may_be_read_in_two_ways_is_an_error(coding: str, body: bytes, step: int) -> None:
    """Where one client would see something else than another, or none anything, nobody is told what it is."""
    with pytest.raises(ValueError, match=r"."):
        unpacked(body, coding, step)


@pytest.mark.parametrize("body", [members("zstd"), SKIPPABLE + zstandard.compress(b"MZ")], ids=["empty", "skippable"])
@pytest.mark.parametrize("step", [1, 7, 65536])
def test_zstd_frames_without_content_hide_nothing(body: bytes, step: int) -> None:
    """What follows on them comes out, as for whoever goes on; who does not gets nothing at all."""
    assert unpacked(body, "zstd", step) == b"MZ"


@given(st.integers(10, 24), st.binary(max_size=3000), st.integers(1, 300))
def test_any_br_window(bits: int, content: bytes, times: int) -> None:
    """However large a window a stream asks for, its beginning is the same, and from the dictionary too."""
    packer = brotli.Compressor(lgwin=bits, quality=11)
    words = b"the of and in to a is that for was with as on be at by " + content
    assert unpacked(packer.process(words * times) + packer.finish(), "br") == (words * times)[:MOST]


def test_a_zstd_window_as_large_as_it_may_be() -> None:
    """RFC 9659 lets senders use that much."""
    level = zstandard.ZstdCompressionParameters(window_log=ZSTD_WINDOW.bit_length() - 1, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=level).compressobj()
    assert unpacked(stream.compress(b"MZ") + stream.flush(), "zstd") == b"MZ"


def test_many_small_pieces_of_zstd_cost_little() -> None:
    """It is unpacked from its beginning each time, but not each time that something comes."""
    empty = b"\x28\xb5\x2f\xfd\x00\x58" + bytes(3) * 20_000  # blocks without content
    began = time.thread_time()
    assert unpacked(empty, "zstd", step=3) == b""
    assert time.thread_time() - began < 1
