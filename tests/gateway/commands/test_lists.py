"""Commands about the lists at hand."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from gateway.cli import main


def run(command: str, policy: Path, *argv: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, [command, "-c", str(policy), *argv])


def test_feeds(with_lists: Path) -> None:
    """A row for each list; trouble gives exit code 1."""
    result = run("feeds", with_lists)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split()[:4] == ["list", "state", "entries", "rejected"]
    assert "ours  fresh  1        1" in result.stdout
    (with_lists.parent / "ours.txt").unlink()
    run("refresh", with_lists)
    result = run("feeds", with_lists, "--json")
    assert result.exit_code == 1
    ours = json.loads(result.stdout)["feeds"][0]
    assert (ours["name"], ours["outcome"], ours["entries"], ours["stale"]) == ("ours", "kept", 1, False)
    assert "No such file" in ours["reason"]


def test_feeds_before_any_refresh(tmp_path: Path) -> None:
    """Without a refresh there is nothing to show."""
    (tmp_path / "gateway.yaml").write_text("version: 1\n")
    result = run("feeds", tmp_path / "gateway.yaml")
    assert (result.exit_code, result.stderr) == (2, "no refresh has been made yet: run `gateway refresh`\n")


def test_feeds_that_cannot_be_read_are_not_said_to_be_none(tmp_path: Path) -> None:
    """Whoever may not read what the last refresh left is told that, and not to refresh."""
    (tmp_path / "gateway.yaml").write_text("version: 1\nstate_dir: state\n")
    (tmp_path / "state/feeds.json").mkdir(parents=True)
    result = run("feeds", tmp_path / "gateway.yaml")
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path}/state/feeds.json: Is a directory\n")


def test_export(with_lists: Path, tmp_path: Path) -> None:
    """To standard output or a file, all lists or some; what cannot be said is told."""
    result = run("export", with_lists, "--format", "hosts")
    assert result.stdout.splitlines()[1:] == ["0.0.0.0 bad.example"]
    assert "left out, because hosts cannot say it: 1 networks" in result.stderr
    result = run("export", with_lists, "--format", "nft", "--category", "c2", "-o", str(tmp_path / "out"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert "{ 192.0.2.0/24 }" in (tmp_path / "out").read_text()
    result = run("export", with_lists, "--format", "hosts", "--list", "nobody")
    assert result.exit_code == 2
    assert "no enabled feed or list 'nobody'" in result.stderr
    assert run("export", with_lists, "--format", "hosts", "-o", str(tmp_path / "none/out")).exit_code == 2
