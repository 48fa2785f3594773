"""The command that gets lists."""

import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from gateway import console
from gateway.commands.options import config_option, fail, json_option, load_config
from gateway.feeds.report import Progress as Event
from gateway.feeds.report import Step
from gateway.reports.lists import findings, hunt_lines, impact_lines, refresh_json, refresh_table
from gateway.service import prepare_state_dir
from gateway.units import parse_duration
from gateway.upkeep import run_refresh


def _jitter(_: click.Context, __: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value) if value else 0.0
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@config_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print only what needs attention: for cron.")
@click.option("--offline", is_flag=True, help="Use local files and the copies at hand; no network.")
@click.option("--force", is_flag=True, help="Ask for feeds before their interval is over.")
@click.option("--accept", multiple=True, metavar="FEED", help="Accept a feed's new copy whatever it changes.")
@click.option("--preview", is_flag=True, help="Say what new lists would deny of the last 24 hours; change nothing.")
@click.option("--jitter", callback=_jitter, default="", metavar="TIME", help="Wait up to so long before: for cron.")
def refresh(
    config_path: Path | None,
    *,
    as_json: bool,
    quiet: bool,
    offline: bool,
    force: bool,
    accept: tuple[str, ...],
    preview: bool,
    jitter: float,
) -> None:
    """Fetch feeds and compile all lists into the snapshot that workers use.

    Exit code 0: all lists are the newest; 1: some kept their last good copy; 2: nothing could be compiled. With
    --preview, 1 also means that something would newly be denied.
    """
    config = load_config(config_path)
    if unknown := sorted(set(accept) - set(config.active_feeds)):
        raise click.UsageError(f"--accept: no enabled feed or list {', '.join(map(repr, unknown))}")
    if problem := prepare_state_dir(config.state_dir):
        fail(problem)
    if jitter:
        time.sleep(random.uniform(0, jitter))  # many gateways with one cron file are not to ask at once
    with _progress(show=not (quiet or as_json)) as progress:
        report, steward = run_refresh(
            config,
            now=time.time(),
            offline=offline,
            force=force,
            preview=preview,
            accept=accept,
            progress=progress,
        )
    if as_json:
        console.as_json(refresh_json(report, steward.sightings))
    else:
        if not quiet:
            console.table(*refresh_table(report))
        if report.impact is not None and (report.impact.denials or preview):
            for line in impact_lines(report.impact):
                (console.say if preview else console.complain)(line)
        for line in (*findings(report), *hunt_lines(steward.sightings)):
            console.complain(line)
    denies = preview and report.impact is not None and bool(report.impact.denials)
    raise SystemExit(report.exit_code or int(denies))


@contextlib.contextmanager
def _progress(*, show: bool) -> Iterator[Callable[[Event], None]]:
    """Show bars on a terminal: one for each list that is fetched, one for compiling."""
    if not show or not sys.stderr.isatty():
        yield lambda _: None
        return
    # Not at the top: only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(event: Event) -> None:
            name = "compiling" if event.step is Step.COMPILING else event.name
            if event.step is Step.DONE:
                if name in tasks:
                    bars.remove_task(tasks.pop(name))
                return
            if name not in tasks:
                tasks[name] = bars.add_task(console.clean(name), total=None)
            bars.update(tasks[name], completed=event.octets, total=event.expected)

        yield progress
