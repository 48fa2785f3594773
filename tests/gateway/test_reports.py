"""What commands print."""

from pathlib import Path

import pytest

from gateway import reports
from gateway.config import load
from gateway.decision import Decision, Match, Reason, Verdict
from gateway.document import Problem
from gateway.explain import Stage
from gateway.feeds.report import FeedResult, Outcome, RefreshReport
from tests.builders import a_tunnel

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
    assert list(reports.findings(REPORT)) == [
        "late: kept its last good copy: HTTP 500",
        "never: not in force: has never been fetched; run `gateway refresh` when it can be had",
    ]


@pytest.mark.parametrize(
    ("closed", "said", "silent"),
    [("dns", "curl -x http://127.0.0.1:3128", "dig"), ("proxy", "dig @127.0.0.1 -p 5335", "curl")],
)
def test_the_welcome_speaks_of_what_listens(tmp_path: Path, closed: str, said: str, silent: str) -> None:
    """A part that listens nowhere is left out, and so is what to try there."""
    policy = tmp_path / "gateway.yaml"
    policy.write_text(f"version: 1\n{closed}: {{listen: []}}\n")
    told = "\n".join(reports.welcome(load(policy), ("dns", "proxy"), "gateway", "gateway.yaml"))
    assert said in told
    assert silent not in told


def test_the_refresh_table_has_a_row_for_each_list() -> None:
    """Age and version are short."""
    headings, rows = reports.refresh_table(REPORT)
    assert headings[0] == "list"
    assert [row[0] for row in rows] == ["good", "late", "never"]
    assert rows[0][5] == "3s"
    assert rows[2][5] == "-"


def test_the_refresh_json_carries_the_exit_code() -> None:
    """A script needs no parsing of words."""
    assert reports.refresh_json(REPORT)["exit_code"] == 1


@pytest.mark.parametrize(
    ("decision", "verdict"),
    [
        (Decision(Verdict.ALLOW, Reason.RULE), "allow"),
        (Decision(Verdict.DENY, Reason.RULE), "deny"),
        (Decision(Verdict.DENY, Reason.RULE, enforced=False), "would deny"),
    ],
)
def test_the_stage_table_tells_reported_from_enforced(decision: Decision, verdict: str) -> None:
    """Report mode is visible."""
    _, rows = reports.stage_table([Stage("tunnel", a_tunnel(), decision)])
    assert rows[0][1] == verdict


def test_notes_quote_the_entry_when_the_copy_is_gone(tmp_path: Path) -> None:
    """Evidence does not depend on the stored copy of a list."""
    (tmp_path / "gateway.yaml").write_text("version: 1\nclients: {web: {addresses: [10.0.0.0/8]}}\n")
    matched = Match("feed", "abc", 7, "bad.example", ("malware",))
    stage = Stage("tunnel", a_tunnel(), Decision(Verdict.DENY, Reason.LISTED, matched=matched, technique=("T1105",)))
    notes = list(reports.stage_notes([stage], load(tmp_path / "gateway.yaml"), (), resolved=False))
    assert notes == [
        "list feed (malware), version abc, line 7:",
        "    bad.example",
        "ATT&CK: T1105",
        "client groups: none",
    ]


def test_problems_become_json() -> None:
    """Every field of a problem is a key."""
    (found,) = reports.problems_json([Problem("f", 3, "a.b", "wrong")])
    assert found == {"file": "f", "line": 3, "path": "a.b", "message": "wrong", "warning": False}


def test_notes_tell_the_terms_of_the_rule(tmp_path: Path) -> None:
    """What an allowed flow has to hold to is said with the rule that asks for it."""
    (tmp_path / "gateway.yaml").write_text("version: 1\n")
    config = load(tmp_path / "gateway.yaml")
    stage = Stage("dial", a_tunnel(), Decision(Verdict.ALLOW, Reason.RULE, rule="bank", pins=("x",)))
    assert list(reports.stage_notes([stage], config, (), resolved=True)) == [
        "rule bank: the origin has to prove the pinned key"
    ]
    assert reports.stage_json(stage, config)["terms"] == ["the origin has to prove the pinned key"]
