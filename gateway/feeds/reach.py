"""Whom a fetch may reach. The catalogue is the operator's word, a redirect is only the publisher's.

What a URL of the catalogue names may be anywhere on the operator's networks, but for link-local addresses, metadata
services among them: whoever runs the DNS of a publisher could point its name there. Where a redirect leads must be a
public address. Or a publisher could have this host knock at doors that only it can reach.
"""

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Network

from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.addresses import AddressClass, classify, parse_address

_NEVER = frozenset(
    (AddressClass.METADATA, AddressClass.LINK_LOCAL, AddressClass.MULTICAST, AddressClass.EMBEDDED_IPV4)
)
_NAT64 = IPv6Network("64:ff9b::/96")
"""Where the IPv4 Internet is on networks without it (RFC 6052)."""


def flaw_of_redirect(host: str) -> str:
    """Return why no redirect may lead to a host, if that can be said before it is looked up, or nothing.

    >>> flaw_of_redirect("169.254.169.254")
    'leads to 169.254.169.254, a metadata address, which the catalogue does not name'
    """
    # What else a system may take for an address, such as 2130706433, is not looked up, and so would not be judged.
    if ":" not in host and not host.replace(".", "").isdigit():
        return ""
    return _flaw_of_address(host, named=False)


def _flaw_of_address(text: str, *, named: bool) -> str:
    address = parse_address(text)
    if address is None:
        return f"leads to {text}, which is no address in its usual spelling"
    if address in _NAT64:
        address = IPv4Address(address.packed[12:])
    kind = classify(address)
    if kind is AddressClass.GLOBAL or (named and kind not in _NEVER):
        return ""
    return f"leads to {text}, {_AN.get(kind, 'a')} {kind.value} address, which the catalogue does not name"


_AN = {AddressClass.EMBEDDED_IPV4: "an"}


class Judging(AbstractResolver):
    """Looks names up as another resolver does, and returns the addresses that may be reached.

    `named`: the names are those of the catalogue. `beyond` are names that are not judged: those of proxies.
    """

    def __init__(self, resolver: AbstractResolver, *, named: bool, beyond: Collection[str] = ()) -> None:
        self._resolver = resolver
        self._named = named
        self._beyond = frozenset(beyond)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return where a host is. Raises OSError, as aiohttp expects."""
        found = await self._resolver.resolve(host, port, family)
        if host in self._beyond:
            return found
        flaws = [_flaw_of_address(item["host"], named=self._named) for item in found]
        good = [item for item, flaw in zip(found, flaws, strict=True) if not flaw]
        if found and not good:
            raise OSError(None, flaws[0])
        return good

    async def close(self) -> None:
        """Close nothing: the other resolver belongs to somebody else."""
