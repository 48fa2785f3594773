"""Commands about the lists at hand: how they do, who was where they point, and giving them to others."""

import contextlib
import time
from pathlib import Path
from typing import cast

import click

from gateway import console
from gateway.commands.options import config_option, fail, json_option, load_config
from gateway.feeds.export import FORMATS, ExportError, ExportFormat, collect, render, write_export
from gateway.feeds.hunt import Hunt, ListLookup
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.feeds.status import FILE, load_status
from gateway.feeds.store import Store as Lists
from gateway.ledger.query import parse_time
from gateway.ledger.store import Store
from gateway.reports import lists as report


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
        with contextlib.suppress(FileNotFoundError):
            (config.state_dir / FILE).open().close()  # one that may not be read says so, in place of what follows
        fail("no refresh has been made yet: run `gateway refresh`")
    if as_json:
        console.as_json(report.feeds_json(status, now))
    else:
        console.table(*report.feeds_table(status, now))
        for line in report.feeds_notes(status, config.active_feeds, now):
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
            for event in Store(config.ledger_folder).read(since=start):
                search.look(event)
    except SnapshotError as error:
        fail(str(error))
    found = search.sightings()
    if as_json:
        console.as_json(report.hunt_json(found))
    else:
        console.table(*report.hunt_table(found))
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
            wanted = ", ".join(map(repr, sorted(unknown)))
            raise click.UsageError(
                f"no enabled feed or list {wanted}" if kind == "list" else f"no enabled list has category {wanted}"
            )
    try:
        with Snapshot.open(config.snapshot_path) as snapshot:
            found = collect(
                snapshot,
                active,
                Lists(config.state_dir),
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
