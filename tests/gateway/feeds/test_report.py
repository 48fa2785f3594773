"""What a refresh tells, as numbers."""

from pathlib import Path

import pytest

from gateway.feeds.compile import Account
from gateway.feeds.report import FeedResult, Outcome, RefreshReport

ACCOUNT = Account(
    name="a",
    version="0" * 12,
    entries=5,
    unsupported={},
    rejected={"empty name": 1, "single label": 2},
    dropped={"never-block": 4},
    samples={},
)


def test_the_numbers_of_a_feed() -> None:
    """A result sums up its account, and without one there is nothing."""
    result = FeedResult(name="a", outcome=Outcome.FRESH, account=ACCOUNT)
    assert (result.entries, result.rejected, result.dropped) == (5, 3, 4)
    result = FeedResult(name="a", outcome=Outcome.MISSING)
    assert (result.entries, result.rejected, result.dropped) == (0, 0, 0)


@pytest.mark.parametrize(
    ("outcomes", "problem", "code"),
    [
        ([], "", 0),
        ([Outcome.FRESH, Outcome.UNCHANGED], "", 0),
        ([Outcome.FRESH, Outcome.KEPT], "", 1),
        ([Outcome.UNCHANGED, Outcome.MISSING], "", 1),
        ([Outcome.FRESH], "disk full", 2),
    ],
)
def test_exit_codes(outcomes: list[Outcome], problem: str, code: int) -> None:
    """The exit code says whether all is well, something is old, or nothing could be compiled."""
    feeds = tuple(FeedResult(name=str(at), outcome=outcome, account=ACCOUNT) for at, outcome in enumerate(outcomes))
    report = RefreshReport(feeds=feeds, snapshot=Path("s"), problem=problem)
    assert report.exit_code == code
    assert report.entries == 5 * len(outcomes)
