"""The proxy of one process: binds, serves until told to stop, drains.

Workers share their ports (SO_REUSEPORT): each has listening sockets of its own, and the kernel spreads the clients.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.addresses import IPAddress, parse_address
from gateway.proxy.dial import Dialer
from gateway.proxy.listener import Desk
from gateway.proxy.roles import Judge, Resolver, Settings
from gateway.proxy.sweeper import Sweeper
from gateway.proxy.uploads import Uploads

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)

BACKLOG = 1024
GRACE_SECONDS = 20.0
"""How long tunnels may go on after the proxy was told to stop."""
_TICK = 0.5


class ListenError(OSError):
    """An address cannot be listened on. The text says what to do."""


async def serve(
    runtime: "Runtime",
    resolver: Resolver,
    *,
    stop: asyncio.Event,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `stop` is set, then let what is open come to its end.

    `ready` is called once every listener of the configuration accepts connections.

    Raises:
        ListenError: an address cannot be listened on.
    """
    state_dir = runtime.state.config.state_dir
    proxy = Proxy(
        runtime,
        lambda: runtime.state.config.file.proxy,
        resolver,
        folder=state_dir / "ca",
        trust=runtime.state.config.ca_bundle,
        uploads=state_dir / "uploads-1.bin",
    )
    await proxy.start()
    try:
        ready()
        await stop.wait()
    finally:
        await proxy.stop()


class Proxy:
    """Listeners and everything behind them. For tests and `serve`."""

    def __init__(
        self,
        judge: Judge,
        settings: Settings,
        resolver: Resolver,
        *,
        folder: Path,
        trust: Path | None = None,
        tick: float = _TICK,
        grace: float = GRACE_SECONDS,
        uploads: Path | None = None,
    ) -> None:
        self._judge = judge
        self._settings = settings
        self._resolver = resolver
        self._folder = folder
        self._trust = trust
        self._tick = tick
        self._grace = grace
        self._uploads_path = uploads
        self.addresses: list[tuple[IPAddress, int]] = []
        """Where it listens, once started."""

    async def start(self) -> None:
        """Bind and begin to accept.

        Raises:
            ListenError: an address cannot be listened on; nothing is then.
        """
        # Imported here: mitmproxy takes a second to import, and nobody else in the gateway needs it.
        from gateway.proxy.inspect import Inspector

        loop = asyncio.get_running_loop()
        sockets = bind(self._settings().listen)
        self.addresses = [_address_of(found) for found in sockets]
        dialer = Dialer(self._resolver, self.addresses)
        self._sweeper = Sweeper(self._tick)
        self._uploads = Uploads(self._uploads_path)
        self._inspector = Inspector(
            self._judge, self._settings, dialer, self._sweeper, self._uploads, self._folder, self._trust
        )
        self._desk = Desk(self._judge, self._settings, dialer, self._inspector, self._sweeper, self._uploads)
        self._servers = [
            await loop.create_server(self._desk.connection, sock=found, backlog=BACKLOG) for found in sockets
        ]

    @property
    def certificate(self) -> Path:
        """The certificate that clients of inspected tunnels have to trust."""
        return self._inspector.certificate

    @property
    def open_connections(self) -> int:
        """How many clients are being served."""
        return sum(self._desk.per_client.values())

    async def stop(self) -> None:
        """Accept no more, wait for what is open, then close it."""
        for server in self._servers:
            server.close()
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._grace
        self._desk.draining = True
        while self.open_connections and loop.time() < ends:
            self._inspector.close_idle()
            await asyncio.sleep(0.05)
        if self.open_connections:
            _LOG.info("%s connections are cut off", self.open_connections)
        self._inspector.abort()
        for alive in tuple(self._sweeper.alive):
            alive.abort()
        self._sweeper.stop()
        for _ in range(100):
            if not self.open_connections:
                break
            await asyncio.sleep(0.01)
        self._uploads.close()


def bind(listen: Iterable[str]) -> list[socket.socket]:
    """Return listening sockets for `address:port` texts, each shared with other workers.

    Raises:
        ListenError: one of them cannot be had; none is kept then.
    """
    bound: list[socket.socket] = []
    for text in listen:
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        bound.append(found)
        found.setblocking(False)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            found.bind((host, int(port)))
            found.listen(BACKLOG)
        except OSError as error:
            for each in bound:
                each.close()
            raise ListenError(f"proxy.listen: {text}: {_advice(error)}") from None
    return bound


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; find the program with 'ss -ltnp', or listen elsewhere"
    if error.errno == errno.EACCES:
        return "ports below 1024 need CAP_NET_BIND_SERVICE (or root); or listen on a higher port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; see 'ip address'"
    return error.strerror or str(error)


def _address_of(found: socket.socket) -> tuple[IPAddress, int]:
    name = found.getsockname()
    address = parse_address(name[0])
    assert address is not None
    return address, name[1]
