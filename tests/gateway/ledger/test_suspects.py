"""Suspects from the ledger."""

from datetime import UTC, datetime
from ipaddress import ip_address

from gateway.dns.leakage import decision_of
from gateway.ledger.event import Event, event
from gateway.ledger.losses import Span
from gateway.ledger.notice import rolled_up
from gateway.ledger.suspects import gather
from gateway.request import Client, DnsQuery
from gateway.tunnelling.data import character_model, popular
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.priors import Priors

START = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
DAY = 86400


def tunnel(*, enforced: bool = True, queries: int = 40) -> list[Event]:
    """Return the ledger of a client that tried a tunnel, a query every ten seconds."""
    detector = Detector(character_model(), Priors(popular()))
    client = Client(address=ip_address("10.0.0.7"))
    lines = []
    for index in range(queries):
        name = f"{index:04x}7b3a9f21.evilzone.com"
        found = detector.query(index * 10, "10.0.0.7", name, 1)
        if found.denied:
            request = DnsQuery(client=client, name=name, qtype=1)
            decision = decision_of(found, enforced=enforced)
            lines.append(event(request, decision, id=str(index), now=START + index * 10, role="dns"))
    return lines


def test_a_tunnel_is_one_suspect() -> None:
    """Client, zone, what left of what budget, when, which names: all from its lines."""
    lines = tunnel()
    (suspect,) = gather([{"event.reason": "listed"}, *lines])
    assert (suspect.client, suspect.zone, suspect.prior) == ("10.0.0.7", "evilzone.com", "unknown")
    assert suspect.denials == len(lines)
    assert 0 < suspect.told <= suspect.budget == 120
    assert suspect.score >= 1
    assert suspect.last == START + 390
    assert suspect.first < suspect.last
    assert len(suspect.samples) == 5
    assert suspect.curve[-1][1] == round(suspect.told, 1)
    assert "denied before" not in suspect.why
    assert "T1071.004" in suspect.techniques


def test_states() -> None:
    """A zone is closed for a day after the denial that closed it, unless the client is released later."""
    (suspect,) = gather(tunnel())
    key = ("10.0.0.7", "evilzone.com")
    assert suspect.state(START + 400, {}) == "closed"
    assert suspect.state(START + 400, {key: suspect.last + 1}) == "released"
    assert suspect.state(START + 400, {key: suspect.first - 1}) == "closed"
    assert suspect.state(suspect.until + 1, {}) == "past"
    (reported,) = gather(tunnel(enforced=False))
    assert reported.state(START, {}) == "reported"


def test_repeats_count() -> None:
    """A line that stands for many denials counts as many, up to the last of them."""
    lines = tunnel()
    rolled = rolled_up(lines[-1], id="x", now=START + 600, span=Span(first=START + 500, last=START + 590, count=9))
    (suspect,) = gather([*lines, rolled])
    assert suspect.denials == len(lines) + 9
    assert suspect.last == START + 590


def test_odd_lines_are_passed_over() -> None:
    """Lines without evidence, as those that stand for lost ones, are no suspects."""
    assert gather([{"event.reason": "dns-tunnel"}, {"event.reason": "dns-tunnel", "source.ip": "x"}]) == []
