"""DNS over HTTP/1.1 (RFC 9112): one connection of one client.

h11 reads heads, chunks and lengths strictly and without I/O of its own, as h2 does for HTTP/2: one request at a time,
its head bounded, and each request whole within the idle time.
"""

import asyncio

import h11

from gateway.dns.doh import (
    MAX_BODY,
    MAX_HEAD,
    Fields,
    HttpError,
    check_body,
    fields_of,
    is_no_query,
    message_of,
    read_head,
)
from gateway.dns.outbound import padded
from gateway.dns.resolver import Resolver
from gateway.dns.streams import close_stream
from gateway.dns.tally import Transport

MAX_LINES = 100
"""Lines of a request's head that may come in more than one piece: each field costs some microseconds."""
MAX_PIECES = 256
"""Chunks, or deliveries, that a body may come in: an honest one comes in one or two."""
_READ = 4096
"""Octets looked at in one turn: 3 ms for the costliest."""


class Http1Connection:
    """Serves one client over HTTP/1.1."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
        resolver: Resolver,
        path: str,
        idle: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._resolver = resolver
        self._path = path.encode()
        self._idle = idle
        self._ending = False
        self._reading: asyncio.Timeout | None = None
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def run(self) -> None:
        """Answer requests until the client or we stop; then close."""
        try:
            while not self._ending and await self._exchange():  # noqa: ASYNC110 -- waits in there, not for an event
                await asyncio.sleep(0)  # where the next request is here already, nothing else gives way
        except OSError:
            self._writer.transport.abort()
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise
        finally:
            await close_stream(self._writer, self._idle)

    def stop(self) -> None:
        """Take no more requests."""
        self._ending = True
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def _exchange(self) -> bool:
        """Serve one request; return whether another may follow."""
        try:
            data = await self._request()
            if data is None:
                return False
            self._resolver.tally.queries[Transport.HTTPS] += 1
            reply = await self._resolver.answer(self._peer, data, stream=True)
            if reply is None and not is_no_query(data):
                self._writer.transport.abort()  # the policy says to be silent: as silent as HTTP can be
                return False
            if reply is None:
                raise HttpError(400, "not a DNS query")
            reply = padded(reply)
            await self._respond(200, fields_of(reply), reply)
        except HttpError as error:
            await self._respond(error.status, error.fields(), b"")
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            await self._respond(status, HttpError(status, str(error)).fields(), b"")
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def _request(self) -> bytes | None:
        """Return the DNS message of the next request; None when there will be none.

        Raises:
            HttpError: it is a request for something else.
            h11.RemoteProtocolError: it is not HTTP.
        """
        try:
            async with asyncio.timeout(self._idle) as self._reading:
                return await self._message()
        except TimeoutError:
            return None
        finally:
            self._reading = None

    async def _message(self) -> bytes | None:
        request = await self._event()
        if not isinstance(request, h11.Request):
            return None
        if request.http_version != b"1.1":
            raise HttpError(505, "another version of HTTP")
        head = read_head(request.method, request.target, [(name, value) for name, value in request.headers])
        message = message_of(head, self._path)
        body = bytearray()
        pieces = 0
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            pieces += 1
            if pieces > MAX_PIECES:
                raise HttpError(400, "a body in more pieces than anybody needs")
            if len(body) > MAX_BODY:
                raise HttpError(413, "a body longer than any DNS message")
        if not isinstance(event, h11.EndOfMessage):
            return None
        return check_body(bytes(body)) if message is None else message

    async def _event(self) -> object:
        lines = 0
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            if self._h11.their_state is h11.IDLE and lines > MAX_LINES:
                raise HttpError(431, "more header fields than anybody needs")
            data = await self._reader.read(_READ)
            lines += data.count(b"\n")
            self._h11.receive_data(data)
        return event

    async def _respond(self, status: int, fields: Fields, body: bytes) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        if self._ending or status != 200:
            fields = [*fields, (b"connection", b"close")]
        self._write(h11.Response(status_code=status, headers=fields))
        if body:
            self._write(h11.Data(data=body))
        self._write(h11.EndOfMessage())
        try:
            async with asyncio.timeout(self._idle):
                await self._writer.drain()
        except TimeoutError:
            self._ending = True
            self._writer.transport.abort()

    def _write(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data and not self._writer.is_closing():
            self._writer.write(data)
