"""The ledger of a process: what is recorded, and that no denial goes uncounted."""

import re
import tempfile
from collections import Counter
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Event, Ledger, Outcome
from gateway.ledger.query import count_of
from gateway.ledger.store import Store
from gateway.request import Client, DnsAnswer, Request
from tests.gateway.ledger.samples import (
    ALLOWED,
    CLIENT,
    DENIED,
    HTTP,
    TUNNEL,
    decisions,
    outcomes,
    query,
    requests,
    wait_for,
)


class Clock:
    """A clock that goes when told to."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def _read(directory: Path) -> list[Event]:
    store = Store(directory)
    events = list(store.read())
    assert store.unreadable == 0
    return events


def test_what_is_recorded(tmp_path: Path) -> None:
    """Denials, reported denials and ends of what was allowed are recorded; allowed beginnings and queries are not."""
    trial = Decision(Verdict.DENY, Reason.TOOL, rule="no-curl", enforced=False)
    with Ledger(tmp_path, "proxy") as ledger:
        ids = {
            "denied": ledger.record(TUNNEL, DENIED),
            "unenforced": ledger.record(HTTP, replace(DENIED, enforced=False)),
            "reported": ledger.record(TUNNEL, replace(ALLOWED, reported=(trial,))),
            "ended": ledger.record(TUNNEL, ALLOWED, Outcome(octets_in=5)),
        }
        unrecorded = {ledger.record(TUNNEL, ALLOWED), ledger.record(query(), ALLOWED)}
    assert [event["event.id"] for event in _read(tmp_path)] == list(ids.values())
    assert len({*ids.values(), *unrecorded}) == 6


def test_allowed_queries_are_recorded_on_demand(tmp_path: Path) -> None:
    """With `allowed_dns` each allowed query is a line of its own."""
    with Ledger(tmp_path, "dns", allowed_dns=True) as ledger:
        for _ in range(3):
            ledger.record(query(), ALLOWED)
    assert [event["gateway.verdict"] for event in _read(tmp_path)] == ["allow"] * 3


def test_ids_are_short_and_differ_between_ledgers(tmp_path: Path) -> None:
    """Ids are twelve signs that need no quoting, and never the same, in one ledger or two."""
    with Ledger(tmp_path, "dns", 0) as one, Ledger(tmp_path, "dns", 1) as other:
        ids = [ledger.record(TUNNEL, ALLOWED) for ledger in (one, other) for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert all(re.fullmatch(r"[0-9a-z]{12}", id) for id in ids)


def test_repeated_blocks_are_rolled_up(tmp_path: Path) -> None:
    """The first block is a line at once; repeats within a minute become one line with count, first and last time."""
    clock = Clock()
    with Ledger(tmp_path, "dns", clock=clock) as ledger:
        first = ledger.record(query(), DENIED)
        assert ledger.flush()
        assert len(_read(tmp_path)) == 1
        for second in (1, 2, 30):
            clock.now = 1e9 + second
            assert ledger.record(query(), DENIED) == first
        clock.now = 1e9 + 60
        assert ledger.flush()
        clock.now = 1e9 + 61
        assert ledger.flush()
        assert ledger.record(query(), DENIED) != first
    written, repeats, again = _read(tmp_path)
    assert (written["event.id"], repeats["gateway.rollup"]) == (first, first)
    assert repeats["gateway.count"] == 3
    assert (repeats["gateway.first"], repeats["gateway.last"]) == (
        "2001-09-09T01:46:41.000Z",
        "2001-09-09T01:47:10.000Z",
    )
    assert repeats["dns.question.name"] == again["dns.question.name"] == "evil.example"


def test_one_who_records_may_count_repeats_by_himself(tmp_path: Path) -> None:
    """A receipt says where to count while its minute lasts; the counts come out like all others."""
    clock = Clock()
    with Ledger(tmp_path, "dns", clock=clock) as ledger:
        first = ledger.enter(query(), DENIED)
        assert first.open
        first.again(1e9 + 1)
        assert ledger.enter(query(), DENIED) is first
        clock.now = 1e9 + 60
        assert ledger.flush()
        assert not first.open
        assert ledger.enter(query(qtype=28), DENIED) is not first
    lines = _read(tmp_path)
    assert [line.get("gateway.count", 1) for line in lines] == [1, 1, 2]
    assert lines[2]["gateway.rollup"] == first.id


def test_only_what_is_identical_is_rolled_up(tmp_path: Path) -> None:
    """Another client, family, name, type, reason, rule, mode, generation, answer or trial rule is another line."""
    trial = Decision(Verdict.DENY, Reason.TOOL, rule="t", enforced=False)
    answer = DnsAnswer(client=CLIENT, name="evil.example", qtype=1)
    cases: list[tuple[Request, Decision]] = [
        (query(), DENIED),
        (query(client=replace(CLIENT, address=ip_address("10.2.0.8"))), DENIED),
        (query(client=replace(CLIENT, address=IPv6Address(int(CLIENT.address)))), DENIED),
        (query(client=replace(CLIENT, user="u")), DENIED),
        (query("x.example"), DENIED),
        (query(qtype=28), DENIED),
        (query(), replace(DENIED, reason=Reason.QTYPE)),
        (query(), replace(DENIED, rule="other")),
        (query(), replace(DENIED, enforced=False)),
        (query(), replace(ALLOWED, reported=(trial,))),
        (query(), replace(ALLOWED, reported=(trial, replace(trial, rule="s")))),
        (answer, DENIED),
        (replace(answer, addresses=(ip_address("10.0.0.1"),)), DENIED),
        (replace(answer, chain=("c.example",)), DENIED),
    ]
    with Ledger(tmp_path, "dns") as ledger:
        for _ in range(3):
            for request, decision in cases:
                ledger.record(request, decision)
        ledger.generation = 2
        ledger.record(*cases[0])
    counts = Counter(count_of(event) for event in _read(tmp_path))
    assert counts == {1: len(cases) + 1, 2: len(cases)}


def test_nobody_is_recorded_under_the_name_of_another(tmp_path: Path) -> None:
    """What is proven of one client is in its own lines alone, whoever was denied the like first."""
    users = "alice", None, "bob", None
    with Ledger(tmp_path, "proxy") as ledger:
        for number, user in enumerate(users):
            client = replace(CLIENT, user=user, certificate=user and f"CN={user}")
            ledger.record(query(f"{number}.example", client=client), DENIED)
    told = [(line.get("user.name"), line.get("tls.client.subject")) for line in _read(tmp_path)]
    assert told == [(user, user and f"CN={user}") for user in users]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from((0.0, 0.5, 20.0, 61.0, -30.0)), st.booleans()),
        max_size=120,
    ),
    st.integers(1, 10),
)
def test_no_denial_goes_uncounted(sequence: list[tuple[str, float, bool]], backlog: int) -> None:
    """Whatever the order, the clock and the room for lines, the counts in the ledger are the denials made."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        with Ledger(Path(folder), "dns", clock=clock, backlog=backlog) as ledger:
            for name, step, dns in sequence:
                clock.now += step
                ledger.record(query(name) if dns else replace(TUNNEL, host=name), DENIED)
        assert sum(map(count_of, _read(Path(folder)))) == len(sequence)


def test_more_kinds_than_room_close_in_full(tmp_path: Path) -> None:
    """At closing, repeats of more kinds than the backlog has room for are each written with their name."""
    with Ledger(tmp_path, "dns", backlog=256) as ledger:
        for number in range(1000):
            ledger.record(query(f"n{number}.example"), DENIED)
            if number % 100 == 99:
                assert ledger.flush()
        for number in range(1000):
            ledger.record(query(f"n{number}.example"), DENIED)
    names = Counter(str(event.get("dns.question.name")) for event in _read(tmp_path))
    assert names == {f"n{number}.example": 2 for number in range(1000)}


def test_overflow_counts_what_a_record_stands_for(tmp_path: Path) -> None:
    """A record of several decisions that cannot be written is several in the gap line."""
    (tmp_path / "state").write_text("in the way")
    ledger = Ledger(tmp_path / "state" / "ledger", "proxy", backlog=1)
    ledger.record(TUNNEL, DENIED)
    ledger.record(TUNNEL, DENIED, Outcome(seconds=1.0, count=7))
    assert ledger.status().folded == 7
    (tmp_path / "state").unlink()
    assert ledger.close()


def test_overflow_keeps_exact_counts_by_kind(tmp_path: Path) -> None:
    """While nothing can be written, denials are counted by client and rule, and come out as gaps when it can."""
    (tmp_path / "state").write_text("in the way")
    others = [Client(address=ip_address(f"10.9.0.{number}")) for number in range(5)]
    ledger = Ledger(tmp_path / "state" / "ledger", "proxy", backlog=10)
    for number in range(100):
        ledger.record(replace(TUNNEL, client=others[number % 5]), DENIED)
    ledger.change("policy-loaded", "lost too")
    status = ledger.status()
    assert (status.queued, status.folded) == (10, 91)
    (tmp_path / "state").unlink()
    wait_for(lambda: ledger.status().trouble == "" and ledger.status().queued == 0)
    assert ledger.close()
    events = _read(tmp_path / "state" / "ledger")
    assert len(events) == 10 + 5 + 1
    counts: Counter[object] = Counter()
    for event in events:
        counts[event.get("source.ip")] += count_of(event)
    assert counts.pop(None) == 1
    assert counts == {f"10.9.0.{number}": 20 for number in range(5)}


@settings(max_examples=50, deadline=None)
@given(request=requests, decision=decisions, outcome=st.none() | outcomes)
def test_recording_never_raises(request: Request, decision: Decision, outcome: Outcome | None) -> None:
    """Any request, decision and outcome is taken, and a denial leaves exactly one line."""
    with tempfile.TemporaryDirectory() as folder:
        with Ledger(Path(folder), "dns") as ledger:
            assert ledger.record(request, decision, outcome)
        if decision.verdict is Verdict.DENY:
            assert len(_read(Path(folder))) == 1


def test_what_cannot_be_built_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A request of no known kind is counted under its reason, and the log says so."""
    with Ledger(tmp_path, "dns") as ledger:
        assert ledger.record(None, DENIED)  # type: ignore[arg-type]  # the point of the test
        assert ledger.record(None, None)  # type: ignore[arg-type]
        ledger.change("x", "y", id_=None)
    lines = _read(tmp_path)
    assert {line.get("event.reason") for line in lines} == {"listed", None}
    assert "could not be recorded in full" in caplog.text


def test_what_cannot_be_written_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A block whose line turns out not to be one is counted with its repeats, and takes no other line along."""
    names: tuple[Any, ...] = ("a.example", 5, 5, 5, "b.example", "b.example")
    with Ledger(tmp_path, "dns") as ledger:
        for name in names:
            ledger.record(query(name), DENIED)
    lines = _read(tmp_path)
    assert {line["dns.question.name"] for line in lines if "dns.question.name" in line} == {"a.example", "b.example"}
    assert sum(count_of(line) for line in lines) == len(names)
    assert "could not be recorded in full" in caplog.text


def test_changes_are_recorded(tmp_path: Path) -> None:
    """A change is a line of its own with its fields."""
    with Ledger(tmp_path, "refresh") as ledger:
        ledger.change("feed-updated", "urlhaus has 12 entries", feed="urlhaus", entries=12)
    (event,) = _read(tmp_path)
    assert (event["event.action"], event["gateway.change.entries"]) == ("feed-updated", 12)
    assert event["event.category"] == ["configuration"]


def test_closing_in_trouble_tells_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Closing while nothing can be written says how many lines and how many uncounted repeats are lost."""
    (tmp_path / "state").write_text("in the way")
    ledger = Ledger(tmp_path / "state" / "ledger", "dns", backlog=2)
    for name in ("a.example", "b.example"):
        for _ in range(3):
            ledger.record(query(name), DENIED)
    assert not ledger.close(0.2)
    assert "2 records" in caplog.text
    assert "4 repeats" in caplog.text


def test_recording_after_closing_is_harmless(tmp_path: Path) -> None:
    """After closing nothing is written, nothing raises, and what comes is counted."""
    ledger = Ledger(tmp_path, "dns")
    assert ledger.close()
    assert ledger.record(TUNNEL, DENIED)
    assert ledger.status().folded == 1
    assert ledger.close()
