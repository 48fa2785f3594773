"""A web server that records every connection, octet and request, so that a test can prove what never came."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

type Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Origin:
    """Serves HTTP/1.1 on a loopback port, or whatever `behave` does instead."""

    behave: Behaviour | None = None
    body: bytes = b"hello from the origin\n"
    fields: tuple[str, ...] = ()
    """More header fields of every answer."""
    host: str = "127.0.0.1"
    port: int = 0
    connections: int = 0
    octets: int = 0
    """Received, as TCP carried them."""
    requests: list[bytes] = field(default_factory=list)
    """Heads of the requests, and what of their bodies came with a declared length."""
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        # The streams' callbacks run in the next turns of the loop; without them, they would complain when collected.
        while self._open:  # noqa: ASYNC110 -- other tasks empty it as they end
            await asyncio.sleep(0)

    @property
    def untouched(self) -> bool:
        """Whether nobody ever connected."""
        return not self.connections and not self.octets

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            await self.secure(writer)
            if self.behave is not None:
                await self.behave(reader, writer)
            else:
                await self.answer(reader, writer)
            writer.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)

    async def secure(self, writer: asyncio.StreamWriter) -> None:
        """Do what comes before the first request."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client ends."""
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                self.octets += len(error.partial)
                return
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = await reader.readexactly(length)
            self.octets += len(head) + length
            self.requests.append(head + body)
            lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(self.body)}", *self.fields]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + self.body)
            await writer.drain()
