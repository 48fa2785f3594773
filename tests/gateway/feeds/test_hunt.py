"""Who has already been where a list says that nobody should go."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Reason, Verdict
from gateway.feeds.hunt import Hunt, ListLookup
from gateway.ledger.event import Event, Outcome, event
from gateway.request import DnsAnswer, DnsQuery, Request
from tests.builders import a_query, a_request, a_tunnel, an_answer
from tests.snapshots import snapshot_of

OLD = ListLookup(snapshot_of({"feed": ((), ("known.example",)), "other": ((), (".new.example",))}))
NEW = ListLookup(
    snapshot_of(
        {
            "other": ((), (".new.example",)),
            "feed": ((), ("known.example", ".new.example", "93.184.216.0/24", "shared.example/bad")),
        }
    )
)
ALLOWED = Decision(Verdict.ALLOW, Reason.RULE)


def line(request: Request, decision: Decision = ALLOWED, now: float = 1e9) -> Event:
    """Return the record of a request."""
    dns = isinstance(request, DnsQuery | DnsAnswer)
    return event(
        request,
        decision,
        id="x",
        now=now,
        role="r",
        outcome=None if dns else Outcome(address=ip_address("203.0.113.1")),
    )


@pytest.mark.parametrize(
    ("request_", "indicator", "how"),
    [
        (a_query("www.new.example"), "www.new.example", "resolved"),
        (an_answer("cdn.example", "93.184.216.9"), "93.184.216.9", "resolved"),
        (an_answer("cdn.example", chain=("x.new.example",)), "x.new.example", "resolved"),
        (a_tunnel("new.example"), "new.example", "reached"),
        (a_request("shared.example", "/bad/x"), "shared.example/bad/x", "requested"),
    ],
)
def test_what_is_found(request_: Request, indicator: str, how: str) -> None:
    """Names, addresses and URLs that are newly on a list are found, with who was there and when."""
    hunt = Hunt(NEW, OLD)
    for now in (1e9, 1e9 + 60):
        hunt.look(line(request_, now=now))
    (found,) = hunt.sightings()
    assert (found.client, found.indicator, found.how, found.count) == ("10.1.0.5", indicator, how, 2)
    assert (found.match.list, found.id) == ("feed", "x")
    assert found.first < found.last


def test_what_is_no_news() -> None:
    """What the same list had before, what was denied, and what is not listed is not reported."""
    hunt = Hunt(NEW, OLD)
    for name in ("known.example", "fine.example"):
        hunt.look(line(a_query(name)))
    hunt.look(line(a_query("new.example"), Decision(Verdict.DENY, Reason.LISTED)))
    assert hunt.sightings() == []


def test_without_old_lists_everything_counts() -> None:
    """A hunt over all that is listed may be narrowed to some lists."""
    hunt = Hunt(NEW)
    hunt.look(line(a_query("new.example")))
    assert [found.match.list for found in hunt.sightings()] == ["feed", "other"]
    hunt = Hunt(NEW, lists=frozenset({"other"}))
    hunt.look(line(a_query("new.example")))
    assert [found.match.list for found in hunt.sightings()] == ["other"]


def test_sightings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of findings the others are only counted."""
    monkeypatch.setattr("gateway.feeds.hunt.MOST_SIGHTINGS", 3)
    hunt = Hunt(NEW, OLD)
    for number in range(5):
        hunt.look(line(a_query(f"h{number}.new.example")))
    assert (len(hunt.sightings()), hunt.dropped) == (3, 2)


@given(
    st.dictionaries(
        st.sampled_from(sorted(line(a_request("a.example", "/x")) | line(an_answer("a.example")))),
        st.text(max_size=20) | st.integers() | st.lists(st.text(max_size=5), max_size=3),
    )
)
def test_any_line_can_be_looked_at(record: dict[str, object]) -> None:
    """A line that somebody else wrote does no harm."""
    hunt = Hunt(NEW)
    hunt.look({**record, "event.category": ["network"], "gateway.verdict": "allow"})
    assert len(hunt.sightings()) <= 4
