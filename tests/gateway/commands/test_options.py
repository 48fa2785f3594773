"""What commands have in common."""

from pathlib import Path

import click
import pytest

from gateway.commands.options import find, load_config


def test_the_policy_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an option, it is the one in the current folder; without that, the message says what to do."""
    assert find(tmp_path / "x.yaml") == tmp_path / "x.yaml"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError, match="no policy file: give --config FILE"):
        find(None)
    (tmp_path / "gateway.yaml").write_text("version: 1\n")
    assert find(None) == Path("gateway.yaml")


def test_a_bad_policy_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem is printed, and the exit code is 2."""
    (tmp_path / "gateway.yaml").write_text("version: 1\nbogus: 1\nbogus2: 1\n")
    with pytest.raises(SystemExit, match="2"):
        load_config(tmp_path / "gateway.yaml")
    assert capsys.readouterr().err.count("unknown key") == 2
