"""The beginning of what a content coding (RFC 9110 section 8.4.1) has packed, and no more of it, at bounded cost.

Pure: no I/O, no clock. A kilobyte may stand for gigabytes: what comes out is bounded by who asks, what it takes by
the windows that are accepted. Where clients would not agree on what the content is, it is an error.
"""

import zlib
from collections.abc import Callable
from typing import Protocol

import brotli
import zstandard

ZSTD_WINDOW = 8 << 20
"""Octets of a window, as RFC 9659 bounds it for this coding. Of it, what one block needs is used: 128 KB."""
_BROTLI_WINDOW = 0b0011
"""How a stream of br says that its window has 256 KB (RFC 7932 section 9.1, WBITS)."""
_EAGER = 16
"""How many pieces of a zstd stream are tried one by one; afterwards, each time twice as many octets."""


class Unpacker(Protocol):
    """Unpacks the beginning of one body."""

    ended: bool
    """Whether all of the content came out."""

    def unpack(self, data: bytes, most: int, *, last: bool) -> bytes:
        """Take what has come; return what follows on what was returned before, at least `most` octets if there are.

        Args:
            last: whether nothing follows, or nothing that will be waited for.

        Raises:
            ValueError: it is not in this coding, or clients would not agree on what is in it.
        """


class Deflated:
    """gzip, and what HTTP calls deflate."""

    def __init__(self, *, gzip: bool) -> None:
        self.ended = False
        self._gzip = gzip
        self._raw = b""
        self._decoder: zlib._Decompress | None = None

    def unpack(self, data: bytes, most: int, *, last: bool) -> bytes:
        """Unpack, of the first member only."""
        if self._decoder is None:
            self._raw += data
            if len(self._raw) < 2:
                return b""
            data, self._raw = self._raw, b""
            window = zlib.MAX_WBITS | 16
            if not self._gzip:
                # zlib by the standard, bare in the wild, and clients read both: RFC 1950 section 2.2, FCHECK.
                wrapped = data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0
                window = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
            self._decoder = zlib.decompressobj(window)
        try:
            found = self._decoder.decompress(data, most)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        self.ended = self._decoder.eof
        if self._decoder.unused_data and len(found) < most:
            raise ValueError("a second member, which some clients read on with and some do not")
        return found


class Brotli:
    """br (RFC 7932), whatever window it asks for.

    A bomb fills the whole window before anything comes out: 50 ms for the 16 MB that it may ask for, 0.7 ms for 256
    KB. So it is given no more. What comes out is the same up to there: a distance beyond the window, which then means
    a word of the dictionary, is beyond the beginning too, and means that anyway (section 4).
    """

    def __init__(self) -> None:
        self.ended = False
        self._decoder: brotli.Decompressor | None = None

    def unpack(self, data: bytes, most: int, *, last: bool) -> bytes:
        """Unpack. What follows on the end of the stream is an error."""
        if not data:
            return b""
        if self._decoder is None:
            if data[0] & 1 and data[0] >> 1 & 7:  # the four bits that say 18 to 24
                data = bytes([data[0] & 0xF0 | _BROTLI_WINDOW]) + data[1:]
            self._decoder = brotli.Decompressor()
        try:
            found: bytes = self._decoder.process(data, output_buffer_limit=most)
        except brotli.error as error:
            raise ValueError(str(error)) from None
        self.ended = self._decoder.is_finished()
        return found


class Zstandard:
    """zstd (RFC 8878). Its library bounds what comes out only where the whole input is at hand."""

    def __init__(self) -> None:
        self.ended = False
        self._raw = b""
        self._given = 0
        self._tried = 0
        self._due = 0

    def unpack(self, data: bytes, most: int, *, last: bool) -> bytes:
        """Unpack, from the beginning each time. A second frame in sight is an error."""
        self._raw += data
        self._tried += 1
        if not last and self._tried > _EAGER and len(self._raw) < self._due:
            return b""
        self._due = 2 * len(self._raw)
        most += self._given
        found = self._first(most, across=False)
        if len(found) < most and self._first(most, across=True) != found:
            raise ValueError("a second frame, which some clients read on with and some do not")
        new, self._given = found[self._given :], len(found)
        return new

    def _first(self, most: int, *, across: bool) -> bytes:
        decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        try:
            return decoder.stream_reader(self._raw, read_across_frames=across).read(most)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None


UNPACKERS: dict[str, Callable[[], Unpacker]] = {
    "gzip": lambda: Deflated(gzip=True),
    "x-gzip": lambda: Deflated(gzip=True),
    "deflate": lambda: Deflated(gzip=False),
    "br": Brotli,
    "zstd": Zstandard,
}
"""How to unpack what is named so in Content-Encoding."""
