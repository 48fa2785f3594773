"""The command line: every command is found, and none brings along what another needs."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, Commands, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_it_is_said_to_be(name: str) -> None:
    """Its module has it, under this name, and its help begins as the list of commands says."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").startswith(COMMANDS[name].summary.removesuffix("."))


def test_the_list_of_commands_has_them_all() -> None:
    """One line for each, in order."""
    listed = CliRunner().invoke(main, ["--help"]).stdout.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.splitlines() if line[2:3].strip()] == sorted(COMMANDS)


def test_an_unknown_command_is_a_usage_error() -> None:
    """Exit code 2, and the name as it was given."""
    result = CliRunner().invoke(main, ["rum"])
    assert result.exit_code == 2
    assert "'rum'" in result.stderr
    assert "Did you mean 'run'?" in result.stderr


class Broken(Commands):
    """Commands that each meet the same error."""

    def __init__(self, error: OSError) -> None:
        super().__init__("gateway")
        self.error = error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one that raises."""

        def fail() -> None:
            raise self.error

        return click.Command(cmd_name, callback=fail)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/s/ledger"),
            "/s/ledger: Permission denied; run this as ",
        ),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/s/\x1b[2J"), "/s/\\x1b[2J: Is a directory\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write: No space left on device\n"),
    ],
    ids=["not the owner", "another kind of file", "a full disk"],
)
def test_a_file_that_cannot_be_had_is_one_line(error: OSError, said: str) -> None:
    """It is named, with exit code 2, and not shown as a traceback."""
    result = CliRunner().invoke(Broken(error), ["run"])
    assert result.exit_code == 2
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


def test_an_error_without_a_file_is_no_users_affair() -> None:
    """It stays a traceback: a line would hide where it came from."""
    error = OSError(errno.EBADF, "Bad file descriptor")
    assert CliRunner().invoke(Broken(error), ["run"]).exception is error


LOADED = """
import json, sys
from gateway.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print(json.dumps([end.code, sorted(sys.modules)]), file=sys.stderr)
"""
"""Runs a command as the entry point does, and tells its exit code and which modules were imported."""

NEVER = {"requests", "tldextract"}
"""What nothing needs: a public suffix list is read, not fetched."""
SERVING = {"asyncio", "aiohttp", "mitmproxy", "uvloop", "h2", "h11", "cryptography"}
"""What only those need who talk with a network, or make and check certificates and signatures."""
DRAWING = {"rich"}
"""What only a terminal needs, and a pipe is none."""
READING = {"pydantic", "yaml", "dnslib", "bcrypt"}
"""What only those need who read a policy file."""

LEFT_OUT = [
    (("--help",), NEVER | SERVING | DRAWING | READING),
    (("schema",), NEVER | SERVING | DRAWING),
    (("check", "-c", "gateway.yaml"), NEVER | SERVING | DRAWING),
    (("explain", "-c", "gateway.yaml", "https://a.example/"), NEVER | SERVING | DRAWING),
    (("ledger", "-c", "gateway.yaml"), NEVER | SERVING | DRAWING),
    (("tunnels", "-c", "gateway.yaml"), NEVER | SERVING | DRAWING),
    (("feeds", "-c", "gateway.yaml"), NEVER | SERVING | DRAWING),
    (("hunt", "-c", "gateway.yaml"), NEVER | SERVING | DRAWING),
    (("export", "-c", "gateway.yaml", "--format", "hosts"), NEVER | SERVING | DRAWING),
    (("refresh", "-c", "gateway.yaml", "--offline"), NEVER | DRAWING | {"mitmproxy", "uvloop"}),
    (("run", "--help"), NEVER | DRAWING | {"mitmproxy", "uvloop"}),
]


@pytest.mark.parametrize(("argv", "without"), LEFT_OUT, ids=[argv[0] for argv, _ in LEFT_OUT])
def test_a_command_imports_only_what_it_needs(argv: tuple[str, ...], without: set[str], tmp_path: Path) -> None:
    """A command that is called for one answer does not wait for libraries that it makes no use of."""
    (tmp_path / "gateway.yaml").write_text("version: 1\nstate_dir: state\n")
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, *argv], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    code, loaded = json.loads(ran.stderr.splitlines()[-1])
    assert code in (0, 1, 2)
    assert "Traceback" not in ran.stderr
    assert not without.intersection(loaded)
