"""What the ledger was told: each denial once, whatever became of its line."""

from dataclasses import replace
from pathlib import Path

from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Ledger, Outcome
from gateway.ledger.tally import Denial, Passed, Tally, denials_of
from tests.gateway.ledger.samples import ALLOWED, CLIENT, DENIED, HTTP, TUNNEL, query

TRIAL = Decision(Verdict.DENY, Reason.TOOL, rule="no-curl", enforced=False)


def test_what_a_decision_counts_as() -> None:
    """A denial, one that is not enforced, what a rule on trial would have denied; and nothing."""
    assert list(denials_of(DENIED)) == [Denial(DENIED.reason.value, True)]
    assert list(denials_of(TRIAL)) == [Denial("tool", False)]
    assert list(denials_of(replace(ALLOWED, reported=(TRIAL,)))) == [Denial("tool", False)]
    assert list(denials_of(ALLOWED)) == []


def test_each_is_counted_once() -> None:
    """What was only reported is counted when it is decided and not at its end; a denial at the end is news."""
    tally = Tally()
    tally.note(TUNNEL, TRIAL, None)
    tally.note(TUNNEL, TRIAL, Outcome())
    tally.note(TUNNEL, DENIED, Outcome())
    assert tally.denials({}) == {Denial("tool", False): 1, Denial(DENIED.reason.value, True): 1}


def test_what_requests_moved() -> None:
    """Their ends are added up by scheme; tunnels are counted elsewhere."""
    tally = Tally()
    for scheme in ("http", "https", "https"):
        tally.note(replace(HTTP, scheme=scheme), ALLOWED, Outcome(octets_out=1, octets_in=10))
    tally.note(TUNNEL, ALLOWED, Outcome(octets_out=1, octets_in=10))
    assert tally.passed == {"http": Passed(1, 1, 10), "https": Passed(2, 2, 20)}


def test_repeats_are_counted_wherever_they_are(tmp_path: Path) -> None:
    """Repeats of a DNS block count at once: while their window is open, when it closes, and after."""
    now = 1e9
    blocked, denial = Decision(Verdict.DENY, Reason.LISTED), Denial("listed", True)
    with Ledger(tmp_path, "dns", clock=lambda: now) as ledger:
        for expected in (1, 2, 3):
            repeats = ledger.enter(query("bad.example"), blocked)
            assert ledger.denials()[denial] == expected
        repeats.again(now)  # as the resolver does, without asking the ledger
        assert ledger.denials()[denial] == 4
        now += 61.0
        ledger.flush()
        assert ledger.denials()[denial] == 4
        now += 5.0
        ledger.flush()
        assert not repeats.open
        assert ledger.denials() == {denial: 4}
        ledger.enter(query("bad.example"), blocked)
        assert ledger.denials() == {denial: 5}


def test_a_backlog_that_is_full_loses_no_count(tmp_path: Path) -> None:
    """Denials without a line of their own are counted like the others."""
    ledger = Ledger(tmp_path, "proxy", backlog=0)
    try:
        for _ in range(50):
            ledger.record(replace(TUNNEL, client=CLIENT), DENIED)
        assert sum(ledger.denials().values()) == 50
    finally:
        ledger.close(timeout=0.1)  # it never finds room for what it would write


def test_one_line_may_stand_for_many() -> None:
    """Denials that are told in one line are counted one by one."""
    tally = Tally()
    tally.note(TUNNEL, DENIED, Outcome(count=5))
    assert tally.denials({}) == {Denial(DENIED.reason.value, True): 5}
