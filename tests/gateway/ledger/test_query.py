"""Which events, and how many of what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import Event
from gateway.ledger.event import event
from gateway.ledger.query import Filter, Grouping, count_of, parse, parse_time, summarize
from tests.gateway.ledger.samples import ALLOWED, DENIED, HTTP, query

NOW = 1e9
BLOCK = event(query("www.evil.example"), DENIED, id="a1", now=NOW, role="dns")
REQUEST = event(HTTP, ALLOWED, id="a2", now=NOW + 60, role="proxy")
REPEATS: Event = {**BLOCK, "event.id": "a3", "gateway.rollup": "a1", "gateway.count": 41}


@pytest.mark.parametrize(
    ("conditions", "block", "request_"),
    [
        ({}, True, True),
        ({"verdict": "deny"}, True, False),
        ({"reason": "listed"}, True, False),
        ({"rule": "mirrors"}, False, True),
        ({"role": "proxy"}, False, True),
        ({"stage": "dns-query"}, True, False),
        ({"action": "http-request"}, False, True),
        ({"list": "urlhaus"}, True, False),
        ({"user": "batch"}, False, False),
        ({"client": "10.2.0.7"}, True, True),
        ({"client": "10.2.0.0/16"}, True, True),
        ({"client": "10.2.0.9/16"}, True, True),
        ({"client": "10.3.0.0/16"}, False, False),
        ({"client": "2001:db8::/32"}, False, False),
        ({"name": "www.evil.example"}, True, False),
        ({"name": "evil.example"}, False, False),
        ({"name": "*.evil.example"}, True, False),
        ({"name": "*.www.evil.example"}, False, False),
        ({"name": ".evil.example"}, True, False),
        ({"name": ".deb.example"}, False, True),
        ({"technique": "T1105"}, True, False),
        ({"technique": "t1105"}, True, False),
        ({"technique": "T110"}, False, False),
        ({"id": "a1"}, True, False),
        ({"enforced": True}, True, True),
        ({"enforced": False}, False, False),
        ({"since": "30s"}, False, True),
        ({"until": "2001-09-09T01:47:00Z"}, True, False),
        ({"verdict": "deny", "role": "proxy"}, False, False),
    ],
)
def test_conditions(conditions: dict[str, str], block: bool, request_: bool) -> None:
    """Each condition picks what it says, and several are ANDed."""
    wanted = parse(now=NOW + 60, **conditions)  # type: ignore[arg-type]  # one of them is a truth value
    assert (wanted.matches(BLOCK), wanted.matches(REQUEST)) == (block, request_)


def test_an_id_finds_the_repeats_too() -> None:
    """The id that a client was shown finds the first record and the line of its repeats."""
    assert parse(now=NOW, id="a1").matches(REPEATS)
    assert parse(now=NOW, id="a3").matches(REPEATS)


def test_a_sub_technique_belongs_to_its_technique() -> None:
    """Asking for a technique finds its sub-techniques."""
    assert parse(now=NOW, technique="T1071").matches({"threat.technique.id": ["T1071.004"]})


def test_names_that_only_dns_allows_can_be_asked_for() -> None:
    """Names with escapes, and addresses, are found as they are written."""
    assert parse(now=NOW, name=r"*.a\032b").matches({"dns.question.name": r"x.a\032b"})
    assert parse(now=NOW, name="192.0.2.7").matches({"destination.ip": "192.0.2.7"})
    assert parse(now=NOW, name=".2").matches({"dns.question.name": "2"})


def test_times_as_people_write_them() -> None:
    """Durations count back from now; moments are RFC 3339, in UTC unless they say otherwise."""
    assert parse_time("2d", NOW) == NOW - 2 * 86400
    assert parse_time("2001-09-09T03:46:40+02:00", 0) == NOW
    assert parse_time("2001-09-09 01:46:40", 0) == NOW


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"since": "yesterday"}, "since: expected a duration"),
        ({"until": "999999999999w"}, "until: "),
        ({"client": "batch"}, "client: expected an address"),
    ],
)
def test_what_cannot_be_read_is_named(conditions: dict[str, str], message: str) -> None:
    """An unreadable condition is a `ValueError` that says which one."""
    with pytest.raises(ValueError, match=message):
        parse(now=NOW, **conditions)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("reason", [("listed", 42), ("rule", 1)]),
        ("rule", [("threat-feeds", 42), ("mirrors", 1)]),
        ("client", [("10.2.0.7", 43)]),
        ("name", [("www.evil.example", 42), ("deb.example", 1)]),
        ("technique", [("T1105", 42)]),
        ("list", [("urlhaus", 42)]),
        ("role", [("dns", 42), ("proxy", 1)]),
        ("verdict", [("deny", 42), ("allow", 1)]),
    ],
)
def test_summary(by: Grouping, expected: list[tuple[str, int]]) -> None:
    """Counts are of decisions, so a rolled-up line counts as many as it stands for."""
    assert summarize([BLOCK, REQUEST, REPEATS], by) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(sorted({**BLOCK, **REQUEST, **REPEATS})), json_values))
def test_foreign_events_are_no_trouble(found: Event) -> None:
    """Whatever a line holds, it matches or not, and counts as one or more."""
    full = parse(now=NOW, client="::/0", name=".x", technique="T1", id="a", enforced=True, since="1s", until="1s")
    assert full.matches(found) in (True, False)
    assert Filter().matches(found)
    assert count_of(found) >= 1
    for by in ("technique", "client", "name", "list"):
        summarize([found], by)
