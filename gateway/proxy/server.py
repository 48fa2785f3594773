"""The proxy of one process: binds, serves until told to stop, drains.

Workers share their ports (SO_REUSEPORT): each has listening sockets of its own, and the kernel spreads the clients.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.addresses import IPAddress, parse_address
from gateway.binding import remedy
from gateway.dns.certificate import CertificateError
from gateway.htpasswd import Accounts
from gateway.proxy.authentication import Authenticator
from gateway.proxy.desk import Desk
from gateway.proxy.dial import Dialer
from gateway.proxy.door import Door
from gateway.proxy.entrance import Entrance
from gateway.proxy.front import BACKLOG, Front
from gateway.proxy.listener import ClientConnection, TurnedAway
from gateway.proxy.roles import Judge, Resolver, Settings
from gateway.proxy.sweeper import Sweeper
from gateway.proxy.tally import Tally
from gateway.proxy.tls import TlsFiles, listener_context
from gateway.proxy.uploads import Uploads

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)

GRACE_SECONDS = 20.0
"""How long tunnels may go on after the proxy was told to stop."""
_TICK = 0.5
_LOOK = 0.5  # seconds between looks at whether another configuration is in force


class ListenError(OSError):
    """An address cannot be listened on. The text says what to do."""


async def serve(
    runtime: "Runtime",
    resolver: Resolver,
    *,
    stop: asyncio.Event,
    ready: Callable[[], None] = lambda: None,
    tally: Tally | None = None,
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
        accounts=lambda: runtime.state.config.accounts,
        tls=tls_files(runtime),
        own=runtime.state.config.control_places,
        tally=tally,
    )
    await proxy.start()
    following = asyncio.get_running_loop().create_task(_follow(runtime, proxy))
    try:
        ready()
        await stop.wait()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await proxy.stop()


def tls_files(runtime: "Runtime") -> TlsFiles | None:
    """Return the files of the TLS listeners, by the configuration in force."""
    found = runtime.state.config.proxy_tls
    return None if found is None else TlsFiles(*found)


async def _follow(runtime: "Runtime", proxy: "Proxy") -> None:
    """Read the certificates anew whenever another state is put in force, as SIGHUP does."""
    seen = runtime.state
    while True:
        await asyncio.sleep(_LOOK)
        if runtime.state is seen:
            continue
        seen = runtime.state
        try:
            if (files := tls_files(runtime)) is not None:
                await asyncio.to_thread(proxy.renew, files)
        except Exception:
            _LOG.exception("the old certificate stays in use")


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
        accounts: Callable[[], Accounts | None] = lambda: None,
        tls: TlsFiles | None = None,
        own: Iterable[tuple[IPAddress, int]] = (),
        tally: Tally | None = None,
    ) -> None:
        self._judge = judge
        self._settings = settings
        self._resolver = resolver
        self._folder = folder
        self._trust = trust
        self._tick = tick
        self._grace = grace
        self._uploads_path = uploads
        self._accounts = accounts
        self._tls = tls
        self._own = tuple(own)
        self._tally = tally
        self._context: ssl.SSLContext | None = None
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
        section = self._settings()
        if self._tls is not None:
            try:
                self._context = listener_context(self._tls)
            except CertificateError as error:
                raise ListenError(str(error)) from None
        sockets = bind(section.listen)
        self.addresses = [_address_of(found) for found in sockets]
        dialer = Dialer(self._resolver, (*self.addresses, *self._own), lambda: self._settings().parent)
        self._authenticator = Authenticator(self._accounts, loop.time)
        self._sweeper = Sweeper(self._tick)
        self._uploads = Uploads(self._uploads_path)
        self._inspector = Inspector(
            self._judge,
            self._settings,
            dialer,
            self._sweeper,
            self._authenticator,
            self._uploads,
            self._folder,
            self._trust,
        )
        self._desk = Desk(
            self._judge,
            self._settings,
            dialer,
            self._inspector,
            self._sweeper,
            self._authenticator,
            self._uploads,
            self._tally,
        )
        self._entrance = Entrance(self._desk)
        self._fronts: list[Front] = []
        self._doors: list[Door] = []
        for place, found in zip(section.listen, sockets, strict=True):
            if place.startswith("tls://"):
                self._open_door(found, self.context)
            elif section.proxy_protocol_from:
                self._open_door(found, None)
            else:
                front = Front(self._entrance, self._welcome)
                await front.start(found)
                self._fronts.append(front)

    def _welcome(self) -> asyncio.Protocol:
        """Return what serves a new connection. Never raises."""
        try:
            return ClientConnection(self._desk)
        except (Exception, asyncio.CancelledError):
            _LOG.exception("a connection cannot be served")
            return TurnedAway()

    def _open_door(self, found: socket.socket, context: Callable[[], ssl.SSLContext] | None) -> None:
        door = Door(self._desk, self._entrance, context)
        found.listen(BACKLOG)
        door.start(found)
        self._doors.append(door)

    def context(self) -> ssl.SSLContext:
        """Return the TLS settings for a connection that begins now."""
        assert self._context is not None, "the configuration gives tls:// listeners a certificate"
        return self._context

    def renew(self, files: TlsFiles) -> bool:
        """Load the TLS files anew for the connections to come. If that fails, say so, and keep what there is."""
        try:
            self._context = listener_context(files)
        except CertificateError as error:
            _LOG.error("the old certificate stays in use: %s", error)
            return False
        return True

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
        for front in self._fronts:
            front.close()
        for door in self._doors:
            await door.close()
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._grace
        self._desk.draining = True
        while (self.open_connections or self._entrance.waiting) and loop.time() < ends:
            self._inspector.close_idle()
            await asyncio.sleep(0.05)
        if self.open_connections:
            _LOG.info("%s connections are cut off", self.open_connections)
        self._entrance.close()
        self._inspector.abort()
        self._sweeper.stop()
        self._authenticator.close()
        for _ in range(100):
            for alive in tuple(self._sweeper.alive):  # some were being let in a moment ago
                alive.abort()
            if not self.open_connections:
                break
            await asyncio.sleep(0.01)
        self._uploads.close()


def bind(listen: Iterable[str]) -> list[socket.socket]:
    """Return sockets for texts of `proxy.listen`, each shared with other workers.

    They do not listen yet: from then on, the kernel gives a share of the clients to this process.

    Raises:
        ListenError: one of them cannot be had; none is kept then.
    """
    bound: list[socket.socket] = []
    for text in listen:
        host, _, port = text.removeprefix("tls://").rpartition(":")
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
        except OSError as error:
            for each in bound:
                each.close()
            raise ListenError(f"proxy.listen: {text}: {remedy(error, socket.SOCK_STREAM, int(port))}") from None
    return bound


def _address_of(found: socket.socket) -> tuple[IPAddress, int]:
    name = found.getsockname()
    address = parse_address(name[0])
    assert address is not None
    return address, name[1]
