"""A tunnel passed on as it is: two transports, octets counted, nothing looked at.

Back-pressure goes straight through: a peer that reads slowly stops the other from being read. Each direction ends by
itself (half-close). Idle and lifetime limits are checked by the sweeper.
"""

import asyncio
from collections.abc import Callable
from typing import cast

WRITE_BUFFER = 128 * 1024
"""Octets that may wait for a slow reader of TLS, beyond the kernel's own buffers, before the other side is not read
any more. Without TLS none may but what one read has brought, at most 256 KB: then uvloop sends at once what it is
given, and does not queue it until the end of its turn first. Its TLS with a limit of zero would never resume."""


class Half(asyncio.Protocol):
    """One side of a splice: what it receives, the other side sends."""

    __slots__ = ("ended", "meter", "octets", "other", "splice", "transport", "write")

    def __init__(self, splice: "Splice") -> None:
        self.splice = splice
        self.transport: asyncio.Transport | None = None
        self.other: asyncio.Transport | None = None
        self.octets = 0
        self.ended = False
        self.meter: Callable[[bytes], bool] | None = None
        self.write: Callable[[bytes], None] = splice.too_early
        """Of the other side's transport, once there is one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass octets on, unless they are more than may be."""
        if self.meter is not None and not self.meter(data):
            return
        self.octets += len(data)
        self.write(data)

    def eof_received(self) -> bool:
        """End one direction, and keep the other."""
        self.ended = True
        self.splice.half_closed(self)
        return self.transport is None or self.transport.can_write_eof()  # TLS has no half of a connection

    def pause_writing(self) -> None:
        """Stop reading from the other side: this one is behind."""
        if self.other is not None:
            self.other.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other side again."""
        if self.other is not None and not self.other.is_closing():
            self.other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the tunnel."""
        self.transport = None
        self.splice.lost(str(exc) if exc else "")


class Splice:
    """A tunnel between a client and an origin. `finished` is called once, when both sides are gone."""

    __slots__ = (
        "_gone", "_idle", "_lifetime", "_moved", "_quiet_since", "client", "error", "finished", "origin", "started",
    )  # fmt: skip

    def __init__(
        self, *, now: float, idle: float, lifetime: float, finished: Callable[["Splice"], None] | None = None
    ) -> None:
        self.client = Half(self)
        self.origin = Half(self)
        self.started = self._quiet_since = now
        self.error = ""
        self._idle = idle
        self._lifetime = lifetime
        self._moved = 0
        self._gone = 0
        self.finished = finished or _nothing

    def join(self, client: asyncio.Transport, first: bytes | bytearray, *, ended: bool = False) -> None:
        """Begin: send the origin what was read of the client, then pass on what comes."""
        origin = self.origin.transport
        if origin is None:  # lost again before it was used
            client.close()
            return
        _limit(client)
        _limit(origin)
        self.client.transport = client
        self.client.other = origin
        self.client.write = origin.write
        self.origin.other = client
        self.origin.write = client.write
        self.client.octets = len(first)
        client.set_protocol(self.client)
        origin.write(bytes(first))
        if ended:
            self.client.eof_received()
        if self.origin.ended:  # while nobody listened
            self.half_closed(self.origin)

    def too_early(self, _: bytes) -> None:
        """End it: an origin spoke before the client's hello was on its way. No TLS server does."""
        self.abort("the origin spoke first")

    def meter(self, meter: Callable[[bytes], bool] | None) -> None:
        """Ask before octets of the client are passed on. Who says no ends the tunnel."""
        self.client.meter = meter

    @property
    def octets_out(self) -> int:
        """From the client."""
        return self.client.octets

    @property
    def octets_in(self) -> int:
        """To the client."""
        return self.origin.octets

    def half_closed(self, half: Half) -> None:
        """Pass the end of one direction on; when both have ended, the tunnel has."""
        if self.client.ended and self.origin.ended:
            self.close()  # which sends what there is to send, and then the end
            return
        other = half.other
        if other is not None and not other.is_closing():
            try:
                if other.can_write_eof():
                    other.write_eof()
                else:
                    other.close()
            except OSError:  # that side is gone, and its transport does not know yet
                self.abort()

    def lost(self, error: str) -> None:
        """Close what is left when one side is gone; what waits to be sent still is."""
        self._gone += 1
        if error and not self.error:
            self.error = error
        if self._gone == 1:
            self.close()
        if self._gone == 2 or self.client.other is None:
            self._end()

    def check(self, now: float) -> None:
        """Enforce the limits."""
        moved = self.client.octets + self.origin.octets
        if moved != self._moved:
            self._moved = moved
            self._quiet_since = now
        elif now - self._quiet_since >= self._idle:
            self.abort("idle for too long")
            return
        if now - self.started >= self._lifetime:
            self.abort("open for too long")

    def close(self) -> None:
        """Close both sides once what they have to send is sent."""
        for half in (self.client, self.origin):
            if half.transport is not None:
                half.transport.close()

    def abort(self, error: str = "") -> None:
        """Cut both sides off."""
        self.error = self.error or error
        for half in (self.client, self.origin):
            if half.transport is not None:
                half.transport.abort()

    def _end(self) -> None:
        """Say so once. Nothing of a tunnel that has ended refers to itself: it goes at once, with all that it held,
        and does not wait for the garbage collector, which stops everything the longer, the more there is for it.
        """
        finished, self.finished = self.finished, _nothing
        try:
            finished(self)
        finally:
            for half in (self.client, self.origin):
                half.other = half.meter = None
                half.write = _unheard
                half.splice = ENDED


def _limit(transport: asyncio.Transport) -> None:
    transport.set_write_buffer_limits(high=0 if transport.can_write_eof() else WRITE_BUFFER)


def _nothing(_: Splice) -> None:
    pass


def _unheard(_: bytes) -> None:
    pass


ENDED = Splice(now=0.0, idle=0.0, lifetime=0.0)
"""What a half belongs to when its tunnel has ended: no tunnel, and nobody is told of anything."""
