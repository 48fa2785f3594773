"""Finding publishers without a running gateway."""

import socket
from ipaddress import ip_address

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.dns.bootstrap import BootstrapResolver
from gateway.dns.settings import Settings, parse_endpoint


class Host(AbstractResolver):
    """A host that knows one name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return an address of documentation."""
        self.asked.append(host)
        if host != "mirror.example":
            raise OSError(None, "Name or service not known")
        return [ResolveResult(hostname=host, host="192.0.2.9", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
async def host() -> Host:
    """Return a host."""
    return Host()


async def test_what_the_configuration_knows(host: Host) -> None:
    """Names are looked up as the policy file says: here a record of its own."""
    settings = Settings(
        upstreams=(parse_endpoint("udp://127.0.0.1:1"),), records={"lists.example": (ip_address("192.0.2.7"),)}
    )
    resolver = BootstrapResolver(settings, host)
    found = await resolver.resolve("Lists.Example", 443, socket.AF_UNSPEC)
    assert [(item["host"], item["port"], item["family"]) for item in found] == [("192.0.2.7", 443, socket.AF_INET)]
    assert host.asked == []
    await resolver.close()


async def test_the_host_comes_second(host: Host) -> None:
    """Without an upstream that answers, the host is asked; when it does not know either, both reasons are told."""
    resolver = BootstrapResolver(Settings(upstreams=()), host)
    assert [item["host"] for item in await resolver.resolve("mirror.example")] == ["192.0.2.9"]
    with pytest.raises(OSError, match=r"no upstream is configured; this host does not find it either: Name or"):
        await resolver.resolve("other.example")
    await resolver.close()
