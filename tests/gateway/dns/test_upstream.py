"""Tests for gateway.dns.upstream: upstreams that fail, and upstreams that lie."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from dnslib import NS, QTYPE, RCODE, RR, A

from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.message import encode_name
from gateway.dns.settings import Endpoint, Timing, parse_endpoint
from gateway.dns.upstream import Pool, Question
from tests.peers.dns_upstream import Handle, Message, Reply, upstream

QUESTION = Question(encode_name("www.example.com"), 1)
PATIENT = Timing(attempt=0.3, total=2.0)


def good(query: Message, address: str = "93.184.215.14") -> Message:
    """Return an honest answer."""
    reply = query.reply()
    reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(address), ttl=60))
    return reply


def honest(query: Message, _: str) -> Reply:
    """Answer."""
    return good(query)


def rcode(code: int) -> Handle:
    """Return a handler that answers an error."""

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply()
        reply.header.rcode = code
        return reply

    return handle


def changed(change: Callable[[bytearray], None]) -> Callable[[Message], bytes]:
    """Return a forger that changes octets of an answer with another address."""

    def forge(query: Message) -> bytes:
        data = bytearray(good(query, "6.6.6.6").pack())
        change(data)
        return bytes(data)

    return forge


def _id(data: bytearray) -> None:
    data[0] ^= 0xFF


def _not_a_response(data: bytearray) -> None:
    data[2] &= 0x7F


def _opcode(data: bytearray) -> None:
    data[2] |= 0x28


def _name(data: bytearray) -> None:
    data[13] = ord("x")


def _type(data: bytearray) -> None:
    data[12 + 17 + 1] = 28


def _class(data: bytearray) -> None:
    data[12 + 17 + 3] = 3


def _no_question(data: bytearray) -> None:
    data[5] = 0


async def ask(*endpoints: Endpoint, strategy: Any = "ordered", timing: Timing = PATIENT) -> str:
    """Ask a pool and return the address in the answer."""
    pool = Pool(endpoints, strategy, timing)
    try:
        response = await pool.ask(QUESTION)
    finally:
        await pool.close()
    return ".".join(str(octet) for octet in response.answers[0].rdata)


LIES = [_id, _not_a_response, _opcode, _name, _type, _class, _no_question]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__.strip("_"))
async def test_a_forged_reply_before_the_real_one_is_ignored(lie: Callable[[bytearray], None]) -> None:
    """A reply with anything wrong in header or question is as if it had never come."""
    async with upstream(lambda query, _: [changed(lie)(query), good(query)]) as up:
        assert await ask(up.endpoint) == "93.184.215.14"
        assert len(up.queries) == 1


async def test_many_strays_send_the_query_over_tcp() -> None:
    """Somebody who guesses ids gets a few guesses; then the query goes where guessing does not help."""

    def handle(query: Message, protocol: str) -> Reply:
        return [changed(_id)(query)] * 50 if protocol == "udp" else good(query)

    async with upstream(handle) as up:
        assert await ask(up.endpoint) == "93.184.215.14"
        assert [protocol for _, protocol in up.queries] == ["udp", "tcp"]


async def test_an_answer_sent_twice_counts_once() -> None:
    """The second copy of an answer changes nothing."""
    async with upstream(lambda query, _: [good(query), good(query)]) as up:
        assert await ask(up.endpoint) == "93.184.215.14"


async def test_ids_ports_and_letter_case_differ() -> None:
    """Every query has an id, a source port and a letter case that nobody can foretell."""
    async with upstream(honest) as up:
        pool = Pool([up.endpoint], "ordered", PATIENT)
        for _ in range(30):
            await pool.ask(QUESTION)
        assert len({packet[:2] for packet in up.packets}) > 25
        assert len(set(up.ports)) > 25
        assert len({packet[12:28] for packet in up.packets}) > 25
        assert len({packet[12:28].lower() for packet in up.packets}) == 1


async def test_queries_carry_nothing_of_the_client() -> None:
    """What goes out is the question, and an OPT record of our own without options."""
    async with upstream(honest) as up:
        question = QUESTION._replace(dnssec_ok=True, checking_disabled=True)
        await Pool([up.endpoint], "ordered", PATIENT).ask(question)
        query, _ = up.queries[0]
        assert (query.header.rd, query.header.cd, len(query.ar)) == (1, 1, 1)
        assert (query.ar[0].edns_do, query.ar[0].edns_len, query.ar[0].rdata) == (1, 1232, [])


async def test_truncation_leads_to_tcp() -> None:
    """An answer with TC=1 is fetched again over TCP."""

    def handle(query: Message, protocol: str) -> Reply:
        reply = good(query, "93.184.215.99")
        if protocol == "udp":
            reply = query.reply()
            reply.header.tc = 1
        return reply

    async with upstream(handle) as up:
        assert await ask(up.endpoint) == "93.184.215.99"
        assert [protocol for _, protocol in up.queries] == ["udp", "tcp"]


async def test_tcp_upstreams() -> None:
    """An upstream given as tcp:// is never asked over UDP."""
    async with upstream(honest) as up:
        assert await ask(up.endpoint._replace(scheme="tcp")) == "93.184.215.14"
        assert [protocol for _, protocol in up.queries] == ["tcp"]


async def test_an_upstream_that_does_not_repeat_letter_case() -> None:
    """Another letter case is believed over TCP only; from then on such an upstream is asked in lower case."""

    def handle(query: Message, _: str) -> Reply:
        data = bytearray(good(query).pack())
        data[12:28] = bytes(data[12:28]).lower()
        return bytes(data)

    async with upstream(handle) as up:
        pool = Pool([up.endpoint], "ordered", PATIENT)
        for _ in range(4):
            response = await pool.ask(QUESTION)
            assert response.answers
        # A name in all lower case comes up by chance once in 8192 times.
        assert [protocol for _, protocol in up.queries] == ["udp", "tcp", "udp", "udp", "udp"]


async def test_an_upstream_without_edns() -> None:
    """FORMERR without OPT is answered with a query as of 1987."""

    def handle(query: Message, _: str) -> Reply:
        return rcode(RCODE.FORMERR)(query, "") if query.ar else good(query)

    async with upstream(handle) as up:
        assert await ask(up.endpoint) == "93.184.215.14"


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_that_an_upstream_knows_no_edns_is_remembered_for_a_while(scheme: str) -> None:
    """One that answers without EDNS only is asked so from then on; after an hour it is seen whether it has learnt."""

    def handle(query: Message, _: str) -> Reply:
        return rcode(RCODE.NOTIMP)(query, "") if query.ar else good(query)

    async with upstream(handle) as up:
        pool = Pool([up.endpoint._replace(scheme=scheme)], "ordered", PATIENT)
        for _ in range(3):
            await pool.ask(QUESTION)
        assert [bool(query.ar) for query, _ in up.queries] == [True, False, False, False]
        pool.upstreams[0].plain_until -= 3600
        await pool.ask(QUESTION)
        assert [bool(query.ar) for query, _ in up.queries[4:]] == [True, False]
        await pool.close()


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
@pytest.mark.parametrize("code", [RCODE.FORMERR, RCODE.NOTIMP])
async def test_a_question_that_is_turned_away_costs_nobody_else_edns(code: int, scheme: str) -> None:
    """An upstream that turns a question away with EDNS and without it, is asked the next one with EDNS again."""

    def handle(query: Message, _: str) -> Reply:
        return good(query) if query.q.qtype == QTYPE.A else rcode(code)(query, "")

    async with upstream(handle) as up:
        pool = Pool([up.endpoint._replace(scheme=scheme)], "ordered", PATIENT)
        with pytest.raises(UpstreamError):
            await pool.ask(QUESTION._replace(qtype=QTYPE.MX))
        await pool.ask(QUESTION._replace(dnssec_ok=True))
        assert [bool(query.ar) for query, _ in up.queries] == [True, False, True]
        await pool.close()


async def silent(_query: Message, _: str) -> Reply:
    """Never answer."""
    await asyncio.Event().wait()
    return None


def garbage(query: Message, _: str) -> Reply:
    """Answer with the right header and question, and nonsense behind."""
    data = bytearray(good(query).pack())
    data[7] = 9
    return bytes(data)


def closing(query: Message, protocol: str) -> Reply:
    """Truncate over UDP and close the connection over TCP."""
    if protocol == "tcp":
        return None
    reply = query.reply()
    reply.header.tc = 1
    return reply


def referral(query: Message, _: str) -> Reply:
    """Answer where else to ask."""
    reply = query.reply()
    reply.header.aa = 0
    reply.add_auth(RR("example", QTYPE.NS, rdata=NS("ns.example"), ttl=60))
    return reply


def incurious(query: Message, _: str) -> Reply:
    """Answer nothing, without asking anybody."""
    reply = query.reply()
    reply.header.aa, reply.header.ra = 0, 0
    return reply


BAD: list[tuple[str, Handle]] = [
    ("a referral", referral),
    ("not recursive", incurious),
    ("servfail", rcode(RCODE.SERVFAIL)),
    ("refused", rcode(RCODE.REFUSED)),
    ("notimp", rcode(RCODE.NOTIMP)),
    ("silent", silent),
    ("garbage", garbage),
    ("closing", closing),
]


@pytest.mark.parametrize("handle", [row[1] for row in BAD], ids=[row[0] for row in BAD])
@pytest.mark.parametrize("strategy", ["ordered", "fastest", "parallel"])
async def test_failover(handle: Handle, strategy: str) -> None:
    """When an upstream fails, in whatever way, the next one answers."""
    async with upstream(handle) as bad, upstream(honest) as fine:
        assert await ask(bad.endpoint, fine.endpoint, strategy=strategy) == "93.184.215.14"


@pytest.mark.parametrize(
    ("aa", "ra", "authority"),
    [
        pytest.param(0, 1, None, id="NODATA of a resolver without an SOA"),
        pytest.param(1, 0, None, id="NODATA of the zone itself"),
        pytest.param(0, 0, "example 60 IN SOA ns.example a.example 1 2 3 4 5", id="NODATA with an SOA"),
        pytest.param(1, 0, "example 60 IN NS ns.example", id="NODATA of the zone, with its servers"),
    ],
)
async def test_absence_is_not_taken_for_lameness(aa: int, ra: int, authority: str | None) -> None:
    """An answer without records stands where it means that there are none (RFC 2308 section 2.2)."""

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply()
        reply.header.aa, reply.header.ra = aa, ra
        if authority is not None:
            reply.add_auth(*RR.fromZone(authority))
        return reply

    async with upstream(handle) as up, upstream(honest) as other:
        pool = Pool([up.endpoint, other.endpoint], "ordered", PATIENT)
        found = await pool.ask(Question(encode_name("www.example"), 1))
        assert (found.rcode, found.answers, other.queries) == (0, (), [])
        await pool.close()


async def test_failover_from_a_closed_port() -> None:
    """An upstream that is not there costs no time-out."""
    async with upstream(honest) as gone:
        endpoint = gone.endpoint
    async with upstream(honest) as fine:
        assert await ask(endpoint, fine.endpoint, timing=Timing(30, 60)) == "93.184.215.14"


@pytest.mark.parametrize(
    ("handle", "failure"),
    [(rcode(RCODE.SERVFAIL), Failure.RCODE), (silent, Failure.TIMEOUT), (garbage, Failure.MALFORMED)],
    ids=["rcode", "timeout", "malformed"],
)
async def test_when_all_fail_the_error_says_how(handle: Handle, failure: Failure) -> None:
    """The error of the last upstream is the one that is told."""
    async with upstream(handle) as up:
        with pytest.raises(UpstreamError) as caught:
            await ask(up.endpoint)
        assert caught.value.failure is failure
        assert len(up.queries) == (2 if failure is Failure.TIMEOUT else 1)


async def test_a_failing_upstream_is_rested() -> None:
    """After three failures in a row an upstream is asked last, and first again after it has answered."""
    async with upstream(silent) as bad, upstream(honest) as fine:
        pool = Pool([bad.endpoint, fine.endpoint], "ordered", Timing(0.2, 2.0))
        for _ in range(6):
            await pool.ask(QUESTION)
        assert (len(bad.queries), len(fine.queries)) == (3, 6)


async def test_resting_upstreams_are_better_than_none() -> None:
    """When every upstream rests, they are asked all the same."""
    async with upstream(honest) as up:
        pool = Pool([up.endpoint], "ordered", PATIENT)
        pool.upstreams[0].rests_until = float("inf")
        assert (await pool.ask(QUESTION)).answers
        assert pool.upstreams[0].rests_until == 0


async def test_the_fastest_is_asked_most() -> None:
    """The upstream with the shortest time to answer gets nearly all queries."""
    async with upstream(honest) as slow, upstream(honest) as quick:
        pool = Pool([slow.endpoint, quick.endpoint], "fastest", PATIENT)
        pool.upstreams[0].rtt, pool.upstreams[1].rtt = 0.5, 0.0001
        for _ in range(60):
            await pool.ask(QUESTION)
            pool.upstreams[0].rtt, pool.upstreams[1].rtt = 0.5, 0.0001
        assert len(quick.queries) > 45


async def test_parallel_takes_the_first_answer() -> None:
    """In parallel, a silent upstream does not delay the answer of another."""
    async with upstream(silent) as bad, upstream(honest) as fine:
        assert await ask(bad.endpoint, fine.endpoint, strategy="parallel", timing=Timing(30, 60)) == "93.184.215.14"


async def test_no_upstream_at_all() -> None:
    """An empty pool says so."""
    with pytest.raises(UpstreamError, match="no upstream to ask"):
        await ask()


async def test_an_unreachable_network_is_a_network_failure() -> None:
    """An address that cannot even be sent to is reported as such."""
    with pytest.raises(UpstreamError) as caught:
        await ask(parse_endpoint("udp://255.255.255.255:53"))
    assert caught.value.failure is Failure.NETWORK


async def test_one_query_alone_finds_out_whether_a_rest_helped() -> None:
    """When a rest is over, one query goes to the upstream; until it is answered, others go elsewhere."""
    async with upstream(silent) as bad, upstream(honest) as fine:
        pool = Pool([bad.endpoint, fine.endpoint], "ordered", Timing(0.2, 2.0))
        pool.upstreams[0].failures = 3
        await asyncio.gather(*(pool.ask(QUESTION) for _ in range(5)))
        assert (len(bad.queries), len(fine.queries)) == (1, 5)


async def test_parallel_leaves_those_alone_that_rest() -> None:
    """In parallel, an upstream that rests is not asked while another is awake."""
    async with upstream(honest) as resting, upstream(honest) as awake:
        pool = Pool([resting.endpoint, awake.endpoint], "parallel", PATIENT)
        pool.upstreams[0].rests_until = float("inf")
        assert (await pool.ask(QUESTION)).answers
        assert (len(resting.queries), len(awake.queries)) == (0, 1)


async def test_parallel_tells_the_last_error() -> None:
    """In parallel, one failure is not the end; when all have failed, the last error is told."""
    async with upstream(rcode(RCODE.SERVFAIL)) as first, upstream(rcode(RCODE.REFUSED)) as second:
        with pytest.raises(UpstreamError) as caught:
            await ask(first.endpoint, second.endpoint, strategy="parallel")
        assert caught.value.failure is Failure.RCODE
        assert (len(first.queries), len(second.queries)) == (1, 1)


async def test_one_that_refuses_everything_is_rested() -> None:
    """A few errors may be about the names; one that never gives anything else is asked last."""
    async with upstream(rcode(RCODE.REFUSED)) as lame, upstream(honest) as fine:
        pool = Pool([lame.endpoint, fine.endpoint], "ordered", PATIENT)
        for _ in range(20):
            await pool.ask(QUESTION)
        assert (len(lame.queries), len(fine.queries)) == (13, 20)


async def test_names_with_malformed_answers_rest_nobody() -> None:
    """What the owner of a name says in it is not the upstream's fault: the first in order stays the first."""

    def handle(query: Message, protocol: str) -> Reply:
        return good(query) if query.q.qtype == QTYPE.A else garbage(query, protocol)

    async with upstream(handle) as first, upstream(rcode(RCODE.NXDOMAIN)) as second:
        pool = Pool([first.endpoint, second.endpoint], "ordered", PATIENT)
        for _ in range(4):
            await pool.ask(QUESTION._replace(qtype=QTYPE.HTTPS))
        assert (await pool.ask(QUESTION)).answers
        assert [len(each.queries) for each in (first, second)] == [5, 4]
        await pool.close()


async def test_to_refuse_quickly_is_not_to_be_fastest() -> None:
    """An upstream that has only ever said no is not the first to be asked."""
    async with upstream(rcode(RCODE.SERVFAIL)) as lame, upstream(honest) as fine:
        pool = Pool([lame.endpoint, fine.endpoint], "fastest", PATIENT)
        for _ in range(20):
            await pool.ask(QUESTION)
        assert len(lame.queries) < 10


async def test_an_answer_that_breaks_the_reader_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an exception that nobody thought of ends the query with an error."""

    def broken(_: bytes) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("gateway.dns.upstream.read_response", broken)
    async with upstream(honest) as up:
        for endpoint in (up.endpoint, up.endpoint._replace(scheme="tcp")):
            with pytest.raises(UpstreamError, match="RuntimeError"):
                await ask(endpoint)


async def test_three_questions_of_one_stay_in_flight_together() -> None:
    """Queries do not wait for each other: all are on their way before the first is answered."""
    everybody = asyncio.Barrier(3)

    async def handle(query: Message, _: str) -> Reply:
        await everybody.wait()
        return good(query)

    async with upstream(handle) as up:
        pool = Pool([up.endpoint], "ordered", PATIENT)
        assert len(await asyncio.gather(*(pool.ask(QUESTION) for _ in range(3)))) == 3


async def test_what_was_on_its_way_counts_once() -> None:
    """A hundred queries that time out together send an upstream to rest for a second, and not for a minute."""
    async with upstream(silent) as bad, upstream(honest) as fine:
        pool = Pool([bad.endpoint, fine.endpoint], "ordered", Timing(0.2, 2.0))
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(pool.ask(QUESTION) for _ in range(100)))
        now = asyncio.get_running_loop().time()
        assert begun < pool.upstreams[0].rests_until <= now + 1.0


async def test_one_that_has_failed_for_ever_rests_no_longer_than_others() -> None:
    """After thousands of failures in a row too: each is an error, none breaks anything."""
    pool = Pool([parse_endpoint("udp://127.0.0.1:9")], "ordered", PATIENT)
    (dead,) = pool.upstreams
    for _ in range(3000):
        dead.failed(UpstreamError(Failure.NETWORK, "refused"), 100.0, 100.0, 1.0)
    assert 100.0 < dead.rests_until <= 200.0
    await dead.close()


async def test_the_log_is_not_told_of_each_rest(caplog: pytest.LogCaptureFixture) -> None:
    """Clients may ask for names that nobody answers for as often as they like: that is one line a minute."""
    pool = Pool([parse_endpoint("udp://127.0.0.1:9")], "ordered", PATIENT)
    (slow,) = pool.upstreams
    for now in range(100, 160):
        for _ in range(3):
            slow.failed(UpstreamError(Failure.TIMEOUT, "silence"), now, now, 1.0)
        slow.answered(0.1)
    assert caplog.text.count("rests for") == 1
    for _ in range(3):
        slow.failed(UpstreamError(Failure.TIMEOUT, "silence"), 160.0, 160.0, 1.0)
    assert caplog.text.count("rests for") == 2
    await slow.close()
