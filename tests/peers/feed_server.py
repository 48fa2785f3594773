"""A publisher of lists on loopback, whose answers a test sets."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Answer:
    """What is answered for one path."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    """Answered with 304 when the request names it."""
    modified: str = ""
    """As `etag`, for If-Modified-Since."""
    stall: bool = False
    """Send the body, and never the end of it."""
    cut: bool = False
    """Announce more than is sent, and hang up."""
    endless: bool = False
    """Send the body again and again."""
    drip: bool = False
    """Send the body an octet at a time, and slowly."""


class FeedServer:
    """Answers GET requests, and remembers them."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""
        self._stop = asyncio.Event()

    def publish(self, path: str, body: bytes, **more: object) -> str:
        """Answer with this from now on; return the URL."""
        self.answers[path] = Answer(body, **more)  # type: ignore[arg-type]  # fields of Answer, by name
        return self.url + path

    def publish_gzip(self, path: str, body: bytes) -> str:
        """Answer with this, packed for transport."""
        return self.publish(path, gzip.compress(body), headers={"Content-Encoding": "gzip"})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, dict(request.headers)))
        answer = self.answers.get(request.path)
        if answer is None:
            return web.Response(status=404, text="<html>not found</html>")
        headers = dict(answer.headers)
        if answer.etag:
            headers["ETag"] = answer.etag
        if answer.modified:
            headers["Last-Modified"] = answer.modified
        known = (request.headers.get("If-None-Match"), request.headers.get("If-Modified-Since"))
        if (answer.etag and known[0] == answer.etag) or (answer.modified and known[1] == answer.modified):
            return web.Response(status=304, headers=headers)
        if answer.endless or answer.drip:
            return await self._trickle(request, answer)
        if not answer.stall and not answer.cut:
            return web.Response(status=answer.status, body=answer.body, headers=headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = len(answer.body) + 10
        await response.prepare(request)
        await response.write(answer.body)
        if answer.cut:
            assert request.transport is not None
            request.transport.close()
        else:
            await self._stop.wait()
        return response

    async def _trickle(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(headers=answer.headers)
        await response.prepare(request)
        pieces = [answer.body] if answer.endless else [bytes((octet,)) for octet in answer.body]
        try:
            while not self._stop.is_set():
                for piece in pieces:
                    await response.write(piece)
                    if answer.drip:
                        await asyncio.sleep(0.05)
        except ConnectionError:
            pass  # the client has had enough
        return response

    @classmethod
    @asynccontextmanager
    async def running(cls, tls: ssl.SSLContext | None = None) -> AsyncIterator["FeedServer"]:
        """Serve on a free port of loopback."""
        server = cls()
        app = web.Application()
        app.router.add_get("/{path:.*}", server._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            server.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
            yield server
        finally:
            server._stop.set()
            await runner.cleanup()
