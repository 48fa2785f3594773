"""Tests for gateway.dns.udp."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from dnslib import DNSRecord

from gateway.dns.listeners import bind
from gateway.dns.resolver import Resolver
from gateway.dns.settings import parse_endpoint
from gateway.dns.transfer import RpzZone, Transfers
from gateway.dns.datagrams import is_wildcard
from gateway.dns.udp import UdpListener
from gateway.feeds.export import Exported
from gateway.feeds.zones import write_zone, zone_folder
from tests.gateway.dns.support import a_judge, addresses, ask
from tests.peers.dns_upstream import upstream, zone

RECORDS = {"gw.example": (ip_address("10.0.0.1"),)}


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """A client that hears only whom it asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


async def exchange(client: socket.socket, address: str, port: int, packet: bytes) -> bytes:
    """Ask an address, and return what that very address says."""
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (address, port))
    await loop.sock_sendall(client, packet)
    return await asyncio.wait_for(loop.sock_recv(client, 4096), 5)


async def test_the_address_that_was_asked_answers(client: socket.socket) -> None:
    """On a host with several addresses, an answer comes from the one asked: at once, or after an upstream."""
    async with upstream(zone({"public.example": ["93.184.215.14"]})) as up:
        sock = bind(parse_endpoint("udp://0.0.0.0:0"))
        port = sock.getsockname()[1]
        listener = UdpListener(sock, Resolver(a_judge(up.endpoint, records=RECORDS)))
        for address in ("127.0.0.1", "127.0.0.9", "127.1.2.3"):
            for name in ("gw.example", "public.example", "bad.example", f"n{address[-1]}.public.example"):
                reply = await exchange(client, address, port, ask(name))
                expected = {"gw.example": ["10.0.0.1"], "public.example": ["93.184.215.14"]}
                assert addresses(reply) == expected.get(name, [])
        await listener.close(1)


async def test_zones_are_served_too(client: socket.socket, tmp_path: Path) -> None:
    """What asks for a zone of lists is answered from there, and everything else as ever."""
    write_zone(zone_folder(tmp_path, "rpz.example"), Exported(), made_of="1", now=7, longest=200)
    zone = RpzZone.of(tmp_path, "rpz.example", (ip_network("127.0.0.0/8"),), {})
    sock = bind(parse_endpoint("udp://0.0.0.0:0"))
    resolver = Resolver(a_judge(records=RECORDS))
    listener = UdpListener(sock, resolver, Transfers(lambda: {zone.name: zone}, lambda: 7.0))
    port = sock.getsockname()[1]
    reply = await exchange(client, "127.0.0.9", port, ask("rpz.example", "SOA"))
    assert [record.rdata.times[0] for record in DNSRecord.parse(reply).rr] == [7]
    assert addresses(await exchange(client, "127.0.0.9", port, ask("gw.example"))) == ["10.0.0.1"]
    await listener.close(1)


async def test_a_plain_listener_would_not(client: socket.socket) -> None:
    """The test above can fail: without it, the system answers from the address nearest to the client."""
    sock = bind(parse_endpoint("udp://0.0.0.0:0"))
    listener = UdpListener(sock, Resolver(a_judge(records=RECORDS)))
    with pytest.raises((TimeoutError, ConnectionError)):
        await asyncio.wait_for(exchange(client, "127.0.0.9", sock.getsockname()[1], ask("gw.example")), 0.3)
    await listener.close(1)


async def test_ipv6() -> None:
    """The same over IPv6, whatever the address."""
    sock = bind(parse_endpoint("udp://[::]:0"))
    listener = UdpListener(sock, Resolver(a_judge(records=RECORDS)))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        reply = await exchange(client, "::1", sock.getsockname()[1], ask("gw.example"))
    assert addresses(reply) == ["10.0.0.1"]
    await listener.close(1)


@pytest.mark.parametrize(
    ("place", "wild"),
    [("udp://0.0.0.0:0", True), ("udp://[::]:0", True), ("udp://127.0.0.1:0", False), ("udp://[::1]:0", False)],
)
def test_which_sockets_need_it(place: str, wild: bool) -> None:
    """A socket bound to one address does not pay for it."""
    with bind(parse_endpoint(place)) as sock:
        assert is_wildcard(sock) is wild
