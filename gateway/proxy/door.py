"""Listeners whose clients say something before they speak HTTP: a PROXY header, a TLS handshake.

Connections are counted when it is known whose they are, and before a handshake: clients that never finish one are
bounded too. The PROXY header is read off the socket itself, octet by octet where it has to be, because the handshake
behind it is OpenSSL's to read.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache

from gateway.addresses import IPAddress, IPNetwork, NetworkMap
from gateway.decision import Reason
from gateway.proxy.arrivals import Arrivals, is_gone
from gateway.proxy.case import Case
from gateway.proxy.desk import Desk, client_at
from gateway.proxy.entrance import Entrance
from gateway.proxy.listener import ClientConnection
from gateway.proxy.proxyprotocol import HeaderReader
from gateway.proxy.tls import handshake_flaw
from gateway.request import Client, Flaw, Tunnel

_LOG = logging.getLogger(__name__)
_FAREWELL = 2.0  # seconds for the other side to answer the end of a TLS session
_MOST_WAITING = 1024
"""Connections of load balancers whose header has not come yet."""


type Step = Callable[[socket.socket, Client], Awaitable[bool]]
"""Something done with a new connection. Returns whether somebody has it now; if not, it is closed."""


class Door:
    """Serves one listening socket. `context` is asked anew for each connection; None: no TLS."""

    def __init__(self, desk: Desk, entrance: Entrance, context: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._desk = desk
        self._entrance = entrance
        self._context = context
        self._arrivals: Arrivals | None = None
        self._sock: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._closed = False

    def start(self, sock: socket.socket) -> None:
        """Begin to accept connections on a listening socket."""
        self._sock = sock
        self._arrivals = Arrivals(sock, self._begin)
        self._arrivals.start()

    async def close(self) -> None:
        """Accept nobody any more; who is still at the door is sent away."""
        self._closed = True
        if self._arrivals is not None:
            self._arrivals.stop()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._sock is not None:
            self._sock.close()

    def _begin(self, accepted: socket.socket, address: str) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = client_at(address)
        try:
            if _balancers(self._desk.settings().proxy_protocol_from).lookup(peer.address):
                self._spawn(self._hear, accepted, peer)
            else:
                self._queue(accepted, peer)
        except Exception as error:
            accepted.close()
            self._broken(peer, error)

    def _queue(self, accepted: socket.socket, client: Client) -> None:
        """Let a client in when it is its turn."""
        self._entrance.come(client, lambda: self._spawn(self._enter, accepted, client), lambda _: accepted.close())

    def _spawn(self, step: Step, accepted: socket.socket, client: Client) -> None:
        if self._closed:
            accepted.close()
            return
        # Eager: a task that is cancelled before its first step would leave the socket to nobody.
        task = asyncio.Task(self._go(step, accepted, client), loop=self._desk.loop, eager_start=True)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go(self, step: Step, accepted: socket.socket, client: Client) -> None:
        """Take a step with a connection, and close it if it goes no further."""
        passed = False
        try:
            passed = await step(accepted, client)
        except OSError:  # gone before it said anything
            pass
        except Exception as error:
            self._broken(client, error)
        finally:
            if not passed:
                accepted.close()

    async def _hear(self, accepted: socket.socket, peer: Client) -> bool:
        """Learn from a load balancer whose connection it is; only then it is known whose turn it is."""
        client = await self._announced(accepted, peer)
        if client is None:
            return False
        self._queue(accepted, client)
        return True

    def _broken(self, client: Client, error: Exception) -> None:
        _LOG.error("a connection failed at the door", exc_info=error)
        self._refuse(client, Flaw(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"))

    async def _announced(self, accepted: socket.socket, peer: Client) -> Client | None:
        """Return whose connection it is, by the header of a load balancer; None when it was refused."""
        section = self._desk.settings()
        if self._waiting >= _MOST_WAITING:
            self._refuse(
                peer, Flaw(Reason.RATE_LIMIT, f"{self._waiting} connections have not said their PROXY header")
            )
            return None
        self._waiting += 1
        try:
            async with asyncio.timeout(section.timeouts.head):
                source = await self._read_header(accepted)
        except TimeoutError:
            self._refuse(peer, Flaw(Reason.MALFORMED, f"no PROXY header within {section.timeouts.head:g} s"))
            return None
        except ValueError as error:
            self._refuse(peer, Flaw(Reason.MALFORMED, str(error)))
            return None
        finally:
            self._waiting -= 1
        return peer if source is None else client_at(str(source))

    async def _read_header(self, accepted: socket.socket) -> IPAddress | None:
        reader = HeaderReader()
        while reader.wants:
            data = await self._desk.loop.sock_recv(accepted, reader.wants)
            if not data:
                raise ConnectionResetError("the peer is gone")
            reader.feed(data)
        return reader.source

    async def _enter(self, accepted: socket.socket, client: Client) -> bool:
        """Do the handshake, if there is one, and let the client in."""
        if is_gone(accepted):
            return False
        desk, timeouts = self._desk, self._desk.settings().timeouts
        open_now, began = desk.enter(client), desk.loop.time()
        counted = True
        try:
            if detail := desk.too_many(client, open_now):
                self._refuse(client, Flaw(Reason.RATE_LIMIT, detail))
                return False
            connection = ClientConnection(desk, client)
            if self._context is None:
                await desk.loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await desk.loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=self._context(),
                    ssl_handshake_timeout=timeouts.head,
                    ssl_shutdown_timeout=_FAREWELL,
                )
            counted = False  # the connection counts itself out
        except ssl.SSLError as error:
            self._refuse(client, handshake_flaw(error))
            return False
        except (ConnectionAbortedError, TimeoutError):  # which it is depends on the event loop
            if desk.loop.time() - began < timeouts.head:
                raise
            self._refuse(client, Flaw(Reason.NOT_TLS, f"no complete TLS handshake within {timeouts.head:g} s"))
            return False
        finally:
            if counted:
                desk.leave(client)
        return True

    def _refuse(self, client: Client, flaw: Flaw) -> None:
        """Record why a connection goes no further: there is no protocol yet to say it in."""
        Case(self._desk.judge).refuse(Tunnel(client=client, host="", port=0), flaw.reason, flaw.detail)


@lru_cache(maxsize=8)
def _balancers(networks: tuple[IPNetwork, ...]) -> NetworkMap:
    return NetworkMap((network, 1) for network in networks)
