"""Packed lists: unpacked, damaged, too large, or not one list at all."""

import gzip
import io
import zipfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.packing import gunzip, unpack_file, unzstd

LIST = b"".join(b"host%d.example\n" % number for number in range(5000))


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.mkdir("folder")
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


def streamed(data: bytes) -> bytes:
    """Return zstd data that does not say how long it is."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(data) + packer.flush()


PACKED = {
    "plain": LIST,
    "gzip": gzip.compress(LIST),
    "gzip of two members": gzip.compress(LIST[:100]) + gzip.compress(LIST[100:]),
    "gzip with padding": gzip.compress(LIST) + bytes(100),
    "zstd": zstandard.compress(LIST),
    "zstd of unknown length": streamed(LIST),
    "zstd of two frames": zstandard.compress(LIST[:100]) + zstandard.compress(LIST[100:]),
    "zip": zipped(("a.txt", LIST)),
    "zip, not deflated": zipped(("a.txt", LIST), method=zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("data", PACKED.values(), ids=PACKED.keys())
def test_unpacking(data: bytes) -> None:
    """A list comes out as it was put in, up to the limit and no further."""
    assert unpack_file(data, len(LIST)) == LIST
    if data != LIST:
        with pytest.raises(ValueError, match="is larger than max_bytes"):
            unpack_file(data, len(LIST) - 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(LIST)[:-9], "ends in the middle of its gzip data"),
        (b"\x1f\x8b" + LIST, "is not the gzip data"),
        (zstandard.compress(LIST)[:-9], "ends in the middle of its zstd data"),
        (b"\x28\xb5\x2f\xfd" + LIST, "is not the zstd data"),
        (zipped(("a.txt", LIST))[:-9], "is not the zip file"),
        (zipped(), "is not the zip file|zip file of 0 files"),
        (zipped(("a.txt", LIST), ("b.txt", LIST)), "is a zip file of 2 files; expected one"),
        (zipped(("a.txt", LIST), method=zipfile.ZIP_LZMA), "other than deflate"),
    ],
)
def test_what_cannot_be_unpacked(data: bytes, message: str) -> None:
    """Damage is told in plain words."""
    with pytest.raises(ValueError, match=message):
        unpack_file(data, 1 << 20)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lambda data: zipped(("a", data))])
def test_bombs(pack: object) -> None:
    """What would fill the memory is given up at the limit."""
    assert callable(pack)
    bomb = pack(bytes(200_000_000))
    assert len(bomb) < 1_000_000
    with pytest.raises(ValueError, match="is larger than max_bytes"):
        unpack_file(bomb, 1 << 20)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"]),
)
def test_any_octets_unpack_or_are_refused(data: bytes, magic: bytes) -> None:
    """No content makes unpacking do anything but return or raise ValueError."""
    try:
        assert len(unpack_file(magic + data, 1000)) <= 1000
    except ValueError:
        pass


def test_nothing_is_nothing() -> None:
    """A body without an octet is an empty list."""
    assert (gunzip(b"", 10), unzstd(b"", 10)) == (b"", b"")
