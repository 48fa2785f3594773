"""Accepting connections, with TLS or without; what is spoken on them is somebody else's.

Connections are counted when they are accepted, before their TLS handshake, so that clients who never finish one are
bounded too. The TLS context is asked for anew for each connection: a new certificate needs no new listener.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from gateway.dns.admission import Admission

_LOG = logging.getLogger(__name__)

HANDSHAKE = 5.0
"""Seconds for a TLS handshake."""
_FAREWELL = 2.0  # seconds for the other side to answer the end of a TLS session
_PAUSE = 0.1  # seconds until the next try, when the process has run out of descriptors
_BUFFER = 4096
_GONE = (errno.ECONNABORTED, errno.ECONNRESET, errno.EPROTO)  # accept(2): the client, not this process


class Connection(Protocol):
    """One connection, once it is established."""

    async def run(self) -> None:
        """Serve the client until it or we stop; then close."""

    def stop(self) -> None:
        """Take no more queries; `run` ends when those that came before are answered."""


type Connect = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Connection]
"""Makes a connection of a stream and the client's address."""


class StreamListener:
    """Serves one listening socket."""

    def __init__(
        self,
        connect: Connect,
        admission: Admission | None = None,
        *,
        context: Callable[[], ssl.SSLContext] | None = None,
        handshake: float = HANDSHAKE,
    ) -> None:
        self._connect = connect
        self._admission = admission or Admission()
        self._context = context
        self._handshake = handshake
        self._closing = False
        self._accepting: asyncio.Task[None] | None = None
        self._sock: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: set[Connection] = set()

    async def start(self, sock: socket.socket) -> None:
        """Begin to accept connections on a listening socket."""
        self._sock = sock
        self._accepting = asyncio.get_running_loop().create_task(self._accept(sock))

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        short = False
        while True:
            try:
                accepted, name = await loop.sock_accept(sock)
            except OSError as error:
                if error.errno not in _GONE:
                    if not short:  # said once, and not at every try
                        short = True
                        _LOG.warning("no connection can be accepted: %s", error.strerror or error)
                    await asyncio.sleep(_PAUSE)
                continue
            if short:
                short = False
                _LOG.warning("connections are accepted again")
            if self._admission.enter(name[0]):
                # Kept in a set, because the loop holds tasks only weakly.
                task = loop.create_task(self._serve(accepted, name[0]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                accepted.close()
            await asyncio.sleep(0)  # where one waits already, accepting does not give way to anybody by itself

    async def _serve(self, accepted: socket.socket, peer: str) -> None:
        try:
            stream = await self._open(accepted)
            if stream is None:
                return
            connection = self._connect(*stream, peer)
            self._live.add(connection)
            try:
                if self._closing:
                    connection.stop()
                await connection.run()
            finally:
                self._live.discard(connection)
                if (lost := stream[0].exception()) is not None:
                    lost.with_traceback(None)  # which refers to itself: all would wait for a garbage collector
        except Exception:
            _LOG.exception("a connection failed inside the resolver")
        finally:
            self._admission.leave(peer)

    async def _open(self, accepted: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return the stream of an accepted socket, after its handshake; None when that fails."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_BUFFER, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            if self._context is None:
                transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted)
            else:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    accepted,
                    ssl=self._context(),
                    ssl_handshake_timeout=self._handshake,
                    ssl_shutdown_timeout=_FAREWELL,
                )
        except OSError:  # SSLError and TimeoutError are among them: scanners, clients that distrust the certificate
            accepted.close()
            return None
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def close(self, grace: float) -> None:
        """Accept nobody any more, answer what is on its way if that is soon, and close."""
        self._closing = True
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        if self._sock is not None:
            self._sock.close()
        for connection in list(self._live):
            connection.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def close_stream(writer: asyncio.StreamWriter, seconds: float) -> None:
    """Close once the client has taken what was written, but do not wait for longer than that."""
    writer.close()
    try:
        async with asyncio.timeout(seconds):
            await writer.wait_closed()
    except (TimeoutError, OSError):
        writer.transport.abort()
