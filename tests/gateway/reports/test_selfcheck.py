"""What is told of the battery of bypasses."""

from gateway.reports.selfcheck import as_json, table
from gateway.selfcheck.battery import Score
from gateway.selfcheck.cases import NUMBERS

SCORES = (Score(1, 2), Score(2, 3, ["first", "second"]))


def test_the_table_shows_the_first_failure_and_the_sum() -> None:
    """One row for each number, and one for all."""
    _, rows = table(SCORES)
    assert rows[0] == (1, NUMBERS[1], "2/2", "pass", "")
    assert rows[1] == (2, NUMBERS[2], "1/3", "FAIL", "first")
    assert rows[2][2:4] == ("1/2", "FAIL")


def test_json_has_every_failure() -> None:
    """A script sees all that got through, not only the first."""
    assert [score["failures"] for score in as_json(SCORES)] == [[], ["first", "second"]]
