"""The resolver as a server: binds what the configuration says, answers until it is told to stop, and drains."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from gateway.addresses import parse_address
from gateway.dns.judge import RuntimeJudge
from gateway.dns.listeners import TcpListener, UdpListener, bind
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)
GRACE = 5.0
"""Seconds that queries on their way have left when the server stops: as long as clients wait."""


async def serve(
    runtime: "Runtime", *, stop: asyncio.Event, ready: Callable[[], object], resolver: Resolver | None = None
) -> None:
    """Serve `dns.listen` until `stop` is set; `ready` is called once every address is. Ports are shared with the
    other workers of the gateway (SO_REUSEPORT). Pass the `resolver` that the process already has, if any.

    Raises:
        ListenError: an address cannot be listened on; nothing is served then.
    """
    listen = RuntimeJudge(runtime).settings.listen
    core = resolver or Resolver.from_runtime(runtime)
    try:
        await serve_resolver(core, listen, stop=stop, ready=lambda _: ready(), reuse_port=True)
    finally:
        if resolver is None:
            await core.close()


async def serve_resolver(
    resolver: Resolver,
    listen: Sequence[Endpoint],
    *,
    stop: asyncio.Event,
    ready: Callable[[Sequence[Endpoint]], object],
    reuse_port: bool = False,
    grace: float = GRACE,
) -> None:
    """Serve a resolver on some addresses until `stop` is set. `ready` gets them, with the ports that were chosen.

    Raises:
        ListenError: an address cannot be listened on; nothing is served then.
    """
    async with AsyncExitStack() as stack:
        sockets = []
        for endpoint in listen:
            sock = bind(endpoint, reuse_port=reuse_port)
            stack.callback(sock.close)
            sockets.append(sock)
        for endpoint, sock in zip(listen, sockets, strict=True):
            if endpoint.scheme == "udp":
                stack.push_async_callback(UdpListener(sock, resolver).close, grace)
            else:
                listener = TcpListener(resolver)
                await listener.start(sock)
                stack.push_async_callback(listener.close, grace)
        used = [_name(endpoint.scheme, sock.getsockname()) for endpoint, sock in zip(listen, sockets, strict=True)]
        _LOG.info("answering on %s", ", ".join(str(endpoint) for endpoint in used) or "no address")
        ready(used)
        await stop.wait()


def _name(scheme: str, name: tuple[str, int]) -> Endpoint:
    address = parse_address(name[0])
    assert address is not None
    return Endpoint(scheme, address, name[1])
