"""Finding the publishers of feeds without the gateway that needs their lists.

A host that sends its own DNS to the gateway has no resolver while the gateway is not up yet, so a refresh asks the
upstreams of the policy file itself, in its own process. The host's way to look names up comes second: it knows
/etc/hosts.
"""

import asyncio
import socket
import time
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from gateway.dns.forwarder import Forwarder, ResolutionError
from gateway.dns.settings import Settings
from gateway.names import normalize

_TIME = 10.0
"""Seconds for the host's own look-up, which would otherwise wait as long as resolv.conf says."""


class BootstrapResolver(AbstractResolver):
    """A resolver for `gateway.feeds.fetch`: the upstreams of the configuration, then this host. No policy is asked:
    the names come from the configuration itself.
    """

    def __init__(self, settings: Settings, fallback: AbstractResolver | None = None) -> None:
        self._forwarder = Forwarder(settings, time.monotonic) if settings.upstreams or settings.forward else None
        self._fallback = fallback or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return where a publisher is. Raises OSError, as aiohttp expects."""
        families = {socket.AF_INET: (4,), socket.AF_INET6: (6,)}.get(family, (4, 6))
        reason = "no upstream is configured"
        if self._forwarder is not None:
            try:
                found = await self._forwarder.lookup(normalize(host), families=families)
                return [_result(host, port, str(address)) for address in found.addresses]
            except (ResolutionError, ValueError) as error:
                reason = str(error)
        try:
            async with asyncio.timeout(_TIME):
                return await self._fallback.resolve(host, port, family)
        except TimeoutError:
            raise OSError(None, f"{reason}; this host does not find it either, within {_TIME:g} seconds") from None
        except OSError as error:
            raise OSError(None, f"{reason}; this host does not find it either: {error.strerror or error}") from None

    async def close(self) -> None:
        """Give up what is on its way."""
        if self._forwarder is not None:
            await self._forwarder.close()
        await self._fallback.close()


def _result(host: str, port: int, address: str) -> ResolveResult:
    kind = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    return ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
