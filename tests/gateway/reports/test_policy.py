"""What is told of a policy."""

from pathlib import Path

import pytest

from gateway.config import load
from gateway.decision import Decision, Match, Reason, Verdict
from gateway.document import Problem
from gateway.explain import Stage
from gateway.reports.policy import problems_json, stage_json, stage_notes, stage_table
from tests.builders import a_tunnel


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
    _, rows = stage_table([Stage("tunnel", a_tunnel(), decision)])
    assert rows[0][1] == verdict


def test_notes_quote_the_entry_when_the_copy_is_gone(tmp_path: Path) -> None:
    """Evidence does not depend on the stored copy of a list."""
    (tmp_path / "gateway.yaml").write_text("version: 1\nclients: {web: {addresses: [10.0.0.0/8]}}\n")
    matched = Match("feed", "abc", 7, "bad.example", ("malware",))
    stage = Stage("tunnel", a_tunnel(), Decision(Verdict.DENY, Reason.LISTED, matched=matched, technique=("T1105",)))
    notes = list(stage_notes([stage], load(tmp_path / "gateway.yaml"), (), resolved=False))
    assert notes == [
        "list feed (malware), version abc, line 7:",
        "    bad.example",
        "ATT&CK: T1105",
        "client groups: none",
    ]


def test_notes_tell_the_terms_of_the_rule(tmp_path: Path) -> None:
    """What an allowed flow has to hold to is said with the rule that asks for it."""
    (tmp_path / "gateway.yaml").write_text("version: 1\n")
    config = load(tmp_path / "gateway.yaml")
    stage = Stage("dial", a_tunnel(), Decision(Verdict.ALLOW, Reason.RULE, rule="bank", pins=("x",)))
    assert list(stage_notes([stage], config, (), resolved=True)) == [
        "rule bank: the origin has to prove the pinned key"
    ]
    assert stage_json(stage, config)["terms"] == ["the origin has to prove the pinned key"]


def test_problems_become_json() -> None:
    """Every field of a problem is a key."""
    (found,) = problems_json([Problem("f", 3, "a.b", "wrong")])
    assert found == {"file": "f", "line": 3, "path": "a.b", "message": "wrong", "warning": False}
