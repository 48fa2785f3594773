"""The command that reads the ledger."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Ledger
from tests.builders import a_query, a_tunnel


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file without a ledger yet."""
    path = tmp_path / "gateway.yaml"
    path.write_text("version: 1\nstate_dir: state\n")
    return path


def run(*argv: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, argv)


def test_the_ledger_is_queried_by_condition(policy: Path) -> None:
    """Lines that match every condition, newest last; counts by group."""
    denied = Decision(Verdict.DENY, Reason.LISTED, rule="ours", technique=("T1105",))
    with Ledger(policy.parent / "state/ledger", "dns") as ledger:
        ledger.record(a_query("bad.example.com"), denied)
        ledger.record(a_tunnel("other.example.com"), Decision(Verdict.DENY, Reason.DEFAULT_DENY))
    only = run("ledger", "-c", str(policy), "--name", ".example.com", "--rule", "ours")
    assert len(only.stdout.splitlines()) == 1
    assert "bad.example.com" in only.stdout
    assert len(run("ledger", "-c", str(policy), "--last", "1").stdout.splitlines()) == 1
    counted = json.loads(run("ledger", "-c", str(policy), "--count", "reason", "--json").stdout)
    assert counted == [{"reason": "default-deny", "count": 1}, {"reason": "listed", "count": 1}]


def test_a_bad_time_is_a_usage_error(policy: Path) -> None:
    """The message gives the forms that are understood."""
    result = run("ledger", "-c", str(policy), "--since", "yesterday")
    assert result.exit_code == 2
    assert "expected a duration such as 1h" in result.stderr


def test_what_was_mistyped_is_not_nothing_found(policy: Path) -> None:
    """A reason or role that no line can have is an error; of what only is not there, a line says so."""
    result = run("ledger", "-c", str(policy), "--reason", "lsted")
    assert result.exit_code == 2
    assert "there is no reason 'lsted'; did you mean 'listed'?" in result.stderr
    assert run("ledger", "-c", str(policy), "--role", "dsn").exit_code == 2
    result = run("ledger", "-c", str(policy), "--id", "7x")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "there is no ledger yet\n")
    with Ledger(policy.parent / "state/ledger", "dns") as ledger:
        ledger.record(a_query("bad.example.com"), Decision(Verdict.DENY, Reason.RULE, rule="ours"))
    result = run("ledger", "-c", str(policy), "--id", "7x", "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "nothing in the ledger fits\n")
    assert run("ledger", "-c", str(policy), "--reason", "rule").stderr == ""
