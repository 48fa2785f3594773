"""Commands about lists: getting them, how they do, who was where they point, and giving them to others."""

import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway import console, reports
from gateway.commands.options import config_option, fail, json_option, load_config
from gateway.feeds.export import FORMATS, ExportError, ExportFormat, collect, render, write_export
from gateway.feeds.hunt import Hunt, ListLookup
from gateway.feeds.report import Progress as Event
from gateway.feeds.report import Step
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.feeds.status import load_status
from gateway.feeds.store import Store
from gateway.ledger.query import parse_time
from gateway.service import prepare_state_dir
from gateway.units import parse_duration
from gateway.upkeep import read_ledger, run_refresh


def _jitter(_: click.Context, __: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value) if value else 0.0
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(name="refresh")
@config_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print only what needs attention: for cron.")
@click.option("--offline", is_flag=True, help="Use local files and the copies at hand; no network.")
@click.option("--force", is_flag=True, help="Ask for feeds before their interval is over.")
@click.option("--accept", multiple=True, metavar="FEED", help="Accept a feed's new copy whatever it changes.")
@click.option("--preview", is_flag=True, help="Say what new lists would deny of the last 24 hours; change nothing.")
@click.option("--jitter", callback=_jitter, default="", metavar="TIME", help="Wait up to so long before: for cron.")
def refresh_command(
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
        console.as_json(reports.refresh_json(report, steward.sightings))
    else:
        if not quiet:
            console.table(*reports.refresh_table(report))
        if report.impact is not None and (report.impact.denials or preview):
            for line in reports.impact_lines(report.impact):
                (console.say if preview else console.complain)(line)
        for line in (*reports.findings(report), *reports.hunt_lines(steward.sightings)):
            console.complain(line)
    denies = preview and report.impact is not None and bool(report.impact.denials)
    raise SystemExit(report.exit_code or int(denies))


@contextlib.contextmanager
def _progress(*, show: bool) -> Iterator[Callable[[Event], None]]:
    """Show bars on a terminal: one for each list that is fetched, one for compiling."""
    if not show or not sys.stderr.isatty():
        yield lambda _: None
        return
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


@click.command()
@config_option
@json_option
def feeds(config_path: Path | None, *, as_json: bool) -> None:
    """Show how every feed and list does, as of the last refresh.

    Exit code 0: all are fresh; 1: some are kept, missing or too old; 2: there has been no refresh yet.
    """
    config = load_config(config_path)
    status, now = load_status(config.state_dir), time.time()
    if not status.refreshed:
        fail("no refresh has been made yet: run `gateway refresh`")
    if as_json:
        console.as_json(reports.feeds_json(status, now))
    else:
        console.table(*reports.feeds_table(status, now))
        for line in reports.feeds_notes(status, config.active_feeds, now):
            console.complain(line)
    bad = any(feed.outcome in ("kept", "missing") or feed.is_stale(now) for feed in status.feeds.values())
    raise SystemExit(int(bad or bool(status.problem)))


@click.command()
@config_option
@json_option
@click.option("--since", default="", help="From then on: 1h, 7d, or 2026-01-31T12:00:00Z. Without it: all there is.")
@click.option("--list", "lists", multiple=True, metavar="LIST", help="Only what this list names.")
def hunt(config_path: Path | None, *, as_json: bool, since: str, lists: tuple[str, ...]) -> None:
    """Search the ledger for clients that have reached or resolved what is listed now.

    What was denied is not shown. Exit code 0: nobody; 1: somebody.
    """
    config = load_config(config_path)
    now = time.time()
    try:
        start = parse_time(since, now) if since else now - config.file.ledger.keep
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for name in lists:
        if name not in config.active_feeds:
            raise click.UsageError(f"no enabled feed or list {name!r}")
    try:
        with Snapshot.open(config.snapshot_path) as snapshot:
            search = Hunt(ListLookup(snapshot), lists=frozenset(lists))
            for event in read_ledger(config, start):
                search.look(event)
    except SnapshotError as error:
        fail(str(error))
    found = search.sightings()
    if as_json:
        console.as_json(reports.hunt_json(found))
    else:
        console.table(*reports.hunt_table(found))
        if search.dropped:
            console.complain(f"{search.dropped} more are not shown: narrow it with --since or --list")
    raise SystemExit(int(bool(found)))


@click.command()
@config_option
@click.option("--format", "format_", type=click.Choice(FORMATS), required=True, help="What to write it in.")
@click.option("--category", "categories", multiple=True, help="Only lists of this category.")
@click.option("--list", "lists", multiple=True, metavar="LIST", help="Only this list.")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="A file, replaced as a whole.")
def export(
    config_path: Path | None,
    *,
    format_: str,
    categories: tuple[str, ...],
    lists: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write the lists in force for other resolvers, proxies and packet filters.

    With several --category and --list, a list is written that fits any of them. What the format cannot say is left
    out and told on standard error.
    """
    config = load_config(config_path)
    active = config.active_feeds
    known = {category for feed in active.values() for category in feed.categories}
    for kind, unknown in (("list", set(lists) - set(active)), ("category", set(categories) - known)):
        if unknown:
            raise click.UsageError(f"no enabled list has {kind} {', '.join(sorted(unknown))}")
    try:
        with Snapshot.open(config.snapshot_path) as snapshot:
            found = collect(
                snapshot,
                active,
                Store(config.state_dir),
                lambda name, feed: (
                    not (lists or categories) or name in lists or not set(categories).isdisjoint(feed.categories)
                ),
            )
        write_export(output, render(found, cast(ExportFormat, format_), title="egress gateway"), click.echo)
    except (SnapshotError, ExportError) as error:
        fail(str(error))
    except BrokenPipeError:
        return
    except OSError as error:
        fail(f"{error.filename or output}: {error.strerror or error}")
    for kind, count in found.left_out.items():
        console.complain(f"left out, because {format_} cannot say it: {count} {kind}")
