"""Finding the publishers of feeds without the gateway that needs their lists.

A host that sends its own DNS to the gateway has no resolver while the gateway is not up yet, so a refresh asks the
upstreams of the policy file itself, in its own process. The host's way to look names up comes second: it knows
/etc/hosts.
"""

import asyncio
import socket
from collections.abc import Hashable
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from gateway.decision import Decision, Reason, Verdict
from gateway.dns.resolver import ResolutionError, Resolver
from gateway.dns.settings import Settings
from gateway.names import normalize
from gateway.request import Client, Request

_TIME = 10.0
"""Seconds for the host's own look-up, which would otherwise wait as long as resolv.conf says."""


class _Unjudged:
    """A judge for names that the configuration itself gives: nobody decides, nothing is recorded."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def generation(self) -> object:
        """Never another one."""
        return self

    @property
    def settings(self) -> Settings:
        """As given."""
        return self._settings

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Allow."""
        return Decision(Verdict.ALLOW, Reason.RULE), ""

    def record(self, request: Request, decision: Decision) -> str:
        """Record nothing."""
        return ""

    def view(self, client: Client) -> Hashable:
        """Return one view for all."""
        return ()


class BootstrapResolver(AbstractResolver):
    """A resolver for `gateway.feeds.fetch`: the upstreams of the configuration, then this host."""

    def __init__(self, settings: Settings, fallback: AbstractResolver | None = None) -> None:
        self._resolver = Resolver(_Unjudged(settings)) if settings.upstreams or settings.forward else None
        self._fallback = fallback or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return where a publisher is. Raises OSError, as aiohttp expects."""
        families = {socket.AF_INET: (4,), socket.AF_INET6: (6,)}.get(family, (4, 6))
        reason = "no upstream is configured"
        if self._resolver is not None:
            try:
                found = await self._resolver.lookup(normalize(host), families=families)
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
        if self._resolver is not None:
            await self._resolver.close()
        await self._fallback.close()


def _result(host: str, port: int, address: str) -> ResolveResult:
    kind = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    return ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
