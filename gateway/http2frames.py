"""The headers of HTTP/2 frames (RFC 9113 section 4.1), read before h2 reads the frames.

Pure: no I/O, no clock. h2 keeps a frame whole, up to 16 MB of it, before it finds it too long, and a header block
over 64 frames (CVE-2024-27316). What is too much is for the caller to say.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends before its first frame (RFC 9113 section 3.4)."""
DATA, HEADERS, RST_STREAM, CONTINUATION = 0, 1, 3, 9
_HEAD = 9


class FrameHead(NamedTuple):
    """A frame that begins."""

    length: int
    """Octets of it after its header."""
    kind: int
    block: int
    """Octets of the last header block, this frame's included, however many frames it is cut into."""


class FrameHeads:
    """Finds where frames begin in octets as they come, wherever they are cut."""

    def __init__(self, before: bytes = b"") -> None:
        """Begin a connection with what comes `before` the first frame."""
        self._skip = len(before)
        self._head = b""
        self._block = 0

    def read(self, data: bytes) -> Iterator[FrameHead]:
        """Yield the frames that begin in the next octets. Whoever stops in the middle has no use for what follows."""
        at, size = 0, len(data)
        while at < size:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                at += step
                continue
            piece = data[at : at + _HEAD - len(self._head)]
            self._head += piece
            at += len(piece)
            if len(self._head) < _HEAD:
                break
            length, kind, self._head = int.from_bytes(self._head[:3], "big"), self._head[3], b""
            if kind in (HEADERS, CONTINUATION):
                self._block = length + (self._block if kind == CONTINUATION else 0)
            self._skip = length
            yield FrameHead(length, kind, self._block)
