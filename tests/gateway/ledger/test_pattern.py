"""Tests for gateway.ledger.pattern."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Match, Reason, Tls, Verdict
from gateway.ledger.event import encode, event
from gateway.ledger.pattern import Patterns
from gateway.request import Client, DnsQuery

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
