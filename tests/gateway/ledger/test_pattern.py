"""Tests for gateway.ledger.pattern."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Match, Reason, Tls, Verdict
from gateway.ledger.event import Outcome, encode, event
from gateway.ledger.pattern import Patterns
from gateway.request import Client, DnsQuery, TlsHello, Tunnel
from tests.builders import a_hello

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "<3 name>", '"<2 id>"', "a.example", "x@y", "\x1b[2J", "ü", "\ud800"]
)
CLIENTS = st.builds(
    Client,
    address=st.sampled_from([IPv4Address("10.0.0.1"), IPv6Address("::1"), IPv4Address(1)]),
    user=st.none() | TEXTS,
    certificate=st.none() | TEXTS,
)
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
    st.builds(DnsQuery, client=CLIENTS, name=TEXTS, qtype=st.sampled_from([1, 28, 65280])),
    REPORTED,
    st.floats(0, 4e9),
    st.integers(0, 2),
)


@given(st.lists(ASKED, min_size=1, max_size=6))
def test_a_line_is_the_event_encoded(asked: list[tuple[DnsQuery, Decision, float, int]]) -> None:
    """Whatever was recorded before, and whatever text is in it, a line is that of the event, octet by octet."""
    patterns = Patterns("dns")
    for number, (request, decision, now, generation) in enumerate(asked * 2):
        id = f"id{number}"
        line = patterns.line(request.client, request, decision, id=id, now=now, generation=generation)
        assert line == encode(event(request, decision, id=id, now=now, role="dns", generation=generation))


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
