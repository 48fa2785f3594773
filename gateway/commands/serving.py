"""Commands that serve: resolver, proxy, both; and the certificate that clients of the proxy have to trust."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import click

from gateway import console
from gateway.commands.options import config_option, fail, load_config
from gateway.config import Config
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.proxy.ca import ensure_ca
from gateway.reports.lists import findings
from gateway.reports.serving import how_to_trust, welcome
from gateway.service import Supervisor, prepare_state_dir
from gateway.upkeep import run_refresh

_LOG = logging.getLogger(__name__)


@click.command()
@config_option
def run(config_path: Path | None) -> None:
    """Run everything: resolver and proxy."""
    _serve(config_path, ("dns", "proxy"))


@click.command()
@config_option
def dns(config_path: Path | None) -> None:
    """Run the resolver alone."""
    _serve(config_path, ("dns",))


@click.group(invoke_without_command=True)
@config_option
@click.pass_context
def proxy(context: click.Context, config_path: Path | None) -> None:
    """Run the proxy alone. It resolves names by itself and needs no `gateway dns` beside it."""
    context.obj = config_path
    if context.invoked_subcommand is None:
        _serve(config_path, ("proxy",))


@proxy.command(name="ca")
@config_option
@click.option("--export", is_flag=True, help="Print only the certificate, to be put into a file.")
@click.pass_obj
def proxy_ca(outer: Path | None, config_path: Path | None, *, export: bool) -> None:
    """Show the certificate that clients of inspected tunnels have to trust, and how; make it if there is none."""
    config = load_config(config_path or outer)
    if problem := prepare_state_dir(config.state_dir):
        fail(problem)
    certificate = ensure_ca(config.state_dir / "ca")
    if export:
        click.echo(certificate.read_text(), nl=False)
        return
    for line in how_to_trust(certificate):
        console.say(line)


def _serve(config_path: Path | None, roles: tuple[str, ...]) -> None:
    config = load_config(config_path)
    if problem := prepare_state_dir(config.state_dir):
        fail(problem)
    if problem := _prepare(config):
        fail(problem)

    def on_ready() -> None:
        _greet(welcome(config, roles, _shown(Path(sys.argv[0])), _shown(config.path)))

    supervisor = Supervisor(config, roles, on_ready, _prepare)
    raise SystemExit(asyncio.run(supervisor.run()))


def _greet(lines: Iterable[str]) -> None:
    """Print the welcome. That nobody can read it is no reason to serve nobody."""
    try:
        for line in lines:
            console.say(line)
    except OSError as error:
        _LOG.warning("standard output cannot be written to: %s", error.strerror)
        # What is left in the buffer would fail again at the end, and be the exit code.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _shown(path: Path) -> str:
    """Return a path as one would type it from the current folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _prepare(config: Config) -> str | None:
    """Bring the snapshot up to date from what is on this disk, without any network.

    Returns why there is no snapshot to go on with, or None when there is one (or none is needed).
    """
    if not config.active_feeds:
        return None
    report, _ = run_refresh(config, now=time.time(), offline=True, watch=False)
    for line in findings(report):
        _LOG.warning("%s", line)
    if not report.problem:
        return None
    try:
        Snapshot.open(config.snapshot_path).close()
    except SnapshotError as error:
        return f"no lists to filter with: {report.problem}; {error}"
    _LOG.warning("going on with the last good lists: %s", report.problem)
    return None
