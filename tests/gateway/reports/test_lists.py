"""What is told of lists."""

from pathlib import Path

from gateway.feeds.report import FeedResult, Outcome, RefreshReport
from gateway.reports.lists import findings, refresh_json, refresh_table

REPORT = RefreshReport(
    snapshot=Path("state/snapshot.egs"),
    feeds=(
        FeedResult(name="good", outcome=Outcome.FRESH, version="0123456789abcdef", age=3.2),
        FeedResult(name="late", outcome=Outcome.KEPT, reason="HTTP 500", version="ff", age=7200.0),
        FeedResult(name="never", outcome=Outcome.MISSING, reason="has never been fetched"),
    ),
)


def test_findings_name_the_feed_and_what_to_do() -> None:
    """Only what needs attention, each in one line."""
    assert list(findings(REPORT)) == [
        "late: kept its last good copy: HTTP 500",
        "never: not in force: has never been fetched; run `gateway refresh` when it can be had",
    ]


def test_the_refresh_table_has_a_row_for_each_list() -> None:
    """Age and version are short."""
    headings, rows = refresh_table(REPORT)
    assert headings[0] == "list"
    assert [row[0] for row in rows] == ["good", "late", "never"]
    assert rows[0][5] == "3s"
    assert rows[2][5] == "-"


def test_the_refresh_json_carries_the_exit_code() -> None:
    """A script needs no parsing of words."""
    assert refresh_json(REPORT)["exit_code"] == 1
