"""What is told of DNS tunnels."""

from pathlib import Path

import pytest

from gateway.ledger.suspects import Suspect
from gateway.recordings.files import Recording
from gateway.reports.tunnels import finding_table, summary, suspect_json, suspect_table
from gateway.tunnelling.analysis import Finding, Report


def test_a_suspect_is_one_row() -> None:
    """Who told whom how much of what budget, with the leak as bars and the first sample; JSON has all of them."""
    found = Suspect("10.0.0.7", "evil.test", told=12.4, budget=120.0, curve=((0, 10), (5, 80)), samples=["a", "b"])
    headings, (row,) = suspect_table([found], ["closed"])
    shown = dict(zip(headings, row, strict=True))
    assert (shown["state"], shown["told"], shown["leak"], shown["such as"]) == ("closed", "12 of 120", "▁█", "a")
    assert shown["first"] == "1970-01-01T00:00:00Z"
    made = suspect_json(found, "closed")
    assert (made["state"], made["samples"]) == ("closed", ["a", "b"])


@pytest.mark.parametrize("client", ["10.0.0.7", "somebody"])
def test_findings_and_their_sum(client: str) -> None:
    """One row for each client and zone, whatever the recording calls the client; the sum speaks of all of them."""
    found = Finding(client, "evil.test", queries=9, denied=4, passed=5, told=70.0, characters=100, got=3.0)
    headings, (row,) = finding_table([found])
    assert len(headings) == len(row)
    assert (row[0], row[3], row[4]) == (client, 9, 4)
    near = Finding("10.0.0.8", "near.test", score=0.5)
    report = Report([found], queries=20, clients=2, zones=2, pairs=2, nearest=near)
    lines = list(summary(report, Recording(Path("x"))))
    assert lines[0].startswith("20 queries of 2 clients for 2 zones: 4 would have been denied, of 1 of 2 pairs")
    assert "70 octets of news" in lines[1]
    assert lines[2] == "nearest to a denial without one: 10.0.0.8 and near.test, at 50% of the budget"
    assert len(lines) == 3
