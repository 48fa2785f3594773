"""Tests for gateway.dns.udp. What it answers with over sockets of one address is in test_server.py."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from dnslib import RCODE, DNSRecord

from gateway.decision import Reason
from gateway.dns.listeners import bind
from gateway.dns.resolver import Resolver
from gateway.dns.settings import parse_endpoint
from gateway.dns.transfer import RpzZone, Transfers
from gateway.dns.udp import UdpListener
from gateway.feeds.export import Exported
from gateway.feeds.zones import write_zone, zone_folder
from gateway.tsigkey import Key
from tests.gateway.dns.support import Clock, a_judge, addresses, ask, parse
from tests.peers.dns_upstream import Message, Reply, upstream, zone

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
    resolver.serve_zones(Transfers(lambda: {zone.name: zone}, lambda: 7.0))
    listener = UdpListener(sock, resolver)
    port = sock.getsockname()[1]
    reply = await exchange(client, "127.0.0.9", port, ask("rpz.example", "SOA"))
    assert [record.rdata.times[0] for record in DNSRecord.parse(reply).rr] == [7]
    assert addresses(await exchange(client, "127.0.0.9", port, ask("gw.example"))) == ["10.0.0.1"]
    await listener.close(1)


async def test_the_rate_limit_holds_for_zones_too(client: socket.socket, tmp_path: Path) -> None:
    """Who asks for a zone of lists pays for it as for anything else, and is told to come over TCP at the end."""
    zone = RpzZone.of(tmp_path, "rpz.example", (ip_network("10.0.0.0/8"),), {})
    sock = bind(parse_endpoint("udp://127.0.0.1:0"))
    judge = a_judge(records=RECORDS, rate_limit=(1.0, 5))
    resolver = Resolver(judge, Clock())
    resolver.serve_zones(Transfers(lambda: {zone.name: zone}, lambda: 7.0))
    listener = UdpListener(sock, resolver)
    port = sock.getsockname()[1]
    replies = [await exchange(client, "127.0.0.1", port, ask("rpz.example", "SOA")) for _ in range(7)]
    assert [(reply[2] & 2, reply[3] & 0xF) for reply in replies] == [(0, RCODE.REFUSED)] * 5 + [(2, 0)] * 2
    assert judge.reasons == [Reason.CLIENT_UNKNOWN] * 5 + [Reason.RATE_LIMIT]
    await listener.close(1)


async def test_whoever_signs_strangely_harms_nobody(client: socket.socket, tmp_path: Path) -> None:
    """A query for a zone that nobody could sign is told so, and those that came with it are answered."""
    zone = RpzZone(name="rpz.example", folder=tmp_path, keys={"xfr.example": Key("xfr.example", "hmac-sha256", b"k")})
    sock = bind(parse_endpoint("udp://127.0.0.1:0"))
    resolver = Resolver(a_judge(records=RECORDS))
    resolver.serve_zones(Transfers(lambda: {zone.name: zone}, lambda: 7.0))
    listener = UdpListener(sock, resolver)
    query = bytearray(ask("rpz.example", "SOA", edns=False, ident=2))
    query[11] = 1
    data = bytes(1 + 6 + 2 + 2 + 2 + 2 + 2)
    long = b"".join(b"\x3f" + b"a" * 63 for _ in range(4)) + b"\0"
    strange = bytes(query) + long + struct.pack("!HHIH", 250, 255, 0, len(data)) + data
    client.connect(sock.getsockname())
    for packet in (ask("gw.example", ident=1), strange, ask("gw.example", ident=3)):
        client.send(packet)
    loop = asyncio.get_running_loop()
    replies = [await asyncio.wait_for(loop.sock_recv(client, 4096), 5) for _ in range(3)]
    assert [(reply[1], reply[3] & 0xF) for reply in replies] == [(1, 0), (2, 1), (3, 0)]
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


async def test_what_was_asked_before_is_answered_as_before(client: socket.socket) -> None:
    """Asked again in the same octets, in other letters or with another id, an answer differs in these alone."""
    async with upstream(zone({"public.example": ["93.184.215.14"]})) as up:
        judge = a_judge(up.endpoint, records=RECORDS)
        sock = bind(parse_endpoint("udp://127.0.0.1:0"))
        port = sock.getsockname()[1]
        listener = UdpListener(sock, Resolver(judge, clock=lambda: 5000.25))
        for name in ("bad.example", "public.example", "gw.example"):
            first = await exchange(client, "127.0.0.1", port, ask(name))
            for ident in (1, 2, 65535):
                again = await exchange(client, "127.0.0.1", port, ask(name, ident=ident))
                assert again == ident.to_bytes(2, "big") + first[2:]
            shouted = await exchange(client, "127.0.0.1", port, ask(name.upper()))
            assert shouted.lower() == first.lower()
            assert name.upper().split(".", 1)[0].encode() in shouted
        assert len(judge.asked) < 3 * 5
        await listener.close(1)


async def test_repeats_of_a_denial_are_counted(client: socket.socket) -> None:
    """Every denial is counted for the client that it was told, and decided twice for each, however quickly it is
    answered."""
    judge = a_judge()
    sock = bind(parse_endpoint("udp://127.0.0.1:0"))
    listener = UdpListener(sock, Resolver(judge))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.setblocking(False)
        for each in [client, other] * 10:
            await exchange(each, "127.0.0.1", sock.getsockname()[1], ask("bad.example"))
    assert [str(request.client.address) for request, _ in judge.records] == ["127.0.0.1", "127.0.0.2"] * 10
    assert len(judge.asked) == 4
    await listener.close(1)


@pytest.mark.parametrize("count", [1, 3])
async def test_ttls_count_down(count: int) -> None:
    """What is given again is as old as it is, and is asked for anew when it is over."""
    clock = Clock()
    async with upstream(zone({"public.example": [f"93.184.215.{14 + number}" for number in range(count)]})) as up:
        sock = bind(parse_endpoint("udp://127.0.0.1:0"))
        listener = UdpListener(sock, Resolver(a_judge(up.endpoint), clock=clock))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            ttls = []
            for seconds in (0, 1, 0.5, 7.75, 20, 0.5):
                clock.now += seconds
                reply = await exchange(client, "127.0.0.1", sock.getsockname()[1], ask("public.example"))
                (ttl,) = {record.ttl for record in parse(reply).rr}
                ttls.append(ttl)
        assert [ttls[0] - ttl for ttl in ttls] == [0, 1, 1, 9, 29, 29]
        await listener.close(1)


async def test_a_mixed_burst() -> None:
    """Of many datagrams at once each gets its own answer, whether it is at hand, long, late, or none."""
    long = {
        f"long{number}.example": tuple(ip_address(f"10.0.0.{host}") for host in range(1, 60)) for number in range(3)
    }
    async with upstream(zone({"public.example": ["93.184.215.14"], "late.example": ["93.184.215.15"]})) as up:
        sock = bind(parse_endpoint("udp://127.0.0.1:0"))
        listener = UdpListener(sock, Resolver(a_judge(up.endpoint, records={**RECORDS, **long})))
        names = ["gw.example", "long0.example", "bad.example", "public.example", "long1.example", "late.example"]
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(sock.getsockname())
            for turn in range(4):
                for number, name in enumerate(names):
                    client.send(ask(name, ident=turn * 100 + number))
                client.send(b"")
                client.send(b"\1\2\3")
                found = {}
                for _ in names:
                    reply = await asyncio.wait_for(loop.sock_recv(client, 4096), 5)
                    found[int.from_bytes(reply[:2], "big") - turn * 100] = reply
                assert [len(addresses(found[number])) for number in range(6)] == [1, 59, 0, 1, 59, 1]
        await listener.close(1)


async def test_who_waits_is_answered_before_the_socket_is_closed() -> None:
    """What an upstream answers while the listener is being closed is sent, to everybody."""
    asked, answer = 0, asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        nonlocal asked
        asked += 1
        await answer.wait()
        return query.reply()

    async with upstream(handle) as up:
        sock = bind(parse_endpoint("udp://127.0.0.1:0"))
        listener = UdpListener(sock, Resolver(a_judge(up.endpoint)))
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(sock.getsockname())
            for number in range(40):
                client.send(ask(f"n{number}.example", ident=number))
            async with asyncio.timeout(10):
                while asked < 40:  # noqa: ASYNC110 -- what others have received has no event
                    await asyncio.sleep(0)
            closing = loop.create_task(listener.close(5))
            answer.set()
            await closing
            assert sock.fileno() == -1
            replies = [await asyncio.wait_for(loop.sock_recv(client, 4096), 5) for _ in range(40)]
            assert sorted(int.from_bytes(reply[:2], "big") for reply in replies) == list(range(40))


async def test_a_rate_limit_holds_for_what_is_at_hand(client: socket.socket) -> None:
    """Answers given from the table count as well as any."""
    sock = bind(parse_endpoint("udp://127.0.0.1:0"))
    resolver = Resolver(a_judge(records=RECORDS, rate_limit=(1.0, 40)), clock=lambda: 5000.0)
    listener = UdpListener(sock, resolver)
    flags = [
        parse(await exchange(client, "127.0.0.1", sock.getsockname()[1], ask("gw.example"))).header.tc
        for _ in range(42)
    ]
    assert flags[:39] == [0] * 39
    assert flags[-1] == 1
    await listener.close(1)
