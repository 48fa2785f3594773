"""Bodies of some megabytes at most that stand for ten gigabytes, in every content coding that is looked through."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import zstandard

GIGABYTES = 10
_MB = 1 << 20
_TIMES = GIGABYTES * 1024


def _deflated(first: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = packer.compress(first + bytes(_MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush nothing refers to what was before: the same octets may be said again and again.
    return begin + (packer.compress(bytes(_MB)) + packer.flush(zlib.Z_FULL_FLUSH)) * _TIMES


def _brotli(first: bytes) -> bytes:
    packer = brotli.Compressor(quality=5, lgwin=24)
    begin = packer.process(first + bytes(_MB)) + packer.flush()
    return bytes(begin + (packer.process(bytes(_MB)) + packer.flush()) * _TIMES)


def _zstd(first: bytes) -> bytes:
    def block(kind: int, size: int) -> bytes:
        return (size << 3 | kind << 1).to_bytes(3, "little")

    # RFC 8878 sections 3.1.1.1 and 3.1.1.2: a window of 8 MB, a raw block, and blocks of one octet 128 Ki times.
    head = b"\x28\xb5\x2f\xfd\x00" + bytes([13 << 3])
    return head + block(0, len(first)) + first + (block(1, 128 << 10) + b"\0") * (_TIMES * 8)


def bomb(coding: str, first: bytes = b"MZ") -> bytes:
    """Return a body in a coding, whose content begins so and goes on with zeros."""
    match coding:
        case "gzip":
            return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + _deflated(first)
        case "deflate":
            return _deflated(first)
        case "br":
            return _brotli(first)
        case "zstd":
            return _zstd(first)
        case "gzip, gzip":
            return gzip.compress(bomb("gzip", first))
    raise ValueError(f"not a coding: {coding!r}")


def members(coding: str, first: bytes = b"MZ") -> bytes:
    """Return a body of many empty members, with the one that holds something behind them."""
    if coding == "gzip":
        return gzip.compress(b"", mtime=0) * 2000 + gzip.compress(first)
    return zstandard.compress(b"") * 2000 + zstandard.compress(first)


def pack(coding: str, data: bytes) -> bytes:
    """Return octets in a coding."""
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": brotli.compress,
        "zstd": zstandard.compress,
    }
    return packers[coding](data)


def windowed(coding: str) -> bytes:
    """Return a program packed with the largest window that the coding has."""
    plain = b"MZ" + bytes(1000)
    if coding == "br":
        packer = brotli.Compressor(lgwin=24)
        return bytes(packer.process(plain) + packer.finish())
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(plain) + stream.flush()


CODINGS = ("gzip", "deflate", "br", "zstd")
