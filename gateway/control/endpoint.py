"""The supervisor's HTTP: `/healthz` for everybody, `/metrics` for who shows the token, and nothing else.

One request a connection, read by h11 with everything bounded: octets, time, connections. When there are too many, the
one that has been there longest is cut off, so that nobody keeps others out by holding connections open.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

import h11

from gateway.addresses import IPAddress

_LOG = logging.getLogger(__name__)
MAX_HEAD = 8 * 1024
"""Octets of a request's head. Prometheus sends some 300."""
MAX_CONNECTIONS = 64
PATIENCE = 5.0
"""Seconds that a request may take to come."""
ANSWERING = 20.0
"""Seconds that an answer may take to be made and to be taken."""
_BACKLOG = 128
_READ = 4096
_LINGER = 1.0  # seconds that a client has to see the answer before the connection is gone
_TEXT = b"text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What a request is answered with."""

    status: int
    body: bytes
    content_type: bytes = _TEXT
    fields: tuple[tuple[bytes, bytes], ...] = ()


type Fields = Sequence[tuple[bytes, bytes]]
type Page = Callable[[Fields], Awaitable[Answer]]
"""Answers a GET with its header fields, whose names are in lower case."""


class Endpoint:
    """Serves pages by path on some addresses."""

    def __init__(self, pages: Mapping[bytes, Page]) -> None:
        self._pages = pages
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, places: Sequence[tuple[IPAddress, int]]) -> list[tuple[str, int]]:
        """Listen. Returns where, with the ports that were chosen for 0.

        Raises:
            OSError: an address cannot be had; nothing is listened on then.
        """
        taken = []
        for address, port in places:
            try:
                server = await asyncio.start_server(
                    self._welcome, str(address), port, limit=MAX_HEAD, backlog=_BACKLOG, reuse_address=True
                )
            except OSError:
                await self.close()
                raise
            self._servers.append(server)
            taken.append(server.sockets[0].getsockname()[:2])
        return taken

    async def close(self) -> None:
        """Stop listening, and cut off whoever is there."""
        for server in self._servers:
            server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= MAX_CONNECTIONS:
            next(iter(self._open)).cancel()
        self._open[task] = writer
        try:
            await _Exchange(reader, writer, self._pages).run()
        except (OSError, asyncio.CancelledError):
            pass  # it is gone, or is to go
        except Exception:
            _LOG.exception("a request for health or metrics failed")
        finally:
            del self._open[task]
            writer.transport.abort()


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pages: Mapping[bytes, Page]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._pages = pages
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def run(self) -> None:
        """Read it, answer it, and end."""
        bodiless = False
        try:
            async with asyncio.timeout(PATIENCE):
                request = await self._request()
            if request is None:
                return
            bodiless = request.method == b"HEAD"
            async with asyncio.timeout(ANSWERING):
                answer = await self._answer(request)
        except TimeoutError:
            answer = Answer(503 if self._h11.their_state is not h11.IDLE else 408, b"too slow\n")
        except h11.RemoteProtocolError as error:
            answer = Answer(error.error_status_hint, b"not a request that is answered here\n")
        except Exception:
            _LOG.exception("health or metrics could not be told")
            answer = Answer(500, b"this could not be told; the log says why\n")
        async with asyncio.timeout(ANSWERING):
            await self._respond(answer, bodiless=bodiless)

    async def _request(self) -> h11.Request | None:
        octets = 0
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(_READ)
            octets += len(data)
            if octets > MAX_HEAD:
                raise h11.RemoteProtocolError("a head that is too long", 431)
            self._h11.receive_data(data)
        return event if isinstance(event, h11.Request) else None

    async def _answer(self, request: h11.Request) -> Answer:
        if request.http_version not in (b"1.0", b"1.1"):
            return Answer(505, b"another version of HTTP\n")
        page = self._pages.get(request.target)
        if page is None:
            return Answer(404, b"there is /healthz and /metrics\n")
        if request.method not in (b"GET", b"HEAD"):
            return Answer(405, b"only GET\n", fields=((b"allow", b"GET, HEAD"),))
        return await page([(name, value) for name, value in request.headers])

    async def _respond(self, answer: Answer, *, bodiless: bool) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        fields = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
            *answer.fields,
        ]
        phrase = HTTPStatus(answer.status).phrase
        events: list[h11.Event] = [h11.Response(status_code=answer.status, reason=phrase, headers=fields)]
        if not bodiless:
            events.append(h11.Data(data=answer.body))
        for event in events:
            self._writer.write(self._h11.send(event) or b"")
        await self._writer.drain()
        await self._part()

    async def _part(self) -> None:
        """Close so that the client sees the answer, even when it goes on to send: that would reset the connection."""
        self._writer.write_eof()
        try:
            async with asyncio.timeout(_LINGER):
                for _ in range(MAX_HEAD // _READ):
                    if not await self._reader.read(_READ):
                        break
        except TimeoutError:
            pass  # it had its time
