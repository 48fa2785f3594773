"""File types: what the first octets of a body tell, through content codings and against padding."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
import zlib
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.filetypes import (
    FORMATS,
    HELD,
    LOOK,
    MARKS,
    NAMES,
    OTHER,
    UNREADABLE,
    Kind,
    Look,
    detect,
    formats_of,
    readable_codings,
)
from tests.peers.bombs import CODINGS, bomb


def looked(body: bytes, *codings: str, partial: bool = False, step: int = LOOK) -> frozenset[str]:
    """Return what a look at a whole body finds, given to it in steps."""
    look = Look(codings, partial=partial)
    for at in range(0, len(body), step):
        if look.feed(body[at : at + step]):
            return look.formats()
    look.end()
    return look.formats()


@pytest.mark.parametrize("mark", MARKS, ids=[f"{mark.format} {mark.octets!r}" for mark in MARKS])
def test_every_mark_tells_its_format(mark: tuple[str, Kind, bytes, int]) -> None:
    """The octets of the table, at their place, are that format; cut by one, they are not."""
    name, _, octets, offset = mark
    assert name in detect(b"x" * offset + octets)
    assert detect((b"x" * offset + octets)[:-1]) == {OTHER}
    assert offset + len(octets) <= LOOK


def _tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("MZ"))
    return made.getvalue()


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a", "b")
    return made.getvalue()


def test_files_that_tools_made() -> None:
    """Real files, made by the tools that make them, are what they are."""
    assert detect(Path("/bin/sh").read_bytes()[:LOOK]) == {"elf"}
    assert detect(_zip()[:LOOK]) == {"zip"}
    assert detect(gzip.compress(b"x")) == {"gzip"}
    assert detect(bz2.compress(b"x")) == {"bzip2"}
    assert detect(lzma.compress(b"x")) == {"xz"}


def test_one_body_may_be_two_things() -> None:
    """A tar whose first name begins with the mark of a program is both."""
    assert looked(_tar()) == {"pe", "tar"}


@pytest.mark.parametrize("body", [b"", b"<!doctype html>", b'{"a": 1}', b"M", b" #!/bin/sh", b"PK"])
def test_what_no_mark_tells(body: bytes) -> None:
    """Everything else is `other`, never nothing."""
    assert looked(body) == {OTHER}


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("packed", "coding"),
    [
        (gzip.compress(b"MZ" + b"x" * 1000), "gzip"),
        (gzip.compress(b"MZ" + b"x" * 1000), " X-GZIP , identity"),
        (zlib.compress(b"MZ" + b"x" * 1000), "deflate"),
        (zlib.compress(b"MZ" + b"x" * 1000, wbits=-15), "deflate"),
        (gzip.compress(b"MZ"), "gzip"),
        (brotli.compress(b"MZ" + b"x" * 1000), "br"),
        (brotli.compress(b"MZ"), "BR"),
        (zstandard.compress(b"MZ" + b"x" * 1000), "zstd"),
        (zstandard.compress(b"MZ" + random.Random(1).randbytes(1000)), "zstd"),
        (zstandard.compress(b"MZ"), "zstd"),
    ],
    ids=[
        *("gzip", "gzip by its other name", "zlib", "bare deflate", "all of a short body"),
        *("br", "a short body in br", "zstd", "zstd that packs little", "a short body in zstd"),
    ],
)
def test_content_codings_hide_nothing(packed: bytes, coding: str, step: int) -> None:
    """gzip and both kinds of deflate are looked through, however they arrive."""
    assert looked(packed, coding, step=step) == {"pe"}


BOMBS = {coding: bomb(coding) for coding in CODINGS}
UNSEEN = {
    "a coding that is not read": looked(b"MZ", "compress"),
    "a coding that nobody knows": looked(b"MZ", "x-mine"),
    "not br": looked(b"MZ" * 400, "br"),
    "not zstd": looked(b"MZ" * 400, "zstd"),
    "the beginning of a br stream, without a single octet in it": looked(brotli.compress(b"MZ" * 400)[:3], "br"),
    "the beginning of a zstd stream": looked(zstandard.compress(b"MZ" * 400)[:9], "zstd"),
    "gzip inside br": looked(brotli.compress(gzip.compress(b"MZ")), "gzip, br"),
    "two codings": looked(gzip.compress(gzip.compress(b"MZ")), "gzip, gzip"),
    "two codings in two fields": looked(b"MZ", "gzip", "gzip"),
    "not what the field says": looked(b"MZ" * 400, "gzip"),
    "a compressed body without a single octet in it": looked(gzip.compress(b"MZ")[:11], "gzip"),
    "one octet of a compressed body": looked(b"\x1f", "gzip"),
    "an empty member in front of the real one": looked(gzip.compress(b"") + gzip.compress(b"MZ"), "gzip"),
    "the middle of a file": looked(b"MZ", partial=True),
    "a name in the gzip head that never ends": looked(
        b"\x1f\x8b\x08\x08\0\0\0\0\0\0" + b"x" * HELD + b"\0" + gzip.compress(b"MZ")[10:], "gzip"
    ),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_what_cannot_be_seen(case: str) -> None:
    """A body whose first octets cannot be seen may be anything, and says so."""
    assert UNSEEN[case] == {UNREADABLE}


def test_too_little_is_unreadable_until_it_ends() -> None:
    """A short beginning is no verdict as long as more may come."""
    look = Look()
    assert not look.feed(b"<")
    assert look.formats() == {UNREADABLE}
    look.end()
    assert look.formats() == {OTHER}


@pytest.mark.parametrize("coding", BOMBS)
def test_a_bomb_does_not_go_off(coding: str) -> None:
    """However much a body would expand to, no more is unpacked than is looked at."""
    look = Look([coding])
    assert look.feed(BOMBS[coding])
    assert len(look._seen) == LOOK
    assert look.formats() == {"pe"}


@given(
    st.binary(max_size=600),
    st.lists(st.sampled_from(("gzip", "deflate", "br", "zstd", "compress", "")), max_size=2),
    st.integers(1, 64),
)
def test_any_octets_are_something(body: bytes, codings: list[str], step: int) -> None:
    """Whatever comes, in whatever pieces, there is at least one format, and all of them are known ones."""
    found = looked(body, *codings, step=step)
    assert found
    assert found <= {*FORMATS, OTHER, UNREADABLE}


@given(st.binary(max_size=600), st.integers(1, 300))
def test_pieces_do_not_matter(body: bytes, step: int) -> None:
    """A body tells the same, however it is cut."""
    assert looked(body, step=step) == looked(body, step=len(body) or 1)


def test_names_stand_for_formats() -> None:
    """A kind is all of its formats, a format itself; there is nothing in the result that `detect` does not say."""
    assert formats_of(["executable"]) == {"pe", "elf", "mach-o", "dex", "wasm", "lnk"}
    assert formats_of(["script", "zip", "other"]) == {"script", "zip", "other"}
    assert formats_of([]) == frozenset()
    assert formats_of(NAMES) == {*FORMATS, OTHER}
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("offered", "kept"),
    [
        (["gzip, deflate, br, zstd"], "gzip, deflate, br, zstd"),
        (["compress", "br;q=0.5"], "br;q=0.5"),
        (["compress"], "identity"),
        (["*"], "identity"),
        ([], "identity"),
    ],
)
def test_offers_are_cut_to_what_can_be_read(offered: list[str], kept: str) -> None:
    """A client that looked-at answers go to offers no coding that would hide them."""
    assert readable_codings(offered) == kept
