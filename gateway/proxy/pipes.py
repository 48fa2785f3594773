"""A transport as the reader and writer that mitmproxy's core works with.

In place of asyncio's streams, because the octets that were read before mitmproxy came in have to be read again, and
because a `StreamWriter` closes its transport when it is forgotten.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

READ_BUFFER = 128 * 1024
"""Octets that may wait to be read before the peer is stopped."""
_FIRST, _SMALLEST, _LARGEST = 4 * 1024, 512, 64 * 1024
"""Octets given to the reader at a time: at first, and the bounds of what `took` makes of it."""
_LONG, _SHORT = 0.002, 0.0005
"""Seconds of work on one piece, above and below which the next is to be smaller or larger."""


class Pipe(asyncio.Protocol):
    """Reads and writes one transport: what of `StreamReader` and `StreamWriter` mitmproxy uses."""

    __slots__ = (
        "_buffer", "_closed", "_eof", "_full", "_paused", "_piece", "_reader", "_turn", "_writers", "lost",
        "octets_in", "transport",
    )  # fmt: skip

    def __init__(self, turn: Callable[[], Awaitable[None]] | None = None) -> None:
        """Make a pipe. `turn` is awaited before octets are given to the reader, who may be kept waiting by it."""
        self._turn = turn
        self._piece = _FIRST
        self.transport: asyncio.Transport | None = None
        self.octets_in = 0
        self.lost: Callable[[], object] | None = None
        """Called when the peer has said all that it will say, or the connection is gone."""
        self._buffer = bytearray()
        self._eof = False
        self._closed = False
        self._paused = False
        self._full = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []

    def take(self, transport: asyncio.Transport, received: bytes) -> None:
        """Go on with a transport that belonged to another protocol, which had read these octets."""
        self.transport = transport
        self._buffer += received
        transport.set_protocol(self)
        transport.resume_reading()

    # -- the protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keep octets until they are read."""
        self.octets_in += len(data)
        self._buffer += data
        if len(self._buffer) > READ_BUFFER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        """Let the reader know; writing goes on."""
        self._eof = True
        self._wake_reader()
        if self.lost is not None:
            self.lost()
        return self.transport is None or self.transport.can_write_eof()  # TLS has no half of a connection

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everybody know."""
        self._eof = self._closed = True
        self._wake_reader()
        self.resume_writing()
        if self.lost is not None:
            self.lost()

    def pause_writing(self) -> None:
        """Make `drain` wait."""
        self._full = True

    def resume_writing(self) -> None:
        """Let `drain` return."""
        self._full = False
        writers, self._writers = self._writers, []
        for writer in writers:
            if not writer.done():
                writer.set_result(None)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    @property
    def is_full(self) -> bool:
        """Whether `drain` would wait."""
        return self._full and not self._closed

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._eof

    # -- the reader --------------------------------------------------------------------------------------------

    def took(self, seconds: float) -> None:
        """Take note how long the reader worked on what it was given last, so that no piece takes long."""
        if seconds > _LONG:
            self._piece = max(_SMALLEST, self._piece // 4)
        elif seconds < _SHORT and self._piece < _LARGEST:
            self._piece *= 2

    async def read(self, most: int) -> bytes:
        """Return what has come, at most that much; nothing at the end."""
        while not self._buffer and not self._eof:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._turn is not None:
            await self._turn()
            if self._closed:  # meanwhile: whatever was made of it, there is nobody to send it to
                return b""
        data = bytes(self._buffer[: min(most, self._piece)])
        del self._buffer[: len(data)]
        if self._paused and len(self._buffer) <= READ_BUFFER // 2 and self.transport is not None:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
        return data

    # -- the writer --------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send octets."""
        if self.transport is not None and not self._closed:
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was sent."""
        if self.is_full:
            writer = asyncio.get_running_loop().create_future()
            self._writers.append(writer)
            await writer

    def write_eof(self) -> None:
        """End this direction."""
        if self.transport is None or self.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS: its end is the end of both directions
            self.transport.close()

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed or self.transport is None or self.transport.is_closing()

    def close(self) -> None:
        """Close once everything is sent."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close now."""
        if self.transport is not None:
            self.transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows."""
        return self.transport.get_extra_info(name, default) if self.transport is not None else default
