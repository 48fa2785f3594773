"""The plain listener: the event loop accepts, until more come than it gets done.

uvloop accepts one connection in each of its turns, in the order of their coming, and for half of what it costs here.
So it is left to it as long as nobody waits for long; beyond that we accept, and `gateway.proxy.entrance` says who is
next.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from gateway.proxy.arrivals import Arrivals, is_gone
from gateway.proxy.desk import client_at
from gateway.proxy.entrance import Entrance

_LOG = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that may wait in the kernel. One more, and clients try again a second later."""
DEEP = 8
"""Connections in the kernel's queue with which it gets long: each waits for all before it."""
_LOOKS = 8  # connections accepted by the event loop between looks at that queue
_CALM = 2.0  # seconds without anybody waiting, after which the event loop accepts again
_UNACKED = struct.Struct("24xI")  # tcp_info of a listening socket: tcpi_unacked is how many wait to be accepted
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nX-Gateway-Reason: rate-limit\r\nRetry-After: 1\r\n"
    b'Proxy-Status: egress-gateway; error=connection_limit_reached; details="rate-limit"\r\n'
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
"""What a client is told for whom there was no room to wait."""
_MOST_UNREAD = 65536


class Front:
    """Serves one listening socket. `welcome` makes the protocol of a connection, and never raises: uvloop would stop
    listening.
    """

    def __init__(self, entrance: Entrance, welcome: Callable[[], asyncio.Protocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._entrance = entrance
        self._make = welcome
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted = 0
        self._waited = False
        """Whether anybody did, since this was last asked."""
        self._closed = False
        self._calm: asyncio.TimerHandle | None = None

    async def start(self, sock: socket.socket) -> None:
        """Begin to accept connections on a bound socket."""
        sock.listen(BACKLOG)
        self._sock = sock
        self._arrivals = Arrivals(sock, self._came)
        self._server = await self._served_by_loop()

    def close(self) -> None:
        """Accept nobody any more."""
        self._closed = True
        if self._calm is not None:
            self._calm.cancel()
        if self._server is not None:
            self._server.close()
        self._arrivals.stop()
        self._sock.close()

    async def _served_by_loop(self) -> asyncio.Server:
        # With a descriptor of its own: it closes that when it is to accept no more.
        return await self._loop.create_server(self._welcome, sock=self._sock.dup(), backlog=BACKLOG)

    def _welcome(self) -> asyncio.Protocol:
        """Return the protocol of a connection that the event loop has accepted. Never raises, as `welcome`."""
        self._accepted += 1
        if not self._accepted % _LOOKS:
            try:
                self._look()
            except (Exception, asyncio.CancelledError):
                _LOG.exception("it is not known how many connections wait")
        return self._make()

    def _look(self) -> None:
        """Take over when many wait."""
        if waiting_in_kernel(self._sock) > DEEP:
            # Not now: the connection that is being accepted is still the server's.
            self._loop.call_soon(self._take_over)

    def _take_over(self) -> None:
        if self._server is None or self._closed:
            return
        self._server.close()
        self._server = None
        self._arrivals.start()
        self._calm = self._loop.call_later(_CALM, self._rest)

    def _rest(self) -> None:
        """Leave it to the event loop again once nobody has waited for a while."""
        waited, self._waited = self._waited, False
        if waited or self._entrance.waiting:
            self._calm = self._loop.call_later(_CALM, self._rest)
            return
        self._calm = None
        self._arrivals.stop()
        self._spawn(self._give_back())

    async def _give_back(self) -> None:
        try:
            server = await self._served_by_loop()
        except OSError as error:
            _LOG.warning("new connections are still accepted one by one: %s", error.strerror or error)
            self._arrivals.start()
            self._calm = self._loop.call_later(_CALM, self._rest)
            return
        if self._closed:
            server.close()
        else:
            self._server = server

    def _came(self, accepted: socket.socket, address: str) -> None:
        self._waited = self._waited or bool(self._entrance.waiting)
        self._entrance.come(client_at(address), partial(self._enter, accepted), partial(turn_away, accepted))

    def _enter(self, accepted: socket.socket) -> None:
        if is_gone(accepted):
            accepted.close()
        else:
            self._spawn(self._serve(accepted))

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, accepted)
        except (Exception, asyncio.CancelledError) as error:
            accepted.close()
            if not isinstance(error, OSError):  # else its client is gone
                _LOG.exception("a connection cannot be served")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.Task(work, loop=self._loop, eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def waiting_in_kernel(listening: socket.socket) -> int:
    """Return how many connections wait to be accepted.

    Raises:
        OSError: the kernel does not say.
    """
    (waiting,) = _UNACKED.unpack(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size))
    return int(waiting)


def turn_away(accepted: socket.socket, told: bool) -> None:
    """Close; if the client is to be told, say before that it is too busy."""
    if not told:
        accepted.close()
        return
    with accepted, contextlib.suppress(OSError):  # gone, or it does not listen
        accepted.setblocking(False)
        # What is read is not left over: closing a socket that has something unread takes back what was said.
        with contextlib.suppress(BlockingIOError):
            accepted.recv(_MOST_UNREAD)
        accepted.send(BUSY)
