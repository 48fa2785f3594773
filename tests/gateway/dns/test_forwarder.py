"""Tests for gateway.dns.forwarder."""

import asyncio
import gc
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, A

from gateway.dns import forwarder as forwarder_module
from gateway.dns.cache import Key
from gateway.dns.channel import Lost
from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.forwarder import STALE_TTL, Forwarder, ResolutionError
from gateway.dns.message import Answer
from gateway.dns.settings import Endpoint, Settings, Timing
from tests.gateway.dns.support import PATIENT, Clock
from tests.peers.dns_upstream import Message, Reply, encrypted, upstream, zone
from tests.peers.tls_origin import make_certificate

ZONE = {
    "public.example": ["93.184.215.14", "2606:4700::1"],
    "alias.example": ["=public.example"],
}
PUBLIC = Key("public.example", QTYPE.A, False, False)


def a_forwarder(*upstreams: Endpoint, clock: Clock | None = None, **settings: Any) -> Forwarder:
    """Return a forwarder with upstreams and short time-outs."""
    return Forwarder(Settings(upstreams=upstreams, **{"timing": PATIENT, **settings}), clock or Clock())


async def find(forwarder: Forwarder, key: Key, clock: Clock) -> tuple[Answer, bool]:
    """Return an answer, from wherever it comes, and whether it has expired."""
    found = forwarder.at_hand(key, clock())
    return (found.answer, found.stale) if found else await forwarder.fetch(key)


def texts(answer: Answer) -> list[str]:
    """Return the addresses of an answer."""
    return [str(address) for address in answer.addresses]


async def test_what_was_fetched_is_at_hand() -> None:
    """An answer is fetched once, and at hand for every client until its TTL ends."""
    clock = Clock()
    async with upstream(zone(ZONE, ttl=100)) as up:
        forwarder = a_forwarder(up.endpoint, clock=clock)
        assert forwarder.at_hand(PUBLIC, clock()) is None
        answer, stale = await forwarder.fetch(PUBLIC)
        assert (texts(answer), stale) == (["93.184.215.14"], False)
        found = forwarder.at_hand(PUBLIC, clock())
        assert found is not None
        assert (found.answer, found.stored, found.fresh_until, found.stale) == (answer, 1000.0, 1100.0, False)
        assert forwarder.at_hand(PUBLIC, 1100.0) is None


async def test_identical_questions_are_asked_once() -> None:
    """Callers that wait for the same answer share one upstream query; CD and DO make another question."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        await go.wait()
        return query.reply()

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint)
        async with asyncio.TaskGroup() as group:
            same = [group.create_task(forwarder.fetch(PUBLIC)) for _ in range(20)]
            other = group.create_task(forwarder.fetch(PUBLIC._replace(dnssec_ok=True)))
            await up.asked.wait()
            go.set()
        assert {task.result()[0].rcode for task in (*same, other)} == {0}
        assert len(up.queries) == 2


async def test_a_caller_that_goes_away_does_not_take_the_answer_with_it() -> None:
    """Cancelling the first of two callers leaves the other's answer on its way."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        await go.wait()
        reply = query.reply()
        reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A("93.184.215.14"), ttl=9))
        return reply

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint)
        loop = asyncio.get_running_loop()
        first = loop.create_task(forwarder.fetch(PUBLIC))
        await up.asked.wait()
        second = loop.create_task(forwarder.fetch(PUBLIC))
        await asyncio.sleep(0)
        first.cancel()
        go.set()
        assert texts((await second)[0]) == ["93.184.215.14"]
        assert len(up.queries) == 1


async def test_closing_gives_up_what_is_on_its_way() -> None:
    """Closing a forwarder cancels who waits for upstreams."""

    async def handle(_query: Message, _: str) -> Reply:
        await asyncio.Event().wait()
        return None

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint, timing=Timing(60.0, 60.0))
        waiting = asyncio.get_running_loop().create_task(forwarder.fetch(PUBLIC))
        await up.asked.wait()
        await forwarder.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting


# -- lookup: for the proxy -----------------------------------------------------------------------------------------


async def test_lookup_returns_both_families_and_the_chain() -> None:
    """The proxy gets every address of a name, IPv4 first, with the names on the way."""
    async with upstream(zone(ZONE)) as up:
        forwarder = a_forwarder(up.endpoint)
        found = await forwarder.lookup("alias.example")
        assert [str(address) for address in found.addresses] == ["93.184.215.14", "2606:4700::1"]
        assert (found.chain, found.trusted) == (("public.example",), False)
        again = await forwarder.lookup("alias.example", families=(6,))
        assert [str(address) for address in again.addresses] == ["2606:4700::1"]
        assert len(up.queries) == 2


async def test_lookup_survives_one_failing_family() -> None:
    """An upstream that fails on AAAA does not hide the A records."""

    def handle(query: Message, protocol: str) -> Reply:
        if query.q.qtype == QTYPE.AAAA:
            reply = query.reply()
            reply.header.rcode = RCODE.SERVFAIL
            return reply
        return zone(ZONE)(query, protocol)

    async with upstream(handle) as up:
        found = await a_forwarder(up.endpoint).lookup("public.example")
        assert [str(address) for address in found.addresses] == ["93.184.215.14"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing.example", "does not exist"),
        ("printer", "single label"),
        ("abc.onion", "does not exist"),
    ],
)
async def test_lookup_says_why_not(name: str, text: str) -> None:
    """A name without addresses raises ResolutionError with the cause."""
    async with upstream(zone(ZONE)) as up:
        with pytest.raises(ResolutionError, match=text):
            await a_forwarder(up.endpoint).lookup(name)
    with pytest.raises(ResolutionError, match="no upstream to ask"):
        await a_forwarder().lookup("public.example")


async def test_lookup_knows_local_names() -> None:
    """Configured records, `localhost` and forward zones hold for the proxy as well, even single labels."""
    async with upstream(zone({"host.corp.test": ["10.9.8.7"]})) as up:
        forwarder = a_forwarder(records={"gw": (ip_address("10.0.0.1"),)}, forward={"corp.test": (up.endpoint,)})
        assert [str(a) for a in (await forwarder.lookup("gw")).addresses] == ["10.0.0.1"]
        assert [str(a) for a in (await forwarder.lookup("localhost")).addresses] == ["127.0.0.1", "::1"]
        found = await forwarder.lookup("host.corp.test")
        assert (found.trusted, [str(a) for a in found.addresses]) == (True, ["10.9.8.7"])


# -- failures, expired answers, renewal ----------------------------------------------------------------------------


async def test_a_failure_is_kept_for_a_moment() -> None:
    """After a failure the upstreams are left alone for that question, longer each time; an answer ends that."""
    fails = True

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply()
        if fails:
            reply.header.rcode = RCODE.SERVFAIL
        else:
            reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A("93.184.215.14"), ttl=60))
        return reply

    async with upstream(handle) as up:
        clock = Clock()
        forwarder = a_forwarder(up.endpoint, clock=clock)

        async def outcome(key: Key = PUBLIC) -> int | Failure:
            try:
                return int((await find(forwarder, key, clock))[0].rcode)
            except UpstreamError as error:
                return error.failure

        for wait in (1, 2, 4, 8, 16, 30, 30):
            asked = len(up.queries)
            assert [await outcome() for _ in range(3)] == [Failure.RCODE] * 3
            assert len(up.queries) == asked + 1
            clock.now += wait - 0.1
            assert await outcome() == Failure.RCODE
            assert len(up.queries) == asked + 1
            clock.now += 0.2
        fails = False
        assert await outcome(PUBLIC._replace(name="other.example")) == RCODE.NOERROR
        assert await outcome() == RCODE.NOERROR
        fails = True
        clock.now += 61
        assert await outcome() == Failure.RCODE
        clock.now += 1.1
        fails = False
        assert await outcome() == RCODE.NOERROR


async def test_failures_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures of ever new names push out the oldest, and no more are kept than were meant to be."""
    monkeypatch.setattr(forwarder_module, "_FAILURES_KEPT", 2)

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply()
        reply.header.rcode = RCODE.REFUSED
        return reply

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint)
        for name in ("a.example", "b.example", "c.example", "c.example", "b.example", "a.example"):
            with pytest.raises(UpstreamError):
                await forwarder.fetch(PUBLIC._replace(name=name))
        assert up.names == ["a.example", "b.example", "c.example", "a.example"]


async def test_a_failure_is_gone_when_it_has_been_told() -> None:
    """Nothing of it is left to the garbage collector, which stops everything for the longer, the more there is."""

    def left() -> int:
        return sum(type(each) is UpstreamError for each in gc.get_objects())

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply()
        reply.header.rcode = RCODE.REFUSED  # that is not logged: pytest keeps what is
        return reply

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint)
        gc.collect()
        gc.disable()
        try:
            before, told = left(), []
            for name in ("a.example", "b.example", "b.example"):
                try:  # `pytest.raises` would keep it
                    await forwarder.fetch(PUBLIC._replace(name=name))
                except UpstreamError as error:
                    told.append(str(error))
            await asyncio.sleep(0)
            assert left() == before
            assert len(told) == 3
        finally:
            gc.enable()


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_connection_that_fails_is_gone_when_it_has_been_told(*, refuses: bool) -> None:
    """Neither what a server says that ends connections, nor one that takes none, is left to the garbage collector."""

    def left() -> int:
        return sum(type(each) in (UpstreamError, Lost) for each in gc.get_objects())

    def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(end, "127.0.0.1", 0)
    place = Endpoint("tcp", ip_address("127.0.0.1"), server.sockets[0].getsockname()[1])
    if refuses:
        server.close()
        await server.wait_closed()
    forwarder = a_forwarder(place)
    gc.collect()
    gc.disable()
    try:
        before, told = left(), []
        for number in range(2):  # after more, it rests, which is logged: pytest keeps what is
            try:
                await forwarder.fetch(PUBLIC._replace(name=f"{number}.example"))
            except UpstreamError as error:
                told.append(str(error))
        await asyncio.sleep(0)
        assert left() == before
        assert len(told) == 2
    finally:
        gc.enable()
        server.close()
        await forwarder.close()


async def test_expired_answers_help_out_when_upstreams_are_slow() -> None:
    """Nobody waits for an upstream longer than clients are patient, if there is an expired answer; and the next
    caller does not wait at all.
    """
    clock, stuck = Clock(), asyncio.Event()

    async def handle(query: Message, protocol: str) -> Reply:
        if clock.now > 1000:
            await stuck.wait()
        return zone(ZONE, ttl=100)(query, protocol)

    async with upstream(handle) as up:
        timing = Timing(60.0, 60.0, stale=0.05)
        forwarder = a_forwarder(up.endpoint, clock=clock, serve_stale=3600, timing=timing)
        await forwarder.fetch(PUBLIC)
        clock.now += 200
        assert forwarder.at_hand(PUBLIC, clock()) is None
        answer, stale = await forwarder.fetch(PUBLIC)
        assert (texts(answer), answer.ttl, stale) == (["93.184.215.14"], STALE_TTL, True)
        found = forwarder.at_hand(PUBLIC, clock())
        assert found is not None
        assert (texts(found.answer), found.stale) == (["93.184.215.14"], True)
        stuck.set()
        await forwarder.close()


async def test_no_expired_answer_unless_asked_for() -> None:
    """Without `serve_stale`, a failure is a failure."""
    clock, asked = Clock(), 0

    def handle(query: Message, protocol: str) -> Reply:
        nonlocal asked
        asked += 1
        return zone(ZONE, ttl=100)(query, protocol) if asked == 1 else b"?"

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint, clock=clock)
        await forwarder.fetch(PUBLIC)
        clock.now += 200
        with pytest.raises(UpstreamError):
            await forwarder.fetch(PUBLIC)


async def test_hot_names_are_renewed_before_they_expire() -> None:
    """A name in use is asked for in the last tenth of its time, without a caller that waits for it."""
    clock = Clock()
    async with upstream(zone(ZONE, ttl=100)) as up:
        forwarder = a_forwarder(up.endpoint, clock=clock, prefetch=True)
        for now in (0, 1, 2, 50, 89):
            clock.now = 1000.0 + now
            await find(forwarder, PUBLIC, clock)
        assert len(up.queries) == 1
        clock.now = 1095.0
        for _ in range(5):
            assert forwarder.at_hand(PUBLIC, clock()) is not None
        async with asyncio.timeout(5):
            while len(up.queries) < 2:  # noqa: ASYNC110 -- nothing sets an event there
                await asyncio.sleep(0)
        clock.now = 1101.0
        answer, stale = await find(forwarder, PUBLIC, clock)
        assert (texts(answer), stale) == (["93.184.215.14"], False)
        assert len(up.queries) == 2


async def test_a_renewed_answer_takes_over_at_once() -> None:
    """While an answer is renewed the old one may be given and not kept elsewhere; then there is only the new one. If
    the renewal fails, the old one counts to its end.
    """
    clock, addresses, go = Clock(), ["93.184.215.14"], asyncio.Event()

    async def handle(query: Message, protocol: str) -> Reply:
        if len(up.queries) == 2:
            await go.wait()
        return zone({"public.example": addresses}, ttl=100)(query, protocol) if addresses else b"?"

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint, clock=clock, prefetch=True, timing=Timing(0.2, 0.2))
        await forwarder.fetch(PUBLIC)
        for _ in range(2):
            found = forwarder.at_hand(PUBLIC, clock())
            assert (found and found.fresh_until) == 1090
        addresses[:] = ["93.184.215.99"]
        clock.now = 1095.0
        for _ in range(2):
            found = forwarder.at_hand(PUBLIC, clock())
            assert found is not None
            assert (texts(found.answer), found.fresh_until) == (["93.184.215.14"], clock.now)
        go.set()
        await idle(forwarder)
        found = forwarder.at_hand(PUBLIC, clock())
        assert found is not None
        assert (texts(found.answer), found.stored, found.fresh_until) == (["93.184.215.99"], 1095.0, 1185.0)
        forwarder.at_hand(PUBLIC, clock())
        addresses.clear()
        clock.now = 1190.0
        forwarder.at_hand(PUBLIC, clock())
        await idle(forwarder)
        found = forwarder.at_hand(PUBLIC, clock())
        assert (found and found.fresh_until) == 1195.0


async def idle(forwarder: Forwarder) -> None:
    """Wait until nothing is on its way."""
    async with asyncio.timeout(5):
        while forwarder.is_busy:  # noqa: ASYNC110 -- nothing sets an event there
            await asyncio.sleep(0)


async def test_a_retired_forwarder_lets_go_of_its_upstreams() -> None:
    """Once another configuration is in force, connections stay while somebody waits, and not a moment longer."""
    go = asyncio.Event()

    async def handle(query: Message, protocol: str) -> Reply:
        if query.q.qname.label[0] == b"slow":
            await go.wait()
        return zone(ZONE)(query, protocol)

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint._replace(scheme="tcp"))
        await forwarder.fetch(PUBLIC)
        assert forwarder.connections == 1
        slow = asyncio.get_running_loop().create_task(forwarder.fetch(PUBLIC._replace(name="slow.example")))
        await asyncio.sleep(0)
        forwarder.retire()
        assert (forwarder.connections, forwarder.is_busy) == (1, True)
        go.set()
        assert (await slow)[0].rcode == RCODE.NXDOMAIN
        await idle(forwarder)
        assert forwarder.connections == 0
        assert texts((await forwarder.fetch(PUBLIC))[0]) == ["93.184.215.14"]  # who came too late for the news
        await idle(forwarder)
        assert forwarder.connections == 0


@pytest.mark.parametrize("scheme", ["tls", "https"])
async def test_upstreams_are_believed_by_the_authorities_named(
    scheme: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An upstream whose certificate comes from `upstream_ca` is asked; with another authority, or the system's, it
    gets no question.
    """
    folder = tmp_path_factory.mktemp("tls")
    ours, others = (make_certificate(folder / f"{name}.pem", "dns.test") for name in ("ours", "others"))
    async with encrypted(zone(ZONE), ours, scheme) as up:
        forwarder = a_forwarder(up.endpoint, upstream_ca=ours.read_text())
        assert texts((await forwarder.fetch(PUBLIC))[0]) == ["93.184.215.14"]
        await forwarder.close()
        asked = len(up.queries)
        for text in (others.read_text(), ""):
            forwarder = a_forwarder(up.endpoint, upstream_ca=text)
            with pytest.raises(UpstreamError, match="certificate refused"):
                await forwarder.fetch(PUBLIC)
            await forwarder.close()
        assert len(up.queries) == asked == 1


async def test_forward_zones_believe_the_same_authorities(tmp_path: Path) -> None:
    """The upstreams of a zone are verified as all others are."""
    ours = make_certificate(tmp_path / "ours.pem", "dns.test")
    async with encrypted(zone({"host.corp.test": ["10.9.8.7"]}), ours) as up:
        forwarder = a_forwarder(forward={"corp.test": (up.endpoint,)}, upstream_ca=ours.read_text())
        assert [str(a) for a in (await forwarder.lookup("host.corp.test")).addresses] == ["10.9.8.7"]
        await forwarder.close()


async def test_the_memory_of_the_cache_is_bounded() -> None:
    """What the configuration says about the cache's memory is what the cache does."""
    async with upstream(zone({f"n{number}.example": ["93.184.215.14"] for number in range(20)})) as up:
        forwarder = a_forwarder(up.endpoint, cache_memory=8000)
        keys = [PUBLIC._replace(name=f"n{number}.example") for number in range(20)]
        for key in keys:
            await forwarder.fetch(key)
        kept = [key for key in keys if forwarder.at_hand(key, 1000.0)]
        assert 0 < len(kept) < 12
        assert kept == keys[-len(kept) :]


async def test_questions_on_their_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One question too many is turned away at once and not remembered as failed; who asks the same may wait along,
    and nothing is renewed early while many wait.
    """
    monkeypatch.setattr(forwarder_module, "MAX_OUTSTANDING", 2)
    monkeypatch.setattr(forwarder_module, "MAX_PREFETCH", 1)
    clock, go = Clock(), asyncio.Event()

    async def handle(query: Message, protocol: str) -> Reply:
        if query.q.qname != "public.example":
            await go.wait()
        return zone(ZONE, ttl=100)(query, protocol)

    async with upstream(handle) as up:
        forwarder = a_forwarder(up.endpoint, clock=clock, prefetch=True)
        await forwarder.fetch(PUBLIC)
        loop = asyncio.get_running_loop()
        names = ("a.example", "b.example", "b.example")
        waiting = [loop.create_task(forwarder.fetch(PUBLIC._replace(name=name))) for name in names]
        await asyncio.sleep(0)
        third = PUBLIC._replace(name="c.example")
        with pytest.raises(UpstreamError, match="too many") as caught:
            await forwarder.fetch(third)
        assert caught.value.failure is Failure.NONE_LEFT
        clock.now += 95
        for _ in range(5):
            assert forwarder.at_hand(PUBLIC, clock()) is not None
        go.set()
        assert {(await task)[0].rcode for task in waiting} == {RCODE.NXDOMAIN}
        assert sorted(up.names) == ["a.example", "b.example", "public.example"]
        assert (await forwarder.fetch(third))[0].rcode == RCODE.NXDOMAIN


async def test_absence_is_kept_as_rfc_2308_says() -> None:
    """NXDOMAIN counts for every type of the name, NODATA for its own; both no longer than the SOA says, and not at
    all without one.
    """
    soa = "example 90 IN SOA ns.example a.example 1 60 60 60 120"

    def handle(query: Message, _: str) -> Reply:
        name = str(query.q.qname).lower()
        reply = query.reply()
        if name.startswith("missing"):
            reply.header.rcode = RCODE.NXDOMAIN
        if not name.startswith("bare"):
            reply.add_auth(*RR.fromZone(soa))
        return reply

    async with upstream(handle) as up:
        clock = Clock()
        forwarder = a_forwarder(up.endpoint, clock=clock)

        async def asked(name: str, qtype: int) -> bool:
            before = len(up.queries)
            await find(forwarder, Key(name, qtype, False, False), clock)
            return len(up.queries) > before

        missing, empty, bare = "missing.example", "empty.example", "bare.example"
        assert [await asked(missing, QTYPE.A), await asked(missing, QTYPE.AAAA)] == [True, False]
        assert [await asked(empty, QTYPE.A), await asked(empty, QTYPE.A), await asked(empty, 28)] == [
            True,
            False,
            True,
        ]
        assert [await asked(bare, QTYPE.A), await asked(bare, QTYPE.A)] == [True, True]
        clock.now += 89.9
        assert [await asked(missing, QTYPE.TXT), await asked(empty, QTYPE.A)] == [False, False]
        clock.now += 0.2
        assert [await asked(missing, QTYPE.TXT), await asked(empty, QTYPE.A)] == [True, True]


async def test_who_asks_as_a_forwarder_retires_is_answered() -> None:
    """A question that is asked before the connections to upstreams are closed keeps them until it is answered."""
    async with upstream(zone(ZONE)) as up:
        forwarder = a_forwarder(up.endpoint)
        loop = asyncio.get_running_loop()
        loop.call_soon(forwarder.retire)  # another configuration is put in force as the look-up has just begun
        async with asyncio.timeout(5):
            assert [str(a) for a in (await forwarder.lookup("public.example", families=[4])).addresses]
        await idle(forwarder)
        assert forwarder.connections == 0
