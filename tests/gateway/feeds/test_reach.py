"""Whom a fetch may reach."""

import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.feeds.fetch import Failed, Fetched, Sessions, fetch, open_sessions
from gateway.feeds.reach import Judging, flaw_of_redirect
from tests.peers.feed_server import FeedServer

PUBLIC, PUBLIC6 = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
NAT64 = "64:ff9b::5db8:d70e"
INTERNAL = ["10.0.0.1", "172.16.3.4", "192.168.1.1", "127.0.0.1", "100.64.0.1", "0.0.0.0", "::1", "fd00::1"]
NEVER = [
    "169.254.169.254", "169.254.7.7", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::1", "fe80::1%1",
    "::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "224.0.0.1",
]  # fmt: skip


class Names(AbstractResolver):
    """Knows names and their addresses."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {f"{name}.example": addresses for name, addresses in names.items()}
        self.closed = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return what is known."""
        if host not in self.names:
            raise OSError(None, "not known")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.names[host]
        ]

    async def close(self) -> None:
        """Count it."""
        self.closed += 1


async def reached(addresses: list[str], *, named: bool) -> list[str]:
    """Return the addresses of a name that may be reached."""
    found = await Judging(Names(host=addresses), named=named).resolve("host.example")
    return [item["host"] for item in found]


@pytest.mark.parametrize("address", [*INTERNAL, *NEVER])
async def test_a_name_in_a_redirect(address: str) -> None:
    """A name that a publisher gives is reached at public addresses alone, whatever else its DNS says."""
    assert await reached([address, PUBLIC, PUBLIC6, NAT64], named=False) == [PUBLIC, PUBLIC6, NAT64]
    with pytest.raises(OSError, match=r"leads to .*, which"):
        await reached([address], named=False)


@pytest.mark.parametrize("address", INTERNAL)
async def test_a_name_in_the_catalogue(address: str) -> None:
    """A name of the catalogue may be that of an internal mirror."""
    assert await reached([address, PUBLIC], named=True) == [address, PUBLIC]


@pytest.mark.parametrize("address", NEVER)
async def test_a_name_in_the_catalogue_that_is_turned_round(address: str) -> None:
    """The DNS of a publisher that the catalogue names cannot point it at a metadata service, in no disguise."""
    assert await reached([address, PUBLIC], named=True) == [PUBLIC]


async def test_a_proxy_is_where_the_environment_says() -> None:
    """The name of a proxy is not judged: it is neither the catalogue's nor a publisher's."""
    judging = Judging(Names(proxy=["10.0.0.1"]), named=False, beyond={"proxy.example"})
    assert [item["host"] for item in await judging.resolve("proxy.example")] == ["10.0.0.1"]


@pytest.mark.parametrize("host", [*INTERNAL, *NEVER, "2130706433", "127.1", "0177.0.0.1", "10.0.0.01"])
def test_an_address_in_a_redirect(host: str) -> None:
    """An address in a redirect is judged as it stands; spellings that only a system understands are refused."""
    assert flaw_of_redirect(host).startswith(f"leads to {host}, ")


@pytest.mark.parametrize("host", [PUBLIC, PUBLIC6, "lists.example", "0x7f000001"])
def test_hosts_that_redirects_may_lead_to(host: str) -> None:
    """Public addresses are fine; names are judged when they have been looked up, and so is what looks like one."""
    assert flaw_of_redirect(host) == ""


@pytest.fixture
async def server() -> AsyncIterator[FeedServer]:
    """Return a publisher."""
    async with FeedServer.running() as running:
        running.publish("/list", b"bad.example\n")
        yield running


async def get(sessions: Sessions, url: str) -> Fetched | Failed:
    """Fetch."""
    found = await fetch(sessions, url, known=None, max_bytes=1 << 20, time_limit=5)
    assert isinstance(found, Fetched | Failed)
    return found


async def test_redirects_stay_outside(server: FeedServer) -> None:
    """An internal publisher is reached as the catalogue names it; redirects to others inside are refused, unasked."""
    names = Names(mirror=["127.0.0.1"], inside=["127.0.0.1"])
    port = server.url.rpartition(":")[2]
    async with open_sessions(names) as sessions:
        assert isinstance(await get(sessions, f"http://mirror.example:{port}/list"), Fetched)
        server.publish("/near", b"", status=302, headers={"Location": "/list"})
        assert isinstance(await get(sessions, f"http://mirror.example:{port}/near"), Fetched)
        asked = len(server.requests)
        for target, reason in (
            ("169.254.169.254", "leads to 169.254.169.254, a metadata address, which the catalogue does not name"),
            (f"127.0.0.1:{port}", "leads to 127.0.0.1, a loopback address, which the catalogue does not name"),
            (f"[::ffff:7f00:1]:{port}", "leads to ::ffff:127.0.0.1, an embedded-ipv4 address, which the catalogue"),
            (f"2130706433:{port}", "leads to 2130706433, which is no address in its usual spelling"),
            (f"inside.example:{port}", "cannot connect: leads to 127.0.0.1, a loopback address, which the catalogue"),
        ):
            server.publish("/far", b"", status=302, headers={"Location": f"http://{target}/list"})
            found = await get(sessions, f"http://mirror.example:{port}/far")
            assert isinstance(found, Failed)
            assert found.reason.startswith(reason)
        assert [path for path, _ in server.requests[asked:]] == ["/far"] * 5
    assert names.closed == 1
