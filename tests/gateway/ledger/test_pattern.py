"""Tests for gateway.ledger.pattern."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Match, Reason, Tls, Verdict, with_evidence
from gateway.ledger.event import Outcome, encode, event
from gateway.ledger.losses import Span
from gateway.ledger.notice import rolled_up
from gateway.ledger.pattern import BlockLine, Patterns
from gateway.request import Client, DnsQuery, TlsHello, Tunnel
from tests.builders import a_hello

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "<3 name>", '"<2 id>"', "a.example", "x@y", "\x1b[2J", "ü", "\ud800", "\x7f", "x" * 1025]
)
ADDRESSES = st.sampled_from([IPv4Address("10.0.0.1"), IPv6Address("::1"), IPv4Address(1)])
CLIENTS = st.builds(Client, address=ADDRESSES, user=st.none() | TEXTS, certificate=st.none() | TEXTS)
MATCHES = st.builds(
    Match,
    list=TEXTS,
    version=TEXTS,
    line=st.integers(0, 1 << 27),
    entry=TEXTS,
    categories=st.sampled_from([(), ("malware",), ("c2", "tor")]),
)
DECISIONS = st.builds(
    Decision,
    st.sampled_from(Verdict),
    st.sampled_from([Reason.LISTED, Reason.RULE, Reason.PRIVATE_ADDRESS]),
    rule=TEXTS,
    detail=TEXTS,
    enforced=st.booleans(),
    tls=st.none() | st.sampled_from(Tls),
    matched=st.none() | MATCHES,
    technique=st.sampled_from([(), ("T1105",)]),
)
REPORTED = st.builds(lambda one, more: replace(one, reported=tuple(more)), DECISIONS, st.lists(DECISIONS, max_size=2))
ASKED = st.tuples(
    st.builds(
        DnsQuery, client=st.builds(Client, address=ADDRESSES), name=TEXTS, qtype=st.sampled_from([1, 28, 65280])
    ),
    REPORTED,
    st.floats(0, 4e9),
    st.integers(0, 2),
)


@given(st.lists(ASKED, min_size=1, max_size=6))
def test_a_line_is_the_event_encoded(asked: list[tuple[DnsQuery, Decision, float, int]]) -> None:
    """Whatever was recorded before, and whatever text is in it, a line is that of the event, octet by octet; and
    so is that of its repeats."""
    patterns = Patterns("dns")
    for number, (request, decision, now, generation) in enumerate(asked * 2):
        id = f"id{number}"
        detail, matched = decision.detail, decision.matched
        alike = patterns.blocks(request, decision, detail, matched, generation)
        if alike.pattern:
            line = BlockLine(alike, f'"{request.client.address}"', request.name, detail, matched, id, now)
            first = event(request, decision, id=id, now=now, role="dns", generation=generation)
            assert line.encode() == encode(first)
            span = Span(count=number, first=now + 1, last=now + 2)
            again = line.rolled_up(id="again", now=now + 60, span=span)
            assert again == encode(rolled_up(first, id="again", now=now + 60, span=span))


@given(DECISIONS, st.lists(MATCHES, min_size=1, max_size=3), st.integers(0, 2))
def test_a_blank_is_filled_in(decision: Decision, matches: list[Match], generation: int) -> None:
    """A decision with a blank for the entry makes the lines of the decisions that have one."""
    patterns = Patterns("dns")
    request = DnsQuery(client=Client(address=IPv4Address(1)), name="a.example", qtype=1)
    for matched in matches:
        matched = matched._replace(list="feed", version="1", categories=())
        blank = replace(decision, detail="", matched=matched._replace(line=0, entry=""))
        alike = patterns.blocks(request, blank, None, matched, generation)
        if alike.pattern:
            line = BlockLine(alike, '"0.0.0.1"', "a.example", None, matched, "id", 0.0)
            whole = with_evidence(blank, matched)
            assert line.encode() == encode(event(request, whole, id="id", now=0.0, role="dns", generation=generation))


def test_most_lines_have_a_pattern() -> None:
    """What most lines are about is not encoded anew each time, whatever is asked for and by whom."""
    patterns = Patterns("dns")
    found = set()
    for number in range(3):
        request = DnsQuery(client=Client(address=IPv4Address(number)), name=f"n{number}.example", qtype=1)
        matched = Match("feed", "1", number, f"n{number}.example")
        decision = Decision(Verdict.DENY, Reason.LISTED, rule="r", detail=matched.told, matched=matched)
        found.add(patterns.blocks(request, decision, decision.detail, matched, 1))
    (alike,) = found
    assert alike.pattern


HELLOS = st.builds(
    TlsHello,
    tunnel=st.builds(
        Tunnel,
        client=CLIENTS,
        host=st.sampled_from(["a.example", "ü", IPv4Address("192.0.2.1")]),
        port=st.sampled_from([443, 3_141_592_653_589_793_238]),
        user_agent=TEXTS | st.just("x" * 300),
    ),
    server_names=st.sampled_from([(), ("a.example",), ("a.example", "b.example")]),
    alpn=st.sampled_from([(), ("h2", "http/1.1"), ("a", "b", "c", "d", "e")]),
    ech=st.booleans(),
    ja4=TEXTS,
    tool=TEXTS,
)
OUTCOMES = st.builds(
    Outcome,
    octets_out=st.integers(0, 1 << 40),
    octets_in=st.integers(0, 1 << 40),
    seconds=st.floats(0, 2e6).map(lambda seconds: round(seconds, 6)) | st.just(-1.0),
    address=st.none() | st.sampled_from([IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")]),
    status=st.none() | st.just(200),
    error=st.sampled_from(["", "", "", "reset"]),
)
ENDED = st.tuples(HELLOS, REPORTED, OUTCOMES, st.floats(0, 4e9), st.integers(0, 2))


@given(st.lists(ENDED, min_size=1, max_size=6), st.lists(OUTCOMES, min_size=1, max_size=3))
def test_a_line_about_a_tunnel_is_the_event_encoded(
    ended: list[tuple[TlsHello, Decision, Outcome, float, int]], outcomes: list[Outcome]
) -> None:
    """Whatever ended before, a line from a pattern is that of the event, octet by octet."""
    patterns = Patterns("proxy")
    for number, (request, decision, first, now, generation) in enumerate(ended * 2):
        for outcome in (first, *outcomes):
            id = f"id{number}"
            line = patterns.end(request, decision, outcome, id=id, now=now, generation=generation)
            made = event(request, decision, id=id, now=now, role="proxy", outcome=outcome, generation=generation)
            assert line is None or line == encode(made)


def test_a_usual_tunnel_has_a_pattern() -> None:
    """What most lines are about is not encoded anew each time."""
    request = a_hello()
    decision = Decision(Verdict.ALLOW, Reason.RULE, rule="r", tls=Tls.SPLICE)
    outcome = Outcome(octets_out=1, octets_in=2, seconds=3.5, address=IPv4Address("192.0.2.1"))
    assert Patterns("proxy").end(request, decision, outcome, id="id", now=0.0, generation=1) is not None
