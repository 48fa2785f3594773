"""Tests for gateway.dns.server and gateway.dns.listeners: real sockets on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from dnslib import RCODE

from gateway.decision import Reason
from gateway.dns.admission import MAX_CONNECTIONS_PER_CLIENT
from gateway.dns.listeners import MAX_PIPELINED, MAX_TURN, ListenError, TcpListener, bind
from gateway.dns.resolver import Resolver
from gateway.dns.server import serve_resolver
from gateway.dns.settings import Endpoint, Timing, parse_endpoint
from gateway.dns.transfer import RpzZone, Transfers
from tests.gateway.dns.support import Clock, a_judge, addresses, ask, parse
from tests.peers.dns_upstream import Message, Reply, answer, upstream, zone

ZONE = {"public.example": ["93.184.215.14"], **{f"n{number}.example": ["93.184.215.1"] for number in range(200)}}
LISTEN = ("udp://127.0.0.1:0", "tcp://127.0.0.1:0", "udp://[::1]:0", "tcp://[::1]:0")


@asynccontextmanager
async def serving(
    resolver: Resolver, listen: Sequence[str] = LISTEN, *, grace: float = 5.0
) -> AsyncIterator[list[Endpoint]]:
    """Run a server on ports of its own."""
    ready: asyncio.Future[Sequence[Endpoint]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        places = [parse_endpoint(text) for text in listen]
        group.create_task(serve_resolver(resolver, places, stop=stop, ready=ready.set_result, grace=grace))
        yield list(await ready)
        stop.set()
    await resolver.close()


async def over_udp(endpoint: Endpoint, *packets: bytes) -> list[bytes]:
    """Send packets and return as many replies."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # all replies may be there before one is read
        sock.connect((str(endpoint.address), endpoint.port))
        for packet in packets:
            await loop.sock_sendall(sock, packet)
        return [await asyncio.wait_for(loop.sock_recv(sock, 4096), 5) for _ in packets]


def framed(*packets: bytes) -> bytes:
    """Return packets as they are sent over TCP."""
    return b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)


async def dial(place: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a TCP connection."""
    return await asyncio.open_connection(str(place.address), place.port)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever the other side thinks of it."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 -- nothing sets an event there
            await asyncio.sleep(0)


async def read_one(reader: asyncio.StreamReader) -> bytes:
    """Return the next message."""
    return await asyncio.wait_for(reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")), 5)


async def test_every_transport_and_family() -> None:
    """UDP and TCP over IPv4 and IPv6 give the same answers, denials included."""
    async with upstream(zone(ZONE)) as up, serving(Resolver(a_judge(up.endpoint))) as places:
        for place in places:
            for name, code in (("public.example", 0), ("bad.example", 3), ("missing.example", 3)):
                if place.scheme == "udp":
                    (reply,) = await over_udp(place, ask(name))
                else:
                    reader, writer = await dial(place)
                    writer.write(framed(ask(name)))
                    reply = await read_one(reader)
                    await hang_up(writer)
                assert parse(reply).header.rcode == code


async def test_a_burst_of_datagrams_is_answered_whole() -> None:
    """More packets than one wake-up handles are all answered, misses and hits alike."""
    patient = Timing(attempt=10.0, total=20.0)  # of the test's own upstream, in the same loop
    async with upstream(zone(ZONE)) as up, serving(Resolver(a_judge(up.endpoint, timing=patient))) as places:
        for _ in range(2):
            packets = [ask(f"n{number}.example", ident=number) for number in range(200)]
            replies = await over_udp(places[0], *packets)
            assert {parse(reply).header.id for reply in replies} == set(range(200))
            assert all(addresses(reply) for reply in replies)


async def test_garbage_over_udp_changes_nothing() -> None:
    """After all kinds of nonsense the next good query is answered."""
    async with upstream(zone(ZONE)) as up, serving(Resolver(a_judge(up.endpoint))) as places:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for packet in (b"", b"\0", b"\xff" * 4000, b"\0" * 12, ask("public.example")[:-1]):
                sock.sendto(packet, (str(places[0].address), places[0].port))
        (reply,) = await over_udp(places[0], ask("public.example"))
        assert addresses(reply) == ["93.184.215.14"]


async def test_pipelined_answers_overtake_each_other() -> None:
    """On one connection, a quick answer does not wait for a slow one (RFC 7766 section 6.2.1.1)."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        if str(query.q.qname).lower().startswith("n1."):
            await go.wait()
        return answer(query, ZONE)

    async with upstream(handle) as up, serving(Resolver(a_judge(up.endpoint))) as places:
        reader, writer = await dial(places[1])
        writer.write(framed(ask("n1.example", ident=1), ask("n2.example", ident=2), ask("bad.example", ident=3)))
        first = {parse(await read_one(reader)).header.id for _ in range(2)}
        go.set()
        assert (first, parse(await read_one(reader)).header.id) == ({2, 3}, 1)
        await hang_up(writer)


async def test_a_half_closed_connection_still_gets_its_answers() -> None:
    """A client that has sent its queries and closed its side gets every answer."""
    async with upstream(zone(ZONE)) as up, serving(Resolver(a_judge(up.endpoint))) as places:
        reader, writer = await dial(places[1])
        writer.write(framed(*(ask(f"n{number}.example", ident=number) for number in range(100))))
        writer.write_eof()
        found = {parse(await read_one(reader)).header.id for _ in range(100)}
        assert found == set(range(100))
        assert await reader.read() == b""
        await hang_up(writer)


async def test_octet_by_octet() -> None:
    """A query that comes in single octets is answered."""
    async with upstream(zone(ZONE)) as up, serving(Resolver(a_judge(up.endpoint))) as places:
        reader, writer = await dial(places[1])
        for octet in framed(ask("public.example")):
            writer.write(bytes([octet]))
            await writer.drain()
        assert addresses(await read_one(reader)) == ["93.184.215.14"]
        await hang_up(writer)


async def test_one_connection_cannot_have_unbounded_queries_waiting() -> None:
    """Beyond the limit of unanswered queries no more are read from a connection."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        await go.wait()
        return answer(query, ZONE)

    judge_and_more = 2 * MAX_PIPELINED
    async with upstream(handle) as up:
        judge = a_judge(up.endpoint)
        async with serving(Resolver(judge)) as places:
            reader, writer = await dial(places[1])
            writer.write(framed(*(ask(f"n{number}.example", ident=number) for number in range(judge_and_more))))
            await turns_until(lambda: len(up.queries) >= MAX_PIPELINED)
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(up.queries) == MAX_PIPELINED
            go.set()
            assert {parse(await read_one(reader)).header.id for _ in range(judge_and_more)} == set(
                range(judge_and_more)
            )
            await hang_up(writer)


@asynccontextmanager
async def tcp(resolver: Resolver, idle: float) -> AsyncIterator[tuple[str, int]]:
    """Run a TCP listener with an idle time of its own."""
    listener = TcpListener(resolver, idle=idle)
    sock = bind(parse_endpoint("tcp://127.0.0.1:0"))
    await listener.start(sock)
    yield sock.getsockname()
    await listener.close(0)
    await asyncio.sleep(0)


async def test_one_client_does_not_keep_others_waiting() -> None:
    """Of a thousand queries that come at once over TCP, a few are answered in a turn of the loop."""
    judge = a_judge()
    async with tcp(Resolver(judge), idle=5.0) as place:
        reader, writer = await asyncio.open_connection(*place)
        packets = [ask("bad.example", ident=number) for number in range(1000)]
        writer.write(framed(*packets))
        most = before = 0
        while before < 1000:
            await asyncio.sleep(0)
            count = len(judge.records)
            most, before = max(most, count - before), count
        assert most <= 2 * MAX_TURN  # a turn of the connection may end one turn of the loop and begin another
        for _ in packets:
            assert parse(await read_one(reader)).header.rcode == RCODE.NXDOMAIN
        await hang_up(writer)


async def test_idle_connections_are_closed() -> None:
    """A connection without a whole query in time is closed, however its octets trickle in."""
    async with tcp(Resolver(a_judge()), idle=0.05) as place:
        for start in (b"", b"\0", b"\0\x20abc"):
            reader, writer = await asyncio.open_connection(*place)
            writer.write(start)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            await hang_up(writer)


def a_socket_that_takes_little() -> socket.socket:
    """Return a TCP socket that holds back its peer soon."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    return sock


async def test_a_reader_that_does_not_read_is_cut_off() -> None:
    """A client that sends queries and never takes answers loses its connection, not our memory."""
    async with tcp(Resolver(a_judge()), idle=0.2) as place:
        loop = asyncio.get_running_loop()
        with closing(a_socket_that_takes_little()) as sock:
            await loop.sock_connect(sock, place)
            burst = framed(*[ask("bad.example")] * 500)

            async def send_for_ever() -> None:
                while True:
                    await loop.sock_sendall(sock, burst)

            with pytest.raises((ConnectionError, BrokenPipeError)):
                await asyncio.wait_for(send_for_ever(), 15)


async def test_answers_that_nobody_takes_are_not_piled_up() -> None:
    """While a client does not take its answers, no more of its queries are read than may be unanswered."""
    long = b"".join(b"\xc0\x0c\0\x10\0\1\0\0\0\x3c\0\xf1\xf0%0240d" % number for number in range(240))

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply().pack()
        few = str(query.q.qname).startswith("other")
        return bytes(reply) if few else bytes(reply[:7] + b"\xf0" + reply[8:] + long)

    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint._replace(scheme="tcp"), timing=Timing(20.0, 20.0)))
        async with tcp(resolver, idle=20.0) as place:
            loop = asyncio.get_running_loop()
            with closing(a_socket_that_takes_little()) as sock:
                await loop.sock_connect(sock, place)
                await loop.sock_sendall(sock, framed(*[ask(f"n{number}.example", "TXT") for number in range(250)]))
                await turns_until(lambda: len(up.queries) > MAX_PIPELINED)
                reader, writer = await asyncio.open_connection(*place)
                for number in range(100):  # all others are answered, and have time for more
                    writer.write(framed(ask(f"other{number}.example", "TXT")))
                    await read_one(reader)
                await hang_up(writer)
                assert len(up.queries) < 100 + 200  # what the buffers of the system take (4 MB), and 64 beside
        await resolver.close()


async def test_the_rate_limit_holds_for_zones_too(tmp_path: Path) -> None:
    """Who asks for a zone of lists over TCP pays for it as for anything else."""
    zone = RpzZone.of(tmp_path, "rpz.example", (ip_network("10.0.0.0/8"),), {})
    judge = a_judge(rate_limit=(1.0, 5))
    resolver = Resolver(judge, Clock())
    resolver.serve_zones(Transfers(lambda: {zone.name: zone}, lambda: 7.0))
    async with tcp(resolver, 5.0) as place:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(framed(*[ask("rpz.example", "SOA")] * 7))
        codes = [parse(await read_one(reader)).header.rcode for _ in range(7)]
        assert codes == [RCODE.REFUSED] * 5 + [RCODE.SERVFAIL] * 2
        assert judge.reasons == [Reason.CLIENT_UNKNOWN] * 5 + [Reason.RATE_LIMIT]
        await hang_up(writer)


async def test_connections_of_one_client_are_bounded() -> None:
    """One connection too many is closed at once; the others live."""
    async with tcp(Resolver(a_judge()), idle=30) as place:
        opened = [await asyncio.open_connection(*place) for _ in range(MAX_CONNECTIONS_PER_CLIENT)]
        for reader, writer in opened:
            writer.write(framed(ask("bad.example")))
            await read_one(reader)
        reader, writer = await asyncio.open_connection(*place)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await read_one(reader)
        await hang_up(writer)
        for _, each in opened:
            await hang_up(each)


async def test_stopping_answers_what_is_on_its_way() -> None:
    """Queries that wait for an upstream when the server stops are still answered."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        await go.wait()
        return answer(query, ZONE)

    async with upstream(handle) as up:
        loop = asyncio.get_running_loop()
        async with serving(Resolver(a_judge(up.endpoint))) as places:
            waiting = loop.create_task(over_udp(places[0], ask("public.example")))
            await up.asked.wait()
            loop.call_soon(lambda: loop.call_soon(go.set))
        assert addresses((await waiting)[0]) == ["93.184.215.14"]


async def test_stopping_does_not_wait_for_ever() -> None:
    """What does not come in the time that is left is given up."""

    async def handle(_query: Message, _: str) -> Reply:
        await asyncio.Event().wait()
        return None

    async with upstream(handle) as up:
        async with serving(Resolver(a_judge(up.endpoint)), grace=0.05) as places:
            reader, writer = await dial(places[1])
            writer.write(framed(ask("n1.example")))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(ask("n2.example"), ("127.0.0.1", places[0].port))
            await turns_until(lambda: len(up.queries) == 2)
        assert await reader.read() == b""
        await hang_up(writer)


async def test_all_listeners_stop_at_once() -> None:
    """While one listener waits for what is on its way, the others take nothing new."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        await go.wait()
        return query.reply()

    def is_free(place: Endpoint) -> bool:
        with socket.socket() as sock:
            try:
                sock.bind((str(place.address), place.port))
            except OSError:
                return False
        return True

    ready: asyncio.Future[Sequence[Endpoint]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    async with upstream(handle) as up, asyncio.TaskGroup() as group:
        resolver = Resolver(a_judge(up.endpoint, timing=Timing(60.0, 60.0)))
        listen = [parse_endpoint("tcp://127.0.0.1:0")] * 2
        group.create_task(serve_resolver(resolver, listen, stop=stop, ready=ready.set_result, grace=60.0))
        first, last = await ready
        reader, writer = await dial(last)
        writer.write(framed(ask("public.example")))
        await up.asked.wait()
        stop.set()
        async with asyncio.timeout(10):
            while not is_free(first):  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0)
        go.set()
        await read_one(reader)
        await hang_up(writer)
        await resolver.close()


async def test_nothing_is_served_when_one_address_fails() -> None:
    """With one address in use, the others are released again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, socket.socket() as probe:
        other.bind(("127.0.0.1", 0))
        probe.bind(("127.0.0.1", 0))
        free, used = probe.getsockname()[1], other.getsockname()[1]
        probe.close()
        places = [parse_endpoint(f"tcp://127.0.0.1:{free}"), parse_endpoint(f"udp://127.0.0.1:{used}")]
        with pytest.raises(ListenError):
            await serve_resolver(Resolver(a_judge()), places, stop=asyncio.Event(), ready=lambda _: None)
        bind(places[0]).close()


async def test_errors_of_earlier_answers_do_not_stop_the_listener() -> None:
    """A client that closed its port before the answer came is no reason to stop reading."""
    async with serving(Resolver(a_judge()), ["udp://127.0.0.1:0"]) as places:
        for _ in range(5):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(ask("bad.example"), ("127.0.0.1", places[0].port))
        (reply,) = await over_udp(places[0], ask("bad.example"))
        assert parse(reply).header.rcode == RCODE.NXDOMAIN


async def test_every_address_of_the_host_answers_for_itself() -> None:
    """Listening on 0.0.0.0, an answer comes from the address that was asked, or a client would not hear it."""
    records = {"gw.example": (ip_address("10.0.0.1"),)}
    async with serving(Resolver(a_judge(records=records)), ["udp://0.0.0.0:0"]) as (place,):
        for address in ("127.0.0.1", "127.0.0.9"):
            (reply,) = await over_udp(place._replace(address=ip_address(address)), ask("gw.example"))
            assert addresses(reply) == ["10.0.0.1"]
