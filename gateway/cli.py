"""The command line: which commands there are, and where each is.

Exit codes: 0 good, 1 found what you should look at, 2 usage or configuration error.
"""

import errno
import logging
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

import click

from gateway import __version__, console

EXIT_USAGE = 2
"""Exit code of what could not be begun."""


class Place(NamedTuple):
    """Where a command is, and what it does."""

    module: str
    """Of `gateway.commands`."""
    name: str
    summary: str
    """How the command's own help begins: told without importing it."""


COMMANDS = {
    "check": Place("policy", "check", "Validate the policy file and its catalogues; print every problem."),
    "dns": Place("serving", "dns", "Run the resolver alone."),
    "explain": Place("policy", "explain", "Say what would happen to a request, at each stage, and why."),
    "export": Place("lists", "export", "Write the lists in force for other resolvers, proxies and packet filters."),
    "feeds": Place("lists", "feeds", "Show how every feed and list does, as of the last refresh."),
    "hunt": Place("lists", "hunt", "Search the ledger for clients that have reached or resolved what is listed now."),
    "ledger": Place("ledger", "ledger", "Show recorded decisions."),
    "proxy": Place("serving", "proxy", "Run the proxy alone."),
    "refresh": Place("refresh", "refresh", "Fetch feeds and compile all lists into the snapshot that workers use."),
    "run": Place("serving", "run", "Run everything: resolver and proxy."),
    "schema": Place("policy", "schema", "Print the JSON Schema of the policy file."),
    "selfcheck": Place("selfcheck", "selfcheck", "Try a battery of known bypasses on a proxy."),
    "tunnels": Place("tunnels", "tunnels", "Show clients that told zones too much, as the ledger has it."),
}


class Commands(click.Group):
    """Commands whose modules are imported when they are wanted: one that prints a schema needs no proxy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(f"gateway.commands.{place.module}"), place.name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that does not exist, say which was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if near := get_close_matches(args[0], COMMANDS, 1):
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a file that cannot be had ends it with one line that names it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if error.filename is None and not full:
                raise  # nothing that a user would know what to do about
            advice = "; run this as the gateway's user" if isinstance(error, PermissionError) else ""
            where = console.clean(str(error.filename or "cannot write"))
            click.echo(f"{where}: {error.strerror}{advice}", err=True)
            raise SystemExit(EXIT_USAGE) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in sorted(COMMANDS)])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Filter what servers may reach: one policy for a proxy and a resolver, one ledger of decisions."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
