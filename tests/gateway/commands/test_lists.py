"""Commands about lists."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Ledger
from tests.builders import a_query

POLICY = """
version: 1
state_dir: state
ledger: {allowed_dns: true}
lists:
  ours: {path: ours.txt, format: domains, categories: [malware]}
  nets: {path: nets.txt, format: addresses, categories: [c2]}
policy:
  default: {proxy: deny, dns: allow}
  rules:
    - {name: threats, action: deny, to: {categories: [malware, c2]}}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy with two compiled lists, and one name that was resolved."""
    (tmp_path / "ours.txt").write_text("bad.example\nnot a name\n")
    (tmp_path / "nets.txt").write_text("192.0.2.0/24\n")
    path = tmp_path / "gateway.yaml"
    path.write_text(POLICY)
    run("refresh", path, "--quiet")
    with Ledger(tmp_path / "state/ledger", role="dns", allowed_dns=True) as ledger:
        ledger.record(a_query("www.used.example"), Decision(Verdict.ALLOW, Reason.DEFAULT_ALLOW))
    return path


def run(command: str, policy: Path, *argv: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, [command, "-c", str(policy), *argv])


def test_quiet_prints_findings_alone(policy: Path) -> None:
    """For cron: nothing on standard output, and a line for what needs attention."""
    result = run("refresh", policy, "--quiet", "--jitter", "1ms")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "ours: rejected 1: more than one word, as in line 2: 'not a name'\n"


def test_jitter_is_a_duration(policy: Path) -> None:
    """A jitter without a unit is refused."""
    result = run("refresh", policy, "--jitter", "5")
    assert result.exit_code == 2
    assert "expected a duration" in result.stderr


def test_a_preview_says_what_would_be_denied(policy: Path) -> None:
    """By client and feed, with exit code 1; and then nothing has changed."""
    (policy.parent / "ours.txt").write_text("bad.example\nused.example\n")
    result = run("refresh", policy, "--preview")
    assert result.exit_code == 1
    assert "newly denied: 1 of 1 destination that were allowed in the last 24 hours" in result.stdout
    assert "10.1.0.5 -> www.used.example: feed ours, line 2 (.used.example), rule threats" in result.stdout
    assert run("hunt", policy).exit_code == 0, "it is not in force"


def test_a_refresh_tells_who_was_there(policy: Path) -> None:
    """After the swap, on standard error and in JSON; `hunt` finds the same."""
    (policy.parent / "ours.txt").write_text("bad.example\nused.example\n")
    result = run("refresh", policy, "--json")
    data = json.loads(result.stdout)
    assert [found["indicator"] for found in data["hunt"]] == ["www.used.example"]
    assert [denial["feed"] for denial in data["impact"]["denials"]] == ["ours"]
    found = run("hunt", policy, "--json")
    assert (found.exit_code, json.loads(found.stdout)) == (1, data["hunt"])
    assert "www.used.example" in run("hunt", policy, "--since", "1h", "--list", "ours").stdout
    assert run("hunt", policy, "--list", "nets").exit_code == 0
    assert run("hunt", policy, "--list", "nobody").exit_code == 2
    assert run("hunt", policy, "--since", "yesterday").exit_code == 2


def test_feeds(policy: Path) -> None:
    """A row for each list; trouble gives exit code 1."""
    result = run("feeds", policy)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split()[:4] == ["list", "state", "entries", "rejected"]
    assert "ours  fresh  1        1" in result.stdout
    (policy.parent / "ours.txt").unlink()
    run("refresh", policy)
    result = run("feeds", policy, "--json")
    assert result.exit_code == 1
    ours = json.loads(result.stdout)["feeds"][0]
    assert (ours["name"], ours["outcome"], ours["entries"], ours["stale"]) == ("ours", "kept", 1, False)
    assert "No such file" in ours["reason"]


def test_feeds_before_any_refresh(tmp_path: Path) -> None:
    """Without a refresh there is nothing to show."""
    (tmp_path / "gateway.yaml").write_text("version: 1\n")
    result = run("feeds", tmp_path / "gateway.yaml")
    assert (result.exit_code, result.stderr) == (2, "no refresh has been made yet: run `gateway refresh`\n")


def test_export(policy: Path, tmp_path: Path) -> None:
    """To standard output or a file, all lists or some; what cannot be said is told."""
    result = run("export", policy, "--format", "hosts")
    assert result.stdout.splitlines()[1:] == ["0.0.0.0 bad.example"]
    assert "left out, because hosts cannot say it: 1 networks" in result.stderr
    result = run("export", policy, "--format", "nft", "--category", "c2", "-o", str(tmp_path / "out"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert "{ 192.0.2.0/24 }" in (tmp_path / "out").read_text()
    assert run("export", policy, "--format", "hosts", "--list", "nobody").exit_code == 2
    assert run("export", policy, "--format", "hosts", "-o", str(tmp_path / "none/out")).exit_code == 2


def test_a_terminal_sees_progress(policy: Path) -> None:
    """On a terminal there is a bar while lists are compiled; in a pipe there is none."""
    (policy.parent / "ours.txt").write_text("other.example\n")
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).parent / "gateway"), "refresh", "-c", str(policy)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # how the kernel says that the other side of a terminal is closed
            break
    os.close(ours)
    assert process.wait(30) == 0
    assert b"compiling" in seen
    piped = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (piped.returncode, piped.stderr) == (0, "")
