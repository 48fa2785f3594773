"""The resolver as a server: binds what the configuration says, answers until it is told to stop, and drains."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from gateway.addresses import parse_address
from gateway.dns.admission import Admission
from gateway.dns.certificate import Certificate
from gateway.dns.http1 import Http1Connection
from gateway.dns.http2 import Http2Connection
from gateway.dns.judge import RuntimeJudge
from gateway.dns.listeners import IDLE, ListenError, TcpListener, bind
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint
from gateway.dns.streams import Connection, StreamListener
from gateway.dns.transfer import RpzZone, Transfers
from gateway.dns.udp import UdpListener

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)
GRACE = 5.0
"""Seconds that queries on their way have left when the server stops: as long as clients wait."""
_LOOK = 0.5  # seconds between looks at whether another configuration is in force


async def serve(
    runtime: "Runtime",
    *,
    stop: asyncio.Event,
    ready: Callable[[], object],
    resolver: Resolver | None = None,
    secret: bytes = b"",
) -> None:
    """Serve `dns.listen` until `stop` is set; `ready` is called once every address is. Ports are shared with the
    other workers of the gateway (SO_REUSEPORT), and so is the `secret` for cookies. Pass the `resolver` that the
    process already has, if any.

    Raises:
        ListenError: an address cannot be listened on; nothing is served then.
    """
    listen = RuntimeJudge(runtime).settings.listen
    core = resolver or Resolver.from_runtime(runtime, secret)
    core.serve_zones(_transfers(runtime))
    files = runtime.state.config.dns_certificate
    following = None
    try:
        certificate = None if files is None else Certificate(*files)
        if certificate is not None:
            following = asyncio.get_running_loop().create_task(_follow(runtime, certificate))
        await serve_resolver(
            core,
            listen,
            stop=stop,
            ready=lambda _: ready(),
            reuse_port=True,
            certificate=certificate,
        )
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        if resolver is None:
            await core.close()


def _transfers(runtime: "Runtime") -> Transfers:
    """Return who answers for the zones of the state in force."""
    seen: object = None
    found: Mapping[str, RpzZone] = {}

    def zones() -> Mapping[str, RpzZone]:
        nonlocal seen, found
        state = runtime.state
        if seen is not state:
            seen, config = state, state.config
            found = {
                name: RpzZone.of(config.state_dir, name, zone.section.allow, zone.keys)
                for name, zone in config.rpz_zones.items()
            }
        return found

    return Transfers(zones, time.time)


async def _follow(runtime: "Runtime", certificate: Certificate) -> None:
    """Read the certificate anew whenever another state is put in force, as SIGHUP does."""
    seen = runtime.state
    while True:
        await asyncio.sleep(_LOOK)
        if runtime.state is seen:
            continue
        seen = runtime.state
        if (files := seen.config.dns_certificate) is not None:
            await asyncio.to_thread(certificate.renew, *files)


async def serve_resolver(
    resolver: Resolver,
    listen: Sequence[Endpoint],
    *,
    stop: asyncio.Event,
    ready: Callable[[Sequence[Endpoint]], object],
    reuse_port: bool = False,
    grace: float = GRACE,
    certificate: Certificate | None = None,
    idle: float = IDLE,
) -> None:
    """Serve a resolver on some addresses until `stop` is set. `ready` gets them, with the ports that were chosen.
    DoT and DoH need a certificate.

    Raises:
        ListenError: an address cannot be listened on; nothing is served then.
    """
    async with AsyncExitStack() as stack:
        sockets = []
        for endpoint in listen:
            sock = bind(endpoint, reuse_port=reuse_port)
            stack.callback(sock.close)
            sockets.append(sock)
        admission = Admission()
        listeners: list[UdpListener | StreamListener] = []
        stack.push_async_callback(_close, listeners, grace)
        for endpoint, sock in zip(listen, sockets, strict=True):
            if endpoint.scheme == "udp":
                listeners.append(UdpListener(sock, resolver))
            else:
                listener = _stream_listener(endpoint, resolver, admission, certificate, idle)
                listeners.append(listener)
                await listener.start(sock)
        used = [_used(endpoint, sock.getsockname()) for endpoint, sock in zip(listen, sockets, strict=True)]
        _LOG.info("answering on %s", ", ".join(str(endpoint) for endpoint in used) or "no address")
        ready(used)
        await stop.wait()


async def _close(listeners: Sequence[UdpListener | StreamListener], grace: float) -> None:
    """Close all at once: none of them takes more while another one drains."""
    await asyncio.gather(*(listener.close(grace) for listener in listeners))


def _stream_listener(
    endpoint: Endpoint,
    resolver: Resolver,
    admission: Admission,
    certificate: Certificate | None,
    idle: float,
) -> StreamListener:
    if endpoint.scheme == "tcp":
        return TcpListener(resolver, admission, idle=idle)
    if certificate is None:
        raise ListenError(f"dns.listen: {endpoint}: needs dns.certificate")
    if endpoint.scheme == "tls":
        return TcpListener(resolver, admission, context=certificate.dot, idle=idle)

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> Connection:
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        kind = Http2Connection if agreed == "h2" else Http1Connection
        return kind(reader, writer, peer, resolver, endpoint.path, idle)

    return StreamListener(connect, admission, context=certificate.doh)


def _used(endpoint: Endpoint, name: tuple[str, int]) -> Endpoint:
    address = parse_address(name[0])
    assert address is not None
    return endpoint._replace(address=address, port=name[1])
