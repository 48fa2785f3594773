"""What new lists would deny of what was recorded."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Reason, Verdict
from gateway.feeds.impact import Denial, Impact, newly_denied, requests_of, target_of
from gateway.ledger.event import Event, Outcome, event
from gateway.request import Dial, DnsAnswer, DnsQuery, HttpRequest, Request, Tunnel
from tests.builders import a_dial, a_policy, a_query, a_request, a_tunnel, an_answer, deny
from tests.snapshots import snapshot_of

ALLOWED = Decision(Verdict.ALLOW, Reason.RULE)
OLD = snapshot_of({"feed": (("malware",), ("old.example",)), "quiet": ((), ())})
NEW = snapshot_of(
    {
        "quiet": ((), ("harmless.example",)),
        "feed": (("malware",), ("old.example", ".new.example", "93.184.216.0/24", "shared.example/bad")),
    }
)


def line(request: Request, decision: Decision = ALLOWED) -> Event:
    """Return the record of a request."""
    outcome = None if isinstance(request, DnsQuery | DnsAnswer) else Outcome(address=ip_address("93.184.216.7"))
    return event(request, decision, id="x", now=1e9, role="proxy", outcome=outcome)


def impact(*events: Event) -> Impact:
    """Ask a policy that denies malware."""
    rules = (deny(name="threats", categories=("malware",)),)
    default = Verdict.ALLOW
    return newly_denied(
        events, a_policy(*rules, default=default, lists=OLD), a_policy(*rules, default=default, lists=NEW)
    )


@pytest.mark.parametrize(
    ("request_", "target", "entry"),
    [
        (a_query("www.new.example"), "www.new.example", ".new.example"),
        (an_answer("cdn.example", "93.184.216.9"), "cdn.example", "93.184.216.0/24"),
        (an_answer("cdn.example", chain=("x.new.example",)), "cdn.example", ".new.example"),
        (a_tunnel("new.example"), "new.example", ".new.example"),
        (a_tunnel("elsewhere.example"), "elsewhere.example", "93.184.216.0/24"),
        (a_request("shared.example", "/bad/x?y"), "shared.example", "shared.example/bad"),
    ],
)
def test_what_would_newly_be_denied(request_: Request, target: str, entry: str) -> None:
    """Names, names on the way, addresses and URLs that a list newly has are found, with list, entry and rule."""
    found = impact(line(request_))
    (denial,) = found.denials
    assert denial == Denial("10.1.0.5", target, "feed", entry, denial.line, "threats")
    assert found.by_feed() == {"feed": {target}}
    assert (found.destinations, found.complete) == (1, True)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [line(a_query("harmless.example"))],
        [line(a_query("old.example"))],
        [line(a_query("www.new.example"), Decision(Verdict.DENY, Reason.RULE))],
        [line(a_query("other.example"))],
        [{"event.category": ["configuration"], "gateway.verdict": "allow", "dns.question.name": "www.new.example"}],
    ],
    ids=["nothing", "in no rule", "denied before", "was not allowed", "not listed", "no traffic"],
)
def test_what_stays_as_it_is(lines: list[Event]) -> None:
    """What no rule asks about, what was denied before and what is no traffic is no news."""
    assert impact(*lines).denials == ()


def test_repeats_count_once() -> None:
    """Destinations are counted, not requests; clients are told apart."""
    other = a_query("www.new.example", client=a_tunnel().client.__class__(address=ip_address("10.1.0.6")))
    found = impact(*[line(a_query("www.new.example"))] * 3, line(other), line(a_query("fine.example")))
    assert (found.destinations, len(found.denials)) == (2, 2)


def test_requests_come_back() -> None:
    """What a record says is what was asked."""
    dial = a_dial("93.184.216.7", a_request("shared.example", "/bad"))
    found = list(requests_of(line(dial)))
    assert [type(each) for each in found] == [HttpRequest, Dial]
    assert isinstance(found[0], HttpRequest)
    assert (found[0].host, found[0].path, found[0].port) == ("shared.example", "/bad", 80)
    assert [type(each) for each in requests_of(line(a_tunnel(ip_address("2001:db8::1"))))] == [Tunnel, Dial]
    assert target_of(line(a_tunnel("a.example"))) == "a.example"
    assert target_of({}) == ""


@given(st.dictionaries(st.sampled_from(sorted(line(a_request("a.example", "/x")) | line(an_answer("a.example")))),
                       st.text(max_size=20) | st.integers() | st.lists(st.text(max_size=5), max_size=3)))  # fmt: skip
def test_any_line_can_be_looked_at(record: dict[str, object]) -> None:
    """A line that somebody else wrote is passed over, or judged, and does no harm."""
    record |= {"event.category": ["network"], "gateway.verdict": "allow"}
    assert impact(record).destinations <= 1
