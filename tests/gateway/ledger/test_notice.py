"""Lines that are no single decision."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.event import encode, event
from gateway.ledger.losses import Loss, Span
from gateway.ledger.notice import change_event, gap_event, rolled_up
from tests.gateway.ledger.samples import DENIED, hostile, query

SPAN = Span(count=7, first=10.0, last=20.5)


def test_repeats_point_to_the_first() -> None:
    """A rolled-up line has its own id and time, the first one's content, and how many there were."""
    first = event(query(), DENIED, id="a1", now=9.0, role="dns")
    line = rolled_up(first, id="a2", now=70.0, span=SPAN)
    assert (line["event.id"], line["gateway.rollup"], line["gateway.count"]) == ("a2", "a1", 7)
    assert (line["gateway.first"], line["gateway.last"]) == ("1970-01-01T00:00:10.000Z", "1970-01-01T00:00:20.500Z")
    assert line["@timestamp"] == "1970-01-01T00:01:10.000Z"
    assert line["dns.question.name"] == "evil.example"


@given(st.text(), hostile, st.none() | st.booleans() | st.integers() | st.floats() | hostile | st.lists(hostile))
def test_any_change_is_one_line(action: str, message: str, value: object) -> None:
    """Whatever a change is about, its record is one line that parses back."""
    made = change_event(action, message, id="a1", now=1.0, role="refresh", feed=value)
    line = encode(made)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == made
    assert ("gateway.change.feed" in made) is (value is not None)


def test_numbers_of_a_change_stay_numbers() -> None:
    """Numbers and truth values are recorded as such; what JSON has no number for, as text."""
    made = change_event("x", "y", id="a", now=1.0, role="dns", n=3, f=0.5, t=True, nan=math.nan)
    assert [made[f"gateway.change.{key}"] for key in ("n", "f", "t", "nan")] == [3, 0.5, True, "nan"]


def test_a_gap_says_how_many_of_what() -> None:
    """A gap line has the exact count and what the lost decisions had in common, and nothing else."""
    loss = Loss(verdict="deny", enforced=True, reason="listed", rule="feeds", client="10.0.0.1", span=SPAN)
    line = gap_event(loss, id="a1", now=1.0, role="dns")
    assert (line["gateway.count"], line["event.reason"], line["rule.name"]) == (7, "listed", "feeds")
    assert (line["source.ip"], line["gateway.verdict"], line["event.action"]) == ("10.0.0.1", "deny", "ledger-gap")
    bare = gap_event(
        Loss(verdict="", enforced=True, reason="x", rule="", client="", span=SPAN), id="a", now=1.0, role="dns"
    )
    assert not {"source.ip", "rule.name", "gateway.verdict"} & set(bare)
