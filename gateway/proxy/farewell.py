"""The last words to a client: sent, waited for, and only then the connection is closed.

Closing a socket that still has octets to read resets the connection, and the client never sees the answer; a client
that is denied in the middle of its upload would learn nothing. So the end is sent first, and what still comes in is
thrown away, up to a bound in octets and time.
"""

import asyncio
from collections.abc import Callable

from gateway.proxy.sweeper import Sweeper

_MOST = 256 * 1024
_SECONDS = 3.0


class Farewell(asyncio.Protocol):
    """Takes a transport over, says one thing and waits for the client to go. Calls `done` when it is gone."""

    __slots__ = ("_deadline", "_done", "_octets", "_sweeper", "_transport")

    def __init__(
        self, transport: asyncio.Transport, words: bytes, sweeper: Sweeper, done: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._octets = 0
        self._sweeper = sweeper
        self._done = done
        if transport.is_closing():
            done()
            return
        self._deadline = asyncio.get_running_loop().time() + _SECONDS
        sweeper.alive.add(self)
        transport.set_protocol(self)
        transport.write(words)
        try:
            if transport.can_write_eof():
                transport.write_eof()
            else:  # TLS: what was written is sent before the end
                transport.close()
                return
            transport.resume_reading()
        except OSError:  # the client is gone, and the transport does not know yet
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Throw away what still comes."""
        self._octets += len(data)
        if self._octets > _MOST:
            self._transport.abort()

    def eof_received(self) -> bool:
        """Close: both have said what they had to."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._sweeper.alive.discard(self)
        self._done()

    def check(self, now: float) -> None:
        """Wait no longer than the deadline."""
        if now >= self._deadline:
            self._transport.abort()

    def abort(self) -> None:
        """Wait no longer."""
        self._transport.abort()
