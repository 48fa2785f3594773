"""Unpacking what publishers pack, never further than a limit: a few octets can become gigabytes.

Pure: no I/O, no clock. Files are known by their first octets, because names and media types are often wrong. What is
inside is not unpacked a second time.
"""

import io
import zipfile
import zlib

import zstandard

from gateway.units import render_size

_GZIP, _ZIP, _ZSTD = b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"
_WINDOW = 1 << 27
"""Memory that a zstd stream may ask for: what `zstd --ultra` needs at most without `--long`."""
_ENCRYPTED = 1
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods of zip members that Python unpacks a piece at a time; of others, one read may fill the memory."""


def unpack_file(data: bytes, limit: int) -> bytes:
    """Return the list in a gzip, zstd or zip file; anything else comes back as it is.

    Raises:
        ValueError: the file is damaged, a zip file holds anything but one list, or it is larger than `limit` octets.
    """
    if data.startswith(_GZIP):
        return gunzip(data, limit)
    if data.startswith(_ZSTD):
        return unzstd(data, limit)
    if data.startswith(_ZIP):
        return _unzip(data, limit)
    return data


def gunzip(data: bytes, limit: int) -> bytes:
    """Return the content of gzip data, of one member or several. Raises ValueError as `unpack_file` does."""
    unpacked = bytearray()
    rest: bytes = data
    while rest:
        member = zlib.decompressobj(wbits=31)
        while rest and not member.eof:
            try:
                # One octet more than may be kept: enough to see that it is too much.
                unpacked += member.decompress(rest, limit - len(unpacked) + 1)
            except zlib.error:
                raise ValueError("is not the gzip data that it claims to be") from None
            if len(unpacked) > limit:
                raise too_large(limit)
            rest = member.unconsumed_tail
        if not member.eof:
            raise ValueError("ends in the middle of its gzip data")
        rest = member.unused_data
        if not rest.strip(b"\0"):  # padding, as on tapes
            break
    return bytes(unpacked)


def unzstd(data: bytes, limit: int) -> bytes:
    """Return the content of zstd data, of one frame or several. Raises ValueError as `unpack_file` does."""
    unpacked = bytearray()
    rest = data
    while rest:
        frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj(write_size=1 << 16)
        for at in range(0, len(rest), 256):
            # A few octets at a time: 256 of them never give more than a few blocks of 128 KiB.
            try:
                unpacked += frame.decompress(rest[at : at + 256])
            except zstandard.ZstdError:
                raise ValueError("is not the zstd data that it claims to be") from None
            if len(unpacked) > limit:
                raise too_large(limit)
            if frame.eof:
                rest = frame.unused_data + rest[at + 256 :]
                break
        else:
            raise ValueError("ends in the middle of its zstd data")
    return bytes(unpacked)


def _unzip(data: bytes, limit: int) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) != 1:
                raise ValueError(f"is a zip file of {len(members)} files; expected one")
            (member,) = members
            if member.flag_bits & _ENCRYPTED:
                raise ValueError("is a zip file with a password")
            if member.compress_type not in _BOUNDED:
                raise ValueError("is a zip file that is packed in a way other than deflate")
            with archive.open(member) as file:
                unpacked = file.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        raise ValueError("is not the zip file that it claims to be") from None
    if len(unpacked) > limit:
        raise too_large(limit)
    return unpacked


def too_large(limit: int) -> ValueError:
    """Return the flaw of a list that is over the limit."""
    return ValueError(f"is larger than max_bytes ({render_size(limit)})")
