"""The command that gets lists."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from gateway.cli import main


def run(command: str, policy: Path, *argv: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, [command, "-c", str(policy), *argv])


def test_quiet_prints_findings_alone(with_lists: Path) -> None:
    """For cron: nothing on standard output, and a line for what needs attention."""
    result = run("refresh", with_lists, "--quiet", "--jitter", "1ms")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "ours: rejected 1: more than one word, as in line 2: 'not a name'\n"


def test_jitter_is_a_duration(with_lists: Path) -> None:
    """A jitter without a unit is refused."""
    result = run("refresh", with_lists, "--jitter", "5")
    assert result.exit_code == 2
    assert "expected a duration" in result.stderr


def test_a_preview_says_what_would_be_denied(with_lists: Path) -> None:
    """By client and feed, with exit code 1; and then nothing has changed."""
    (with_lists.parent / "ours.txt").write_text("bad.example\nused.example\n")
    result = run("refresh", with_lists, "--preview")
    assert result.exit_code == 1
    assert "newly denied: 1 of 1 destination that were allowed in the last 24 hours" in result.stdout
    assert "10.1.0.5 -> www.used.example: feed ours, line 2 (.used.example), rule threats" in result.stdout
    assert run("hunt", with_lists).exit_code == 0, "it is not in force"


def test_a_refresh_tells_who_was_there(with_lists: Path) -> None:
    """After the swap, on standard error and in JSON; `hunt` finds the same."""
    (with_lists.parent / "ours.txt").write_text("bad.example\nused.example\n")
    result = run("refresh", with_lists, "--json")
    data = json.loads(result.stdout)
    assert [found["indicator"] for found in data["hunt"]] == ["www.used.example"]
    assert [denial["feed"] for denial in data["impact"]["denials"]] == ["ours"]
    found = run("hunt", with_lists, "--json")
    assert (found.exit_code, json.loads(found.stdout)) == (1, data["hunt"])
    assert "www.used.example" in run("hunt", with_lists, "--since", "1h", "--list", "ours").stdout
    assert run("hunt", with_lists, "--list", "nets").exit_code == 0
    assert run("hunt", with_lists, "--list", "nobody").exit_code == 2
    assert run("hunt", with_lists, "--since", "yesterday").exit_code == 2


def test_a_terminal_sees_progress(with_lists: Path) -> None:
    """On a terminal there is a bar while lists are compiled; in a pipe there is none."""
    (with_lists.parent / "ours.txt").write_text("other.example\n")
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).parent / "gateway"), "refresh", "-c", str(with_lists)]
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


def test_refresh_shows_a_row_for_each_list(with_lists: Path) -> None:
    """State, entries and version, and nothing to complain of."""
    result = run("refresh", with_lists)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[:3] == ["ours", "unchanged", "1"]


def test_refresh_reports_rejected_lines(with_lists: Path) -> None:
    """A line that could not be read is counted with its reason and shown."""
    (with_lists.parent / "ours.txt").write_text("bad.example.com\nno name!\n")
    result = run("refresh", with_lists, "--quiet")
    assert result.stdout == ""
    assert "ours: rejected 1" in result.stderr
    assert "line 2" in result.stderr


def test_accepting_a_list_that_is_not_there_is_an_error(with_lists: Path) -> None:
    """A name that is mistyped is not passed over as if something had been accepted."""
    result = run("refresh", with_lists, "--accept", "outs", "--offline")
    assert result.exit_code == 2
    assert "--accept: no enabled feed or list 'outs'" in result.stderr
