"""Tests for gateway.dns.resolver."""

import asyncio
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, A, EDNSOption

from gateway.decision import Decision, Point, Reason, Verdict
from gateway.dns import forwarder as forwarder_module
from gateway.dns import misses
from gateway.dns.bailiwick import Limits
from gateway.dns.hot import Block, hot_key
from gateway.dns.misses import MAX_PER_CLIENT
from gateway.dns.records import parse_data
from gateway.dns.replies import Miss
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint, Timing, Tunnelling
from gateway.dns.transfer import RpzZone, Transfers
from gateway.request import DnsAnswer, DnsQuery, Request
from gateway.rule import Rule
from tests.gateway.dns.support import (
    BATCH,
    WEB,
    Clock,
    PolicyJudge,
    a_judge,
    a_policy,
    addresses,
    ask,
    ede,
    parse,
)
from tests.peers.dns_upstream import Message, Reply, upstream, zone

ZONE = {
    "www.example.com": ["192.0.2.1", "2001:db8::1"],
    "public.example": ["93.184.215.14", "2606:4700::1"],
    "alias.example": ["=public.example"],
    "cloaked.example": ["=tracker.bad.example"],
    "tracker.bad.example": ["93.184.215.15"],
    "rebind.example": ["127.0.0.1"],
    "mixed.example": ["93.184.215.14", "10.0.0.1"],
    "host.corp.test": ["10.9.8.7"],
}


async def test_an_allowed_name_is_answered() -> None:
    """An allowed name gets the upstream's answer with the client's id, question and case."""
    async with upstream(zone(ZONE)) as up:
        resolver = Resolver(a_judge(up.endpoint))
        reply = await resolver.answer(WEB, ask("PubLic.Example", ident=4711))
        assert addresses(reply) == ["93.184.215.14"]
        message = parse(reply)
        assert (message.header.id, str(message.q.qname)) == (4711, "PubLic.Example.")
        assert (message.header.ra, message.header.rd, message.header.aa) == (1, 1, 0)
        assert str(message.rr[0].rname) == "PubLic.Example."


@pytest.mark.parametrize("name", ["bad.example", "BAD.example", "x.Y.bad.EXAMPLE", "bad.example."])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_denied_name_causes_no_upstream_query(name: str, stream: bool) -> None:
    """A denied name is answered without asking anybody, in any spelling, over any transport."""
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint)
        resolver = Resolver(judge)
        for _ in range(3):
            reply = resolver.answer_now(WEB, ask(name), stream=stream)
            assert parse(reply).header.rcode == RCODE.NXDOMAIN
        assert up.queries == []
        assert judge.reasons == [Reason.LISTED] * 3


async def test_every_denial_is_recorded_and_its_id_given() -> None:
    """A repeated denial is counted each time for who asked, in a group of clients as well, who is told the id that
    finds its record."""
    judge = a_judge()
    resolver = Resolver(judge)
    peers = (WEB, WEB, BATCH, "10.1.0.8", WEB, "10.1.0.8", "10.1.0.8")
    texts = [ede(resolver.answer_now(peer, ask("bad.example"))) for peer in peers]
    assert texts == [(15, f"listed threats threats id=r{number}") for number in (1, 1, 3, 4, 1, 4, 4)]
    clients = [str(request.client.address) for request, _ in judge.records]
    assert clients == list(peers)


async def test_a_denial_is_recorded_anew_when_its_window_is_over() -> None:
    """Once the ledger no longer counts repeats of a denial, the next one is decided and recorded like a first."""
    judge = a_judge()
    resolver = Resolver(judge)
    for _ in range(3):
        resolver.answer_now(WEB, ask("bad.example"))
    entry = resolver._clients[WEB].view.get(hot_key(ask("bad.example"), 24))
    assert isinstance(entry, Block)
    assert len(judge.asked) == 2
    entry.repeats.open = False
    for _ in range(3):
        assert ede(resolver.answer_now(WEB, ask("bad.example"))) == (15, "listed threats threats id=r4")
        assert len(judge.asked) == 3


async def test_only_a_denial_that_came_again_is_kept() -> None:
    """Names that are denied once each, in whatever letters and of whatever type, leave nothing in the hot table; one
    that is repeated is there, and what it is answered with does not change by that."""
    resolver = Resolver(a_judge())
    for number in range(100):
        resolver.answer_now(WEB, ask(f"n{number}.bad.example"))
    assert resolver.standing().hot == 0
    for qtype in ("A", "HTTPS"):  # the letters of which are letters as well
        first, *others = (resolver.answer_now(WEB, ask("Bad.exAmple", qtype)) for _ in range(4))
        assert others == [first] * 3
    assert resolver.standing().hot == 2


async def test_what_a_listener_has_looked_for_is_answered_alike() -> None:
    """Told that a packet is not in the hot table, the resolver gives the answer that it gives otherwise, and finds it
    there when it was asked for in other letters."""
    records = {"gw.example": (ip_address("10.0.0.1"),)}
    judge = a_judge(records=records)
    resolver, other = (Resolver(each, clock=lambda: 5000.25) for each in (judge, a_judge(records=records)))
    answer = resolver.burst().answer
    for name in ("bad.example", "gw.example"):
        for _ in range(3):
            assert answer(WEB, ask(name), True) == other.answer_now(WEB, ask(name))
        asked = len(judge.asked)
        for letters in (name.upper(), name.title()):
            assert answer(WEB, ask(letters), True) == other.answer_now(WEB, ask(letters))
        assert len(judge.asked) == asked


async def test_no_extended_error_without_edns() -> None:
    """A client that sent no EDNS gets no OPT record."""
    assert parse(Resolver(a_judge()).answer_now(WEB, ask("bad.example", edns=False))).ar == []


async def test_the_cache_does_not_answer_for_a_denied_client() -> None:
    """An answer fetched by an allowed client is not served to a denied one, nor the other way round."""
    rule = Rule(name="not-for-batch", action=Verdict.DENY, clients=("batch",), domains=("public.example",))
    async with upstream(zone(ZONE)) as up:
        resolver = Resolver(a_judge(up.endpoint, policy=a_policy(rule)))
        for _ in range(3):
            assert addresses(await resolver.answer(WEB, ask("public.example"))) == ["93.184.215.14"]
            assert parse(await resolver.answer(BATCH, ask("public.example"))).header.rcode == RCODE.NXDOMAIN
        assert up.names == ["public.example"]


async def test_a_new_policy_counts_at_once() -> None:
    """A name answered from the fast path is denied as soon as the policy says so, and allowed again after that."""
    rule = Rule(name="no", action=Verdict.DENY, domains=("public.example",))
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint)
        resolver = Resolver(judge)
        before = judge.policy
        for policy, code in ((before, 0), (before, 0), (a_policy(rule), 3), (before, 0), (a_policy(rule), 3)):
            judge.policy = policy
            assert parse(await resolver.answer(WEB, ask("public.example"))).header.rcode == code
        assert len(up.queries) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("rebind.example", Reason.DNS_REBINDING, id="loopback"),
        pytest.param("mixed.example", Reason.DNS_REBINDING, id="private beside public"),
        pytest.param("host.corp.test", Reason.DNS_REBINDING, id="private without a forward zone"),
        pytest.param("cloaked.example", Reason.LISTED, id="CNAME to a listed name"),
    ],
)
async def test_answers_are_judged(name: str, reason: Reason) -> None:
    """An answer that points where the policy forbids is denied, fresh and from the cache."""
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint)
        resolver = Resolver(judge)
        for _ in range(3):
            reply = await resolver.answer(WEB, ask(name))
            assert parse(reply).header.rcode == RCODE.NXDOMAIN
            assert addresses(reply) == []
        assert judge.reasons == [reason] * 3
        assert len(up.queries) == 1


@pytest.mark.parametrize(
    ("rdata", "reason"),
    [
        (b"\0\1\0" + b"\0\4\0\4\x0a\0\0\1", Reason.DNS_REBINDING),
        (b"\0\1\0" + b"\0\6\0\x10" + b"\xfd" + bytes(14) + b"\1", Reason.DNS_REBINDING),
        (b"\0\1\0" + b"\0\4\0\x08\x5d\xb8\xd7\x0e\x7f\0\0\1", Reason.DNS_REBINDING),
        (b"\0\1\7tracker\3bad\7example\0", Reason.LISTED),
        (b"\0\0\7tracker\3bad\7example\0", Reason.LISTED),
        (b"\0\1\0" + b"\0\4\0\4\x5d\xb8\xd7\x0e", None),
    ],
    ids=["ipv4hint", "ipv6hint", "one hint of two", "target", "alias", "nothing wrong"],
)
@pytest.mark.parametrize("qtype", ["HTTPS", "TYPE64"])
async def test_service_records_are_judged(qtype: str, rdata: bytes, reason: Reason | None) -> None:
    """Hints are addresses and targets are names: a service record that leads where the policy forbids is denied."""
    code = 65 if qtype == "HTTPS" else 64

    def handle(query: Message, _: str) -> Reply:
        data = bytearray(query.reply().pack())
        data[6:12] = b"\0\1\0\0\0\0"
        end = data.index(b"\0" + bytes((0, code, 0, 1)), 12) + 5
        fixed = bytes((0, code, 0, 1)) + b"\0\0\0\x3c" + len(rdata).to_bytes(2, "big")
        return bytes(data[:end] + b"\xc0\x0c" + fixed + rdata)

    packet = bytearray(ask("public.example", "HTTPS"))
    packet[packet.index(b"\0\x41\0\1") + 1] = code
    async with upstream(handle) as up:
        judge = a_judge(up.endpoint)
        resolver = Resolver(judge)
        for _ in range(3):
            header = parse(await resolver.answer(WEB, bytes(packet))).header
            assert (header.rcode, header.a) == ((0, 1) if reason is None else (RCODE.NXDOMAIN, 0))
        assert judge.reasons == [reason] * 3 if reason else not judge.reasons
        assert len(up.queries) == 1


async def test_a_forward_zone_is_trusted_and_its_names_go_nowhere_else() -> None:
    """The longest forward zone gets the query, and private addresses from it are fine."""
    async with upstream(zone({})) as default, upstream(zone({})) as outer, upstream(zone(ZONE)) as inner:
        forward = {"test": (outer.endpoint,), "corp.test": (inner.endpoint,)}
        resolver = Resolver(a_judge(default.endpoint, forward=forward))
        assert addresses(await resolver.answer(WEB, ask("host.corp.test"))) == ["10.9.8.7"]
        assert (default.names, outer.names, inner.names) == ([], [], ["host.corp.test"])


async def test_whether_a_forward_zone_is_signed_is_asked_of_the_zone_above() -> None:
    """A DS belongs to the zone above (RFC 4035 section 3.1.4.1): its servers are asked, and if they know of no such
    zone, that is about the DS alone. Where nobody above may be asked, the zone's own servers are.
    """
    names = ("corp.example.com", "lab.corp.example.com", "local", "corp.test", "7.10.in-addr.arpa")
    served = {name: ["10.9.8.7"] for name in names}
    async with upstream(zone({})) as default, upstream(zone(served)) as corp, upstream(zone(served)) as others:
        forward = {name: ((corp if name == names[0] else others).endpoint,) for name in names}
        resolver = Resolver(a_judge(default.endpoint, forward=forward))
        assert parse(await resolver.answer(WEB, ask(names[0], "DS"))).header.rcode == RCODE.NXDOMAIN
        assert (default.names, corp.names) == ([names[0]], [])
        assert addresses(await resolver.answer(WEB, ask(names[0]))) == ["10.9.8.7"]
        await resolver.answer(WEB, ask(names[0], "DS"))
        await resolver.answer(WEB, ask(names[1], "DS"))
        assert (default.names, corp.names) == ([names[0]], [names[0], names[1]])
        for name in names[2:]:
            await resolver.answer(WEB, ask(name, "DS"))
        assert (len(default.names), others.names) == (1, list(names[2:]))
        await resolver.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_zones_of_lists_are_answered_here_and_nowhere_else(tmp_path: Path, *, stream: bool) -> None:
    """No upstream hears of a zone that is served here: not over HTTPS, where there are no transfers, and not when the
    client is over its limit and has proven its address by a cookie.
    """
    rpz = RpzZone.of(tmp_path, "rpz.example", (ip_network("10.2.0.0/16"),), {})
    async with upstream(zone(ZONE)) as up:
        resolver = Resolver(a_judge(up.endpoint, rate_limit=(1.0, 2)), Clock())
        resolver.serve_zones(Transfers(lambda: {rpz.name: rpz}, lambda: 7.0))
        cookie = bytes(8)
        for _ in range(2 if stream else 4):
            packet = ask("rpz.example", "SOA", options=[EDNSOption(10, cookie)])
            reply = parse(await resolver.answer(WEB, packet, stream=stream))
            assert reply.header.rcode in (RCODE.REFUSED, 23 & 0xF)  # not served, or BADCOOKIE
            cookie = next((o.data for r in reply.ar for o in r.rdata if o.code == 10), cookie)
        assert reply.header.rcode == RCODE.REFUSED
        assert up.queries == []


def knowing(records: dict[str, list[str]], *, zone_name: str = "corp.test") -> Any:
    """Return a handler for a server that knows one zone, and asks nobody about any other."""
    answer = zone({name: values for name, values in records.items() if name.endswith(zone_name)})

    def handle(query: Message, protocol: str) -> Reply:
        reply: Any = answer(query, protocol)
        reply.header.aa, reply.header.ra = 1, 0
        if reply.rr and not str(reply.rr[-1].rdata).rstrip(".").endswith(zone_name):
            reply.auth.clear()  # says nothing of the name that it leads to
            reply.header.rcode = RCODE.NOERROR
        return reply

    return handle


@pytest.mark.parametrize(
    ("name", "expected", "reason"),
    [
        pytest.param("inner.corp.test", ["10.9.8.7"], None, id="to the same zone"),
        pytest.param("other.corp.test", ["10.1.1.1"], None, id="to another one"),
        pytest.param("far.corp.test", ["10.1.1.1"], None, id="by two steps"),
        pytest.param("app.corp.test", [], None, id="to a public name, which tells its zone something"),
        pytest.param("trap.corp.test", [], Reason.LISTED, id="to a listed name"),
        pytest.param("local.corp.test", [], None, id="to a name that must not be sent"),
    ],
)
async def test_aliases_lead_out_of_a_forward_zone(name: str, expected: list[str], reason: Reason | None) -> None:
    """Where a server of a forward zone knows nothing but that zone, a name in another one is asked for there. What is
    outside is not: nobody was allowed to ask for it, and nobody has counted what it tells.
    """
    corp = {
        "inner.corp.test": ["=host.corp.test"],
        "host.corp.test": ["10.9.8.7"],
        "other.corp.test": ["=host.lab.test"],
        "far.corp.test": ["=other.corp.test"],
        "app.corp.test": ["=public.example"],
        "trap.corp.test": ["=tracker.bad.example"],
        "local.corp.test": ["=printer.local"],
    }
    lab = zone({"host.lab.test": ["10.1.1.1"]})
    async with upstream(zone(ZONE)) as up, upstream(lab) as beside, upstream(knowing(corp)) as inside:
        judge = a_judge(up.endpoint, forward={"corp.test": (inside.endpoint,), "lab.test": (beside.endpoint,)})
        resolver = Resolver(judge)
        for _ in range(2):
            replies = await asyncio.gather(*(resolver.answer(WEB, ask(name)) for _ in range(3)))
            for reply in replies:
                assert addresses(reply) == expected
                assert reason or str(parse(reply).rr[0].rname).rstrip(".") == name
        assert len(inside.queries) <= (1 if expected else 2), "what has no end is not kept"
        assert (len(beside.queries) <= 1, up.queries) == (True, [])
        assert set(judge.reasons) == ({reason} if reason else set())


@pytest.mark.parametrize(
    ("name", "qtype", "expected", "rcode"),
    [
        pytest.param("www.corp.test", "A", ["10.0.0.5"], RCODE.NOERROR, id="to an address"),
        pytest.param("www.corp.test", "AAAA", [], RCODE.NOERROR, id="to no address of the family"),
        pytest.param("new.corp.test", "A", ["10.0.0.5"], RCODE.NOERROR, id="to an alias"),
        pytest.param("self.corp.test", "A", ["127.0.0.1"], RCODE.NOERROR, id="to localhost"),
        pytest.param("back.corp.test", "A", [], RCODE.NOERROR, id="and in a circle"),
    ],
)
async def test_aliases_lead_out_of_a_forward_zone_to_local_records(
    name: str, qtype: str, expected: list[str], rcode: int
) -> None:
    """A name that has its records here is answered from them, however it was come to; no upstream hears of it."""
    records = {
        "www.home.test": (ip_address("10.0.0.5"),),
        "old.home.test": (parse_data("cname", "www.home.test"),),
        "circle.home.test": (parse_data("cname", "back.corp.test"),),
    }
    corp = {
        "www.corp.test": ["=www.home.test"],
        "new.corp.test": ["=old.home.test"],
        "self.corp.test": ["=localhost"],
        "back.corp.test": ["=circle.home.test"],
    }
    async with upstream(zone(ZONE)) as up, upstream(knowing(corp)) as inside:
        resolver = Resolver(a_judge(up.endpoint, forward={"corp.test": (inside.endpoint,)}, records=records))
        for _ in range(2):
            reply = await resolver.answer(WEB, ask(name, qtype))
            assert addresses(reply) == expected
            assert parse(reply).header.rcode == rcode
        assert up.queries == []
        await resolver.close()


async def test_aliases_between_forward_zones_have_an_end() -> None:
    """Two zones that lead to each other are asked once each."""
    loops = {"corp.test": {"a.corp.test": ["=b.lab.test"]}, "lab.test": {"b.lab.test": ["=a.corp.test"]}}
    first, second = (knowing(records, zone_name=name) for name, records in loops.items())
    async with upstream(first) as corp, upstream(second) as lab:
        resolver = Resolver(a_judge(forward={"corp.test": (corp.endpoint,), "lab.test": (lab.endpoint,)}))
        assert addresses(await resolver.answer(WEB, ask("a.corp.test"))) == []
        assert len(corp.queries) + len(lab.queries) == 2


async def test_aliases_between_forward_zones_take_no_longer_than_one_query() -> None:
    """There is one deadline for a query, however many servers lead on to the next."""
    corp, lab = knowing({"a.corp.test": ["=b.lab.test"]}), knowing({"b.lab.test": ["10.1.1.1"]}, zone_name="lab.test")

    def slow(answer: Any) -> Any:
        async def handle(query: Message, protocol: str) -> Reply:
            await asyncio.sleep(0.3)  # each of them is in time, both together are not
            return answer(query, protocol)

        return handle

    async with upstream(slow(corp)) as first, upstream(slow(lab)) as second:
        zones = {"corp.test": (first.endpoint,), "lab.test": (second.endpoint,)}
        resolver = Resolver(a_judge(forward=zones, timing=Timing(attempt=0.5, total=0.5)))
        assert parse(await resolver.answer(WEB, ask("a.corp.test"))).header.rcode == RCODE.SERVFAIL
        await resolver.close()


async def test_local_records_are_answered_here() -> None:
    """Configured records answer A and AAAA, NODATA otherwise, and are trusted."""
    records = {"gw.corp.example": (ip_address("10.0.0.1"), ip_address("fd00::1"))}
    resolver = Resolver(a_judge(records=records))
    assert addresses(resolver.answer_now(WEB, ask("gw.corp.example"))) == ["10.0.0.1"]
    assert addresses(resolver.answer_now(WEB, ask("GW.corp.example", "AAAA"))) == ["fd00::1"]
    text = parse(resolver.answer_now(WEB, ask("gw.corp.example", "TXT")))
    assert (text.header.rcode, len(text.rr), len(text.auth)) == (0, 0, 1)


@pytest.mark.parametrize("name", ["local", "b.local", "nosuchtld", "0.0.10.in-addr.arpa", "0.127.in-addr.arpa"])
async def test_what_is_above_a_name_exists(name: str) -> None:
    """What has local records or a forward zone below it has no records, but is not absent: whoever heard that would
    not have to ask for what is below (RFC 8020).
    """
    forward = {"c.b.local": ()}
    names = ("gw.nosuchtld", "5.0.0.10.in-addr.arpa")
    records = dict.fromkeys(names, (ip_address("10.0.0.5"),))
    resolver = Resolver(a_judge(records=records, forward=forward, tunnelling=Tunnelling("deny")))
    for place, code in ((name, RCODE.NOERROR), (f"x.{name}", RCODE.NXDOMAIN)):
        reply = parse(await resolver.answer(WEB, ask(place)))
        assert (reply.header.rcode, len(reply.rr), len(reply.auth)) == (code, 0, 1)
    await resolver.close()


async def test_what_is_above_a_name_exists_for_an_alias_too() -> None:
    """An alias of ours that leads to such a name does not say that it is absent."""
    end = parse_data("cname", "b.local")
    records = {
        "www.corp.test": (end,),
        "c.b.local": (ip_address("10.0.0.5"),),
        "x.corp.test": (parse_data("cname", "x.local"),),
    }
    resolver = Resolver(a_judge(records=records))
    for name, code in (("www.corp.test", RCODE.NOERROR), ("x.corp.test", RCODE.NXDOMAIN)):
        for _ in range(2):
            reply = parse(await resolver.answer(WEB, ask(name)))
            assert (reply.header.rcode, len(reply.rr), len(reply.auth)) == (code, 1, 1)
    await resolver.close()


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("localhost", 0, ["127.0.0.1"]),
        ("a.LocalHost", 0, ["127.0.0.1"]),
        ("printer.local", 3, []),
        ("abc.onion", 3, []),
        ("x.invalid", 3, []),
        ("nas.home.arpa", 3, []),
        ("_dns.resolver.arpa", 3, []),
        ("1.0.0.10.in-addr.arpa", 3, []),
        ("ipv4only.arpa", 0, ["192.0.0.170", "192.0.0.171"]),
    ],
)
async def test_special_names_are_never_sent_upstream(name: str, code: int, expected: list[str]) -> None:
    """Names that have no place in the DNS are answered here, and loopback is no private address of localhost."""
    async with upstream(zone(ZONE)) as up:
        reply = await Resolver(a_judge(up.endpoint)).answer(WEB, ask(name))
        assert (parse(reply).header.rcode, addresses(reply)) == (code, expected)
        assert up.queries == []


async def test_whether_there_is_nat64_is_for_upstreams_to_say() -> None:
    """Clients that look for NAT64 (RFC 7050) raise no alarm: the IPv4 addresses are known, others are asked for."""
    async with upstream(zone({"ipv4only.arpa": ["10.0.0.1"]})) as up:
        judge = a_judge(up.endpoint)
        resolver = Resolver(judge)
        assert addresses(await resolver.answer(WEB, ask("ipv4only.arpa"))) == ["192.0.0.170", "192.0.0.171"]
        assert addresses(await resolver.answer(WEB, ask("ipv4only.arpa", "AAAA"))) == []
        assert [query.q.qtype for query, _ in up.queries] == [QTYPE.AAAA]
        assert judge.records == []


async def test_blocklists_of_mail_servers_want_a_rule() -> None:
    """Lists that are asked over DNS answer with loopback, which is rebinding unless a rule names list and network."""
    rule = Rule(
        name="dnsbl",
        action=Verdict.ALLOW,
        via=frozenset([Point.DNS]),
        domains=("*.zen.spamhaus.org",),
        addresses=(ip_network("127.0.0.0/8"),),
    )
    names = {"2.0.0.127.zen.spamhaus.org": ["127.0.0.2"], "other.example": ["127.0.0.2"]}
    async with upstream(zone(names)) as up:
        for rules, listed in (((), []), ((rule,), ["127.0.0.2"])):
            resolver = Resolver(a_judge(up.endpoint, policy=a_policy(*rules)))
            assert addresses(await resolver.answer(WEB, ask("2.0.0.127.zen.spamhaus.org"))) == listed
            assert addresses(await resolver.answer(WEB, ask("other.example"))) == []


async def test_a_special_name_may_be_forwarded() -> None:
    """`.local` goes to the upstream that is configured for it."""
    async with upstream(zone({"printer.local": ["10.1.1.1"]})) as up:
        resolver = Resolver(a_judge(forward={"local": (up.endpoint,)}))
        assert addresses(await resolver.answer(WEB, ask("printer.local"))) == ["10.1.1.1"]


async def test_any_is_answered_minimally() -> None:
    """ANY gets one HINFO record (RFC 8482), and a denied name stays denied."""
    async with upstream(zone(ZONE)) as up:
        resolver = Resolver(a_judge(up.endpoint))
        reply = parse(resolver.answer_now(WEB, ask("public.example", "ANY")))
        assert [QTYPE[record.rtype] for record in reply.rr] == ["HINFO"]
        assert parse(resolver.answer_now(WEB, ask("bad.example", "ANY"))).header.rcode == RCODE.NXDOMAIN
        assert up.queries == []


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        pytest.param(lambda d: d[:2] + b"\x28\0" + d[4:], 5 - 1, id="opcode UPDATE"),
        pytest.param(lambda d: d[:-2] + b"\0\3", 5, id="class CH"),
        pytest.param(lambda d: d[:-4] + b"\0\xfc\0\1", 5, id="AXFR"),
        pytest.param(lambda d: d + b"x", 1, id="trailing octet"),
    ],
)
async def test_what_is_not_for_a_resolver_is_refused_and_recorded(patch: Any, code: int) -> None:
    """Unfit queries get the code that says so, and one record."""
    judge = a_judge()
    reply = Resolver(judge).answer_now(WEB, patch(ask("public.example", edns=False)))
    assert isinstance(reply, bytes)
    assert reply[3] & 0xF == code
    assert len(judge.records) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_without_recursion_desired_nothing_is_asked_or_given_away(stream: bool) -> None:
    """RD=0 gets local data and denials; REFUSED for the rest, whether it is in the cache or not."""
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint, records={"gw.corp.test": (ip_address("10.0.0.1"),)})
        resolver = Resolver(judge)

        async def flat(name: str) -> Message:
            packet = bytearray(ask(name))
            packet[2] &= 0xFE
            return parse(await resolver.answer(WEB, bytes(packet), stream=stream))

        assert (await flat("public.example")).header.rcode == RCODE.REFUSED
        assert up.queries == []
        assert addresses(await resolver.answer(WEB, ask("public.example"), stream=stream))
        for _ in range(2):
            reply = await flat("public.example")
            assert (reply.header.rcode, reply.header.rd, reply.rr) == (RCODE.REFUSED, 0, [])
        assert len(up.queries) == 1
        assert [str(record.rdata) for record in (await flat("gw.corp.test")).rr] == ["10.0.0.1"]
        assert (await flat("bad.example")).header.rcode == RCODE.NXDOMAIN
        assert judge.reasons == [Reason.PROTOCOL] * 3 + [Reason.LISTED]


async def test_responses_get_no_answer() -> None:
    """A response sent to the resolver is dropped: two servers must not answer each other for ever."""
    packet = bytearray(ask("public.example"))
    packet[2] |= 0x80
    assert Resolver(a_judge()).answer_now(WEB, bytes(packet)) is None


async def test_ttls_count_down() -> None:
    """Answers from the cache say how much of their time is left, and are fetched anew after it."""
    clock = Clock()
    async with upstream(zone(ZONE, ttl=100)) as up:
        resolver = Resolver(a_judge(up.endpoint), clock)
        seen = []
        for now in (0, 0, 40, 40, 99.5, 100):
            clock.now = 1000 + now
            for packet in (
                ask("public.example"),
                ask("public.example", size=4096),
                ask("public.example", edns=False),
            ):
                reply = parse(await resolver.answer(WEB, packet))
                seen.append(reply.rr[0].ttl)
        assert seen == [100] * 6 + [60] * 6 + [1] * 3 + [100] * 3
        assert len(up.queries) == 2


@pytest.mark.parametrize("name", ["gw.example", "printer.local", "localhost"])
def test_what_is_said_here_does_not_age(name: str) -> None:
    """Answers of our own have the same time to live whenever they are given."""
    clock = Clock()
    resolver = Resolver(a_judge(records={"gw.example": (ip_address("10.0.0.1"),)}), clock)
    for now in (0, 1, 29, 59, 60, 61, 150):
        clock.now = 1000 + now
        reply = parse(resolver.answer_now(WEB, ask(name)))
        assert [record.ttl for record in (*reply.rr, *reply.auth)] == [60]


async def test_the_fast_path_keeps_types_apart() -> None:
    """Types whose numbers differ only in the bit of letter case (65 HTTPS, 97) are different questions."""
    async with upstream(zone(ZONE)) as up:
        resolver = Resolver(a_judge(up.endpoint))
        for qtype in ("TYPE65", "TYPE97", "TYPE65", "TYPE97"):
            query = bytearray(ask("public.example", "A", edns=False))
            query[-3] = int(qtype[4:])
            reply = await resolver.answer(WEB, bytes(query))
            assert isinstance(reply, bytes)
            assert parse(reply).q.qtype == int(qtype[4:])
        assert [query.q.qtype for query, _ in up.queries] == [65, 97]


async def test_report_mode_lets_pass_and_records_each_time() -> None:
    """A rule on trial changes no answer and leaves one record for each query."""
    rule = Rule(name="trial", action=Verdict.DENY, report=True, domains=("public.example",))
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint, policy=a_policy(rule))
        resolver = Resolver(judge)
        for _ in range(3):
            assert addresses(await resolver.answer(WEB, ask("public.example"))) == ["93.184.215.14"]
        queries = [request for request, _ in judge.records if isinstance(request, DnsQuery)]
        assert len(queries) == 3


async def test_allowed_queries_are_recorded_on_demand() -> None:
    """With `ledger.allowed_dns`, every allowed query is recorded, cached or not."""
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint, record_allowed=True)
        resolver = Resolver(judge)
        for _ in range(3):
            await resolver.answer(WEB, ask("public.example"))
        assert len([1 for request, _ in judge.records if isinstance(request, DnsAnswer)]) == 3


async def test_upstream_failure_is_told_and_recorded() -> None:
    """Without a usable upstream the answer is SERVFAIL with an extended error, and the ledger says why."""
    for handle, code in ((lambda query, _: b"\0" * 40, 22), (None, 22)):
        if handle is None:
            judge = a_judge()
            reply = await Resolver(judge).answer(WEB, ask("public.example"))
        else:
            async with upstream(handle) as up:
                judge = a_judge(up.endpoint)
                reply = await Resolver(judge).answer(WEB, ask("public.example"))
        assert parse(reply).header.rcode == RCODE.SERVFAIL
        found = ede(reply)
        assert found is not None
        assert (found[0], found[1]) == (code, "upstream-failure id=r1")
        assert judge.reasons == [Reason.UPSTREAM_FAILURE]


async def test_one_client_cannot_take_all_slots() -> None:
    """A client with too many queries on their way is told so; another one is served."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        await go.wait()
        return query.reply()

    async with upstream(handle) as up:
        judge = a_judge(up.endpoint)
        resolver = Resolver(judge)
        loop = asyncio.get_running_loop()
        flood = [
            loop.create_task(resolver.answer(WEB, ask("same.example", ident=n))) for n in range(MAX_PER_CLIENT + 1)
        ]
        done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        assert [parse(task.result()).header.rcode for task in done] == [RCODE.SERVFAIL]
        assert judge.reasons == [Reason.RATE_LIMIT]
        other = loop.create_task(resolver.answer(BATCH, ask("same.example")))
        go.set()
        assert parse(await other).header.rcode == 0
        await asyncio.gather(*flood)


class Exploding(PolicyJudge):
    """A judge that fails in one place."""

    fail_on: type[Request] = DnsQuery

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Fail where the test says; flaws are still judged."""
        if isinstance(request, self.fail_on) and not getattr(request, "flaw", None):
            raise RuntimeError("boom")
        return super().judge(request)


@pytest.mark.parametrize("stage", [DnsQuery, DnsAnswer])
async def test_an_exception_fails_closed(stage: type[Request], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever breaks while a query is handled, the answer is SERVFAIL and the ledger says internal-error."""
    async with upstream(zone(ZONE)) as up:
        plain = a_judge(up.endpoint)
        judge = Exploding(plain.policy, plain.settings)
        judge.fail_on = stage
        resolver = Resolver(judge)
        for _ in range(2):
            reply = await resolver.answer(WEB, ask("public.example"))
            assert parse(reply).header.rcode == RCODE.SERVFAIL
            assert addresses(reply) == []
        assert judge.reasons == [Reason.INTERNAL_ERROR] * 2
        assert len(up.queries) == (stage is DnsAnswer)
    assert "boom" in caplog.text


async def test_large_answers_are_cut_over_udp_only() -> None:
    """An answer beyond the client's limit comes with TC=1 over UDP and whole over TCP."""

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply()
        for number in range(40):
            reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(f"93.184.215.{number}"), ttl=60))
        return reply

    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint))
        for edns, size, expected in ((False, 0, 0), (True, 600, 0), (True, 1232, 40), (True, 4096, 40)):
            for _ in range(2):
                reply = await resolver.answer(WEB, ask("big.example", edns=edns, size=size))
                assert isinstance(reply, bytes)
                assert (parse(reply).header.tc, len(addresses(reply))) == (int(not expected), expected)
        reply = await resolver.answer(WEB, ask("big.example", edns=False), stream=True)
        assert len(addresses(reply)) == 40


async def test_a_changed_configuration_changes_upstreams_at_once() -> None:
    """After a reload with other upstreams, nothing from the old ones is served."""
    async with (
        upstream(zone({"a.example": ["93.184.215.1"]})) as old,
        upstream(zone({"a.example": ["93.184.215.2"]})) as new,
    ):
        judge = a_judge(old.endpoint)
        resolver = Resolver(judge)
        assert addresses(await resolver.answer(WEB, ask("a.example"))) == ["93.184.215.1"]
        judge.settings = judge.settings._replace(upstreams=(new.endpoint,))
        judge.policy = a_policy()
        assert addresses(await resolver.answer(WEB, ask("a.example"))) == ["93.184.215.2"]


async def test_a_reload_keeps_what_it_does_not_concern() -> None:
    """Another block answer or rate limit counts at once and costs no cached answer; another limit on TTLs does.
    Buckets stay as empty as they are while their limit is the same.
    """
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint, rate_limit=(0.001, 3))
        resolver = Resolver(judge, Clock())

        async def reply(**settings: Any) -> Any:
            judge.settings = judge.settings._replace(**settings)
            judge.policy = a_policy()
            return parse(await resolver.answer(WEB, ask("public.example")))

        assert str((await reply()).rr[0].rdata) == "93.184.215.14"
        blocked = parse(resolver.answer_now(WEB, ask("bad.example")))
        assert (blocked.header.rcode, blocked.auth[0].ttl) == (RCODE.NXDOMAIN, 60)
        assert (await reply(block_ttl=7)).header.rcode == 0
        assert (await reply(record_allowed=True)).header.tc == 1
        assert (await reply(rate_limit=(0.001, 2))).header.tc == 0
        assert parse(resolver.answer_now(WEB, ask("bad.example"))).auth[0].ttl == 7
        assert (await reply(block_answer="nodata")).header.tc == 1
        assert len(up.queries) == 1
        assert (await reply(rate_limit=None, limits=Limits(max_ttl=5))).rr[0].ttl == 5
        assert len(up.queries) == 2


async def test_connections_of_an_old_configuration_are_closed() -> None:
    """After a reload with other upstreams, who waits gets the old one's answer, and then its connections end."""
    go = asyncio.Event()

    async def handle(query: Message, protocol: str) -> Reply:
        await go.wait()
        return zone({"a.example": ["93.184.215.1"]})(query, protocol)

    async with upstream(handle) as old, upstream(zone({})) as new:
        judge = a_judge(old.endpoint._replace(scheme="tcp"))
        resolver = Resolver(judge)
        waiting = asyncio.get_running_loop().create_task(resolver.answer(WEB, ask("a.example")))
        await old.asked.wait()
        judge.settings = judge.settings._replace(upstreams=(new.endpoint,))
        judge.policy = a_policy()
        assert parse(await resolver.answer(WEB, ask("a.example"))).header.rcode == RCODE.NXDOMAIN
        go.set()
        assert addresses(await waiting) == ["93.184.215.1"]
        async with asyncio.timeout(5):
            while old.connected:  # noqa: ASYNC110 -- nothing sets an event there
                await asyncio.sleep(0)
        await resolver.close()


async def test_a_renewed_answer_reaches_clients_at_once() -> None:
    """After a renewal, clients get the new answer, and not what the fast path had kept of the old one."""
    clock, where = Clock(), ["93.184.215.1"]

    def handle(query: Message, protocol: str) -> Reply:
        return zone({"a.example": where}, ttl=100)(query, protocol)

    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint, prefetch=True), clock)
        for _ in range(4):
            assert addresses(await resolver.answer(WEB, ask("a.example"))) == ["93.184.215.1"]
        for packet in (ask("a.example", edns=False), ask("a.example", size=4096)):
            await resolver.answer(WEB, packet)
        where[:] = ["93.184.215.2"]
        clock.now += 95
        assert addresses(await resolver.answer(WEB, ask("a.example"))) == ["93.184.215.1"]
        async with asyncio.timeout(5):
            while addresses(await resolver.answer(WEB, ask("a.example"))) != where:  # noqa: ASYNC110 -- as above
                await asyncio.sleep(0)
        for packet in (ask("a.example"), ask("a.example", edns=False), ask("a.example", size=4096)):
            assert addresses(await resolver.answer(WEB, packet)) == ["93.184.215.2"]
        assert len(up.queries) == 2


async def test_mapped_and_scoped_client_addresses() -> None:
    """A client is the same behind an IPv4-mapped address, and a zone index does not matter."""
    rule = Rule(name="no", action=Verdict.DENY, clients=("batch",), domains=("public.example",))
    records = {"public.example": (ip_address("93.184.215.14"),)}
    resolver = Resolver(a_judge(policy=a_policy(rule), records=records))
    assert addresses(resolver.answer_now(f"::ffff:{BATCH}", ask("public.example"))) == []
    assert addresses(resolver.answer_now(f"::ffff:{WEB}", ask("public.example"))) != []
    assert addresses(resolver.answer_now("fe80::1%eth0", ask("public.example"))) != []


# -- lookup: for the proxy -----------------------------------------------------------------------------------------


async def test_lookup_asks_no_dns_policy() -> None:
    """The proxy has its own stages: what DNS clients may not have is looked up for it, and judged at Dial."""
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint)
        found = await Resolver(judge).lookup("rebind.example")
        assert [str(address) for address in found.addresses] == ["127.0.0.1"]
        assert judge.asked == []


async def test_what_was_resolved_a_moment_ago() -> None:
    """Addresses at hand are worked out once a second, not for longer than answers are good, and anew for a policy."""
    clock = Clock()
    async with upstream(zone(ZONE, ttl=2)) as up:
        judge = a_judge(up.endpoint)
        resolver = Resolver(judge, clock)
        await resolver.lookup("public.example")
        known = await resolver.lookup("public.example")
        clock.now += 0.9
        assert await resolver.lookup("public.example") is known
        clock.now += 0.2
        again = await resolver.lookup("public.example")
        assert again is not known
        assert again == known
        judge.policy = a_policy()
        assert await resolver.lookup("public.example") is not again
        asked = len(up.queries)
        clock.now += 0.95
        await resolver.lookup("public.example")
        assert len(up.queries) > asked


async def test_closing_gives_up_what_is_on_its_way() -> None:
    """Closing a resolver cancels its upstream queries."""

    async def handle(_query: Message, _: str) -> Reply:
        await asyncio.Event().wait()
        return None

    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint, timing=Timing(60.0, 60.0)))
        miss = resolver.answer_now(WEB, ask("slow.example"))
        assert isinstance(miss, Miss)
        waiting = asyncio.get_running_loop().create_task(resolver.answer_later(miss))
        await up.asked.wait()
        await resolver.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_endpoints_print_as_they_are_written() -> None:
    """An endpoint's text is what the configuration says."""
    assert str(Endpoint("tcp", ip_address("::1"), 53)) == "tcp://[::1]:53"


# -- expired, renewed, rewritten, limited --------------------------------------------------------------------------


def failing_after(answers: int) -> Any:
    """Return a handler that answers some queries and then fails."""
    asked = 0

    def handle(query: Message, protocol: str) -> Reply:
        nonlocal asked
        asked += 1
        if asked <= answers:
            return zone(ZONE, ttl=100)(query, protocol)
        reply = query.reply()
        reply.header.rcode = RCODE.SERVFAIL
        return reply

    return handle


async def test_expired_answers_help_out_when_upstreams_fail() -> None:
    """An expired answer is given with a TTL of 30 and its extended error, for as long as it may, and judged anew."""
    clock = Clock()
    async with upstream(failing_after(1)) as up:
        judge = a_judge(up.endpoint, serve_stale=3600)
        resolver = Resolver(judge, clock)
        assert addresses(await resolver.answer(WEB, ask("public.example"))) == ["93.184.215.14"]
        clock.now += 200
        for _ in range(3):
            reply = await resolver.answer(WEB, ask("public.example"))
            assert (addresses(reply), parse(reply).rr[0].ttl, ede(reply)) == (["93.184.215.14"], 30, (3, ""))
        assert len(up.queries) <= 3
        found = await resolver.lookup("public.example", families=(4,))
        assert [str(address) for address in found.addresses] == ["93.184.215.14"]
        before = judge.policy
        judge.policy = a_policy(Rule(name="no", action=Verdict.DENY, domains=("public.example",)))
        assert parse(await resolver.answer(WEB, ask("public.example"))).header.rcode == RCODE.NXDOMAIN
        judge.policy = before
        clock.now += 3600
        assert parse(await resolver.answer(WEB, ask("public.example"))).header.rcode == RCODE.SERVFAIL


async def test_a_local_alias_leads_on_upstream() -> None:
    """A local CNAME to a name that is not local is completed with the upstream's answer, which is judged."""
    records = {
        "www.corp.example": (parse_data("cname", "public.example"),),
        "bad.corp.example": (parse_data("cname", "rebind.example"),),
        "lost.corp.example": (parse_data("cname", "printer.local"),),
    }
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint, records=records)
        resolver = Resolver(judge)
        for _ in range(2):
            reply = await resolver.answer(WEB, ask("WWW.corp.example"))
            assert addresses(reply) == ["93.184.215.14"]
            assert [QTYPE[record.rtype] for record in parse(reply).rr] == ["CNAME", "A"]
        assert parse(await resolver.answer(WEB, ask("bad.corp.example"))).header.rcode == RCODE.NXDOMAIN
        assert judge.reasons == [Reason.DNS_REBINDING]
        assert parse(await resolver.answer(WEB, ask("lost.corp.example"))).header.rcode == RCODE.NXDOMAIN
        assert up.names == ["public.example", "rebind.example"]


@pytest.mark.parametrize(
    ("strip", "counts", "ad"), [(True, (1, 0), 0), (False, (2, 0), 1)], ids=["stripped", "left alone"]
)
async def test_ech_is_taken_out_with_its_signature(strip: bool, counts: tuple[int, int], ad: int) -> None:
    """Keys for ECH go, and with them the signature over them and AD; left alone, all passes as it came."""
    service = b"\0\1\0" + b"\0\1\0\3\2h2" + b"\0\5\0\4ech!"
    signature = b"\0\x41\x0d\2" + bytes(14) + b"\7example\0" + b"sig"

    def handle(query: Message, _: str) -> Reply:
        data = bytearray(query.reply().pack())
        end = data.index(b"\0\x41\0\1", 12) + 4
        head = data[:end]
        head[3] |= 0x20
        head[6:12] = b"\0\2\0\0\0\0"
        for rtype, rdata in ((65, service), (46, signature)):
            head += b"\xc0\x0c" + rtype.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(rdata).to_bytes(2, "big") + rdata
        return bytes(head)

    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint, strip_ech=strip, trust_ad=True))
        for _ in range(2):
            reply = await resolver.answer(WEB, ask("public.example", "HTTPS", do=True))
            assert isinstance(reply, bytes)
            assert (b"ech!" in reply, b"h2" in reply, b"sig" in reply) == (not strip, True, not strip)
            assert (int.from_bytes(reply[6:8], "big"), (reply[3] >> 5) & 1) == (counts[0], ad)


@pytest.mark.parametrize(
    ("trust", "do", "ad_bit", "expected"),
    [(True, True, 0, 1), (True, False, 1, 1), (True, False, 0, 0), (False, True, 1, 0)],
    ids=["asked by DO", "asked by AD", "not asked", "not trusted"],
)
async def test_ad_is_passed_on_where_it_is_trusted(trust: bool, do: bool, ad_bit: int, expected: int) -> None:
    """AD comes from a trusted upstream, to a client that asked for it, fresh and cached; DO and CD go upstream."""

    def handle(query: Message, protocol: str) -> Reply:
        reply: Any = zone(ZONE)(query, protocol)
        reply.header.ad = 1
        return reply

    packet = bytearray(ask("public.example", do=do))
    packet[3] |= ad_bit << 5 | 0x10
    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint, trust_ad=trust))
        for _ in range(3):
            header = parse(await resolver.answer(WEB, bytes(packet))).header
            assert (header.ad, header.cd) == (expected, 1)
        asked = up.queries[0][0]
        assert (asked.header.cd, bool(asked.ar[0].edns_do)) == (1, do)


SIGNED = """
www.example 300 IN A 93.184.215.14
www.example 300 IN RRSIG A 13 2 300 20300101000000 20200101000000 4711 example. c2lnbmF0dXJlIG92ZXIgQQ==
"""
PROOF = """
a.example 60 IN NSEC z.example. A RRSIG NSEC
a.example 60 IN RRSIG NSEC 13 2 60 20300101000000 20200101000000 4711 example. c2lnbmF0dXJlIG92ZXIgTlNFQw==
example 60 IN SOA ns.example. a.example. 1 60 60 60 60
example 60 IN RRSIG SOA 13 1 60 20300101000000 20200101000000 4711 example. c2lnbmF0dXJlIG92ZXIgU09B
"""


@pytest.mark.parametrize(
    ("answers", "authority", "rcode", "counts"),
    [(SIGNED, "", 0, (2, 0)), ("", PROOF, 3, (0, 4)), ("", PROOF, 0, (0, 4))],
    ids=["an answer", "no such name", "no such record"],
)
async def test_a_client_that_validates_gets_all_it_needs(
    answers: str, authority: str, rcode: int, counts: tuple[int, int]
) -> None:
    """With DO and CD, signatures and proofs of absence pass to the octet, fresh and cached, and count in the size."""

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply()
        reply.header.rcode = rcode
        reply.add_answer(*(RR.fromZone(answers) if answers else ()))
        reply.add_auth(*(RR.fromZone(authority) if authority else ()))
        return reply

    packet = bytearray(ask("www.example", do=True))
    packet[3] |= 0x10
    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint))
        for _ in range(3):
            reply = parse(await resolver.answer(WEB, bytes(packet)))
            assert (reply.header.rcode, reply.header.cd, len(reply.rr), len(reply.auth)) == (rcode, 1, *counts)
            sent = [str(record.rdata) for record in RR.fromZone(answers + authority)]
            assert [str(record.rdata) for record in (*reply.rr, *reply.auth)] == sent
        assert (up.queries[0][0].header.cd, up.queries[0][0].ar[0].edns_do) == (1, 1)
        assert len(up.queries) == 1


async def test_unknown_options_change_nothing() -> None:
    """EDNS options that mean nothing to us, client subnet among them, are neither answered nor sent on (RFC 6891)."""
    options = [EDNSOption(65001, b"?"), EDNSOption(8, b"\0\1\x18\0\xc0\0\2"), EDNSOption(9, b"")]
    async with upstream(zone(ZONE)) as up:
        resolver = Resolver(a_judge(up.endpoint))
        for _ in range(2):
            reply = await resolver.answer(WEB, ask("public.example", options=options))
            assert addresses(reply) == ["93.184.215.14"]
            assert parse(reply).ar[0].rdata == []
        assert [query.ar[0].rdata for query, _ in up.queries] == [[]]


@pytest.mark.parametrize("name", ["version.bind", "hostname.bind", "id.server"])
async def test_nobody_is_told_what_this_is(name: str) -> None:
    """Questions about the server itself (class CH) are refused."""
    packet = ask(name, "TXT", edns=False)[:-1] + b"\3"
    assert parse(Resolver(a_judge()).answer_now(WEB, packet)).header.rcode == RCODE.REFUSED


@pytest.mark.parametrize("strategy", ["ordered", "parallel"])
async def test_an_upstream_that_lies_is_passed_over(strategy: str) -> None:
    """A well-formed answer that makes no sense (a circle of aliases) leads to the next upstream; alone, it fails."""

    def circle(query: Message, _: str) -> Reply:
        reply = query.reply()
        reply.add_answer(*RR.fromZone("public.example 60 IN CNAME a.example\na.example 60 IN CNAME public.example"))
        return reply

    async with upstream(circle) as bad, upstream(zone(ZONE)) as good:
        resolver = Resolver(a_judge(bad.endpoint, good.endpoint, strategy=strategy))
        for _ in range(2):
            assert addresses(await resolver.answer(WEB, ask("public.example"))) == ["93.184.215.14"]
        assert (len(bad.queries), len(good.queries)) == (1, 1)
        reply = await Resolver(a_judge(bad.endpoint)).answer(WEB, ask("public.example"))
        assert (parse(reply).header.rcode, ede(reply)) == (RCODE.SERVFAIL, (24, "upstream-failure id=r1"))


@pytest.mark.parametrize(("broken", "name"), [("plain_answer", "public.example"), ("select", "alias.example")])
async def test_what_breaks_on_an_answer_is_no_fault_of_the_upstream(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str, name: str
) -> None:
    """An exception of ours over an answer is an internal error, at once, and not a failure of whoever sent it."""

    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(forwarder_module, broken, explode)
    async with upstream(zone(ZONE)) as one, upstream(zone(ZONE)) as other:
        judge = a_judge(one.endpoint, other.endpoint, strategy="ordered")
        reply = await Resolver(judge).answer(WEB, ask(name))
        assert (parse(reply).header.rcode, judge.reasons) == (RCODE.SERVFAIL, [Reason.INTERNAL_ERROR])
        assert (len(one.queries), len(other.queries)) == (1, 0)
    assert "boom" in caplog.text


async def test_a_lame_upstream_is_no_answer() -> None:
    """An upstream that knows nothing and asks nobody is passed over; alone, it is a failure and not an absence."""

    def lame(query: Message, _: str) -> Reply:
        reply = query.reply()
        reply.header.ra, reply.header.aa = 0, 0
        return reply

    async with upstream(lame) as bad, upstream(zone(ZONE)) as good:
        resolver = Resolver(a_judge(bad.endpoint, good.endpoint, strategy="ordered"))
        assert addresses(await resolver.answer(WEB, ask("public.example"))) == ["93.184.215.14"]
        judge = a_judge(bad.endpoint)
        reply = await Resolver(judge).answer(WEB, ask("public.example"))
        assert (parse(reply).header.rcode, ede(reply)) == (RCODE.SERVFAIL, (22, "upstream-failure id=r1"))


async def test_cookies_are_answered() -> None:
    """A client's cookie comes back with ours behind it, with answers, denials and answers that were cut."""
    async with upstream(zone(ZONE)) as up:
        resolver = Resolver(a_judge(up.endpoint))
        for name in ("public.example", "public.example", "bad.example"):
            reply = await resolver.answer(WEB, ask(name, options=[EDNSOption(10, b"12345678")]))
            cookies = [option.data for option in parse(reply).ar[0].rdata if option.code == 10]
            assert [(cookie[:8], len(cookie)) for cookie in cookies] == [(b"12345678", 24)]
        malformed = await resolver.answer(WEB, ask("public.example", options=[EDNSOption(10, b"123")]))
        assert parse(malformed).header.rcode == RCODE.FORMERR
        assert cookie_of(malformed) == b""


def cookie_of(reply: object) -> bytes:
    """Return the cookie in an answer; nothing if there is none."""
    options = [option for record in parse(reply).ar if record.rtype == QTYPE.OPT for option in record.rdata]
    return next((bytes(option.data) for option in options if option.code == 10), b"")


def with_cookie(name: str, cookie: bytes = b"12345678", qtype: str = "A") -> bytes:
    """Return a query with a cookie."""
    return ask(name, qtype, options=[EDNSOption(10, cookie)])


@pytest.mark.parametrize(
    ("name", "patch", "rcode"),
    [
        ("refused", lambda d: d.replace(b"\0\1\0\1\0\0\x29", b"\0\xfc\0\1\0\0\x29"), RCODE.REFUSED),
        ("another class", lambda d: d.replace(b"\0\1\0\1\0\0\x29", b"\0\1\0\3\0\0\x29"), RCODE.REFUSED),
        ("EDNS version", lambda d: d.replace(b"\x29\x04\xd0\0\0", b"\x29\x04\xd0\0\1"), 0),
        ("no upstream", bytes, RCODE.SERVFAIL),
    ],
)
async def test_errors_carry_the_cookie(name: str, patch: Any, rcode: int) -> None:
    """A reply has the client's cookie and ours, whatever its rcode (RFC 7873 section 5.2)."""
    packet = patch(with_cookie("public.example"))
    assert name == "no upstream" or packet != with_cookie("public.example")
    reply = await Resolver(a_judge()).answer(WEB, packet)
    assert parse(reply).header.rcode == rcode
    assert (cookie_of(reply)[:8], len(cookie_of(reply))) == (b"12345678", 24)


async def test_an_internal_error_carries_the_cookie(caplog: pytest.LogCaptureFixture) -> None:
    """Even what breaks before the decision is answered with the cookie."""
    plain = a_judge()
    reply = await Resolver(Exploding(plain.policy, plain.settings)).answer(WEB, with_cookie("public.example"))
    assert (parse(reply).header.rcode, len(cookie_of(reply))) == (RCODE.SERVFAIL, 24)
    assert "boom" in caplog.text


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        pytest.param(lambda d: d.replace(b"\0\1\0\1\0\0\x29", b"\0\xfc\0\1\0\0\x29"), "protocol", id="AXFR"),
        pytest.param(lambda d: d[:-11] + d[-11:-1] + b"\x04\0\x0a\0", "malformed", id="options cut short"),
        pytest.param(lambda d: d[:2] + b"\x28\0" + d[4:], "protocol", id="opcode UPDATE"),
    ],
)
async def test_what_is_refused_says_why(patch: Any, expected: str) -> None:
    """A reply to an unfit query tells the reason and the id of its record, as a denial does."""
    judge = a_judge()
    reply = Resolver(judge).answer_now(WEB, patch(ask("public.example")))
    assert ede(reply) == (0, f"{expected} id=r1")
    assert [reason.value for reason in judge.reasons] == [expected]


async def test_a_client_over_its_limit() -> None:
    """Over UDP it is told to use TCP, then nothing; its record is one; TCP has a bucket of its own."""
    clock = Clock()
    records = {"gw.example": (ip_address("10.0.0.1"),)}
    judge = a_judge(records=records, rate_limit=(0.001, 2))
    resolver = Resolver(judge, clock)
    packet = ask("gw.example")
    for _ in range(2):
        assert addresses(resolver.answer_now(WEB, packet)) == ["10.0.0.1"]
    for _ in range(3):
        assert parse(resolver.answer_now(WEB, packet)).header.tc == 1
    clock.now += 2
    assert resolver.answer_now(WEB, packet) is None
    assert judge.reasons == [Reason.RATE_LIMIT]
    assert addresses(resolver.answer_now(BATCH, packet)) == ["10.0.0.1"]
    replies = [resolver.answer_now(WEB, packet, stream=True) for _ in range(4)]
    assert [parse(reply).header.rcode for reply in replies] == [0, 0, RCODE.SERVFAIL, RCODE.SERVFAIL]
    assert [ede(reply) for reply in replies[2:]] == [(18, "rate-limit id=r2")] * 2
    assert judge.reasons == [Reason.RATE_LIMIT] * 2


def test_a_good_cookie_helps_whose_address_is_forged_by_others() -> None:
    """Over its limit over UDP, a client with a good cookie is served as if it came by TCP, and no longer than that;
    one with another cookie is told a good one (BADCOOKIE), while clients are told anything.
    """
    clock = Clock()
    judge = a_judge(records={"gw.example": (ip_address("10.0.0.1"),)}, rate_limit=(0.001, 2))
    resolver = Resolver(judge, clock)
    for _ in range(2):
        assert addresses(resolver.answer_now(WEB, ask("gw.example"))) == ["10.0.0.1"]
    told = resolver.answer_now(WEB, with_cookie("gw.example"))
    assert isinstance(told, bytes)
    assert (told[3] & 0xF, parse(told).ar[0].ttl >> 24, addresses(told)) == (23 & 0xF, 1, [])
    clock.now += 5
    good, forged = cookie_of(told), b"12345678" + bytes(16)
    assert resolver.answer_now(WEB, with_cookie("gw.example", forged)) is None
    assert resolver.answer_now(BATCH, with_cookie("gw.example", good)) is not None
    for _ in range(2):
        assert addresses(resolver.answer_now(WEB, with_cookie("gw.example", good))) == ["10.0.0.1"]
    assert resolver.answer_now(WEB, with_cookie("gw.example", good)) is None
    clock.now += 6
    late = resolver.answer_now(WEB, with_cookie("gw.example", good))
    assert (parse(late).header.tc, cookie_of(late)) == (1, good)
    assert parse(resolver.answer_now(WEB, ask("gw.example"), stream=True)).header.rcode == RCODE.SERVFAIL
    assert judge.reasons == [Reason.RATE_LIMIT] * 3


def test_a_cookie_of_another_worker_is_good() -> None:
    """Workers that were told one secret know each other's cookies; without one, each has its own."""
    for secret, served in ((b"s" * 32, True), (b"", False)):
        settings: dict[str, Any] = {"records": {"gw.example": (ip_address("10.0.0.1"),)}, "rate_limit": (0.001, 1)}
        one, other = (Resolver(a_judge(**settings), Clock(), secret=secret) for _ in range(2))
        cookie = cookie_of(one.answer_now(WEB, with_cookie("gw.example")))
        other.answer_now(WEB, ask("gw.example"))
        assert bool(addresses(other.answer_now(WEB, with_cookie("gw.example", cookie)))) is served


async def test_all_clients_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients there are, only so many queries wait; and addresses of one /64 are one client."""
    monkeypatch.setattr(misses, "MAX_WAITING", 3)
    monkeypatch.setattr(misses, "MAX_PER_CLIENT", 2)
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        await go.wait()
        return query.reply()

    async with upstream(handle) as up:
        judge = a_judge(up.endpoint)
        resolver = Resolver(judge)
        loop = asyncio.get_running_loop()
        peers = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "10.1.0.1", "10.1.0.2")
        tasks = [loop.create_task(resolver.answer(peer, ask("same.example"))) for peer in peers]
        await up.asked.wait()
        go.set()
        codes = [parse(await task).header.rcode for task in tasks]
        assert codes == [0, 0, RCODE.SERVFAIL, 0, RCODE.SERVFAIL]
        assert judge.reasons == [Reason.RATE_LIMIT] * 2
        assert parse(await resolver.answer("10.1.0.3", ask("same.example"))).header.rcode == 0


def test_an_ipv6_network_is_one_client() -> None:
    """Addresses of one /64 share a bucket: a host may use them all."""
    judge = a_judge(records={"gw.example": (ip_address("10.0.0.1"),)}, rate_limit=(0.001, 1))
    resolver = Resolver(judge, Clock())
    replies = [resolver.answer_now(f"2001:db8::{number}", ask("gw.example")) for number in (1, 2)]
    assert [parse(reply).header.tc for reply in replies] == [0, 1]
    assert parse(resolver.answer_now("2001:db8:0:1::1", ask("gw.example"))).header.tc == 0
