"""The command that tries known bypasses; that it finds them is in tests/integration."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config import load


def test_the_policy_that_is_shown_is_a_good_one(tmp_path: Path) -> None:
    """What a foreign proxy has to enforce is told as a policy file, without starting anything."""
    shown = CliRunner().invoke(
        main, ["selfcheck", "--policy", "--good", "192.0.2.1", "--dns-listen", "127.0.0.1:5353"]
    )
    assert shown.exit_code == 0
    (tmp_path / "gateway.yaml").write_text(shown.stdout)
    assert not load(tmp_path / "gateway.yaml").warnings


@pytest.mark.parametrize("place", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:dns"])
def test_a_name_server_needs_a_place(place: str) -> None:
    """A place to listen without a port is a usage error."""
    result = CliRunner().invoke(main, ["selfcheck", "--dns-listen", place])
    assert result.exit_code == 2
    assert "is not address:port" in result.stderr


def test_a_policy_names_the_port_of_the_name_server() -> None:
    """Any free port is no port that a policy could name."""
    result = CliRunner().invoke(main, ["selfcheck", "--policy"])
    assert result.exit_code == 2
    assert "--dns-listen" in result.stderr
