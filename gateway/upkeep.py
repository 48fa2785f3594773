"""The refresh job of one installation: lists, ledger and resolver of a policy file put together.

Looks at the ledger before new lists are put in force (what would they deny that was used today?) and after (who has
already been there?), and writes down what has changed. Everything that takes time has a bound.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.config import Config
from gateway.dns.bootstrap import BootstrapResolver
from gateway.dns.settings import make_settings, parse_resolv_conf
from gateway.feeds.export import ExportError, collect
from gateway.feeds.hunt import Hunt, ListLookup, Sighting
from gateway.feeds.impact import Impact, newly_denied
from gateway.feeds.refresh import refresh
from gateway.feeds.report import Outcome, Progress, RefreshReport
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.feeds.store import Store as Lists
from gateway.feeds.zones import read_index, write_zone, zone_folder
from gateway.ledger import Event
from gateway.ledger.store import Store
from gateway.runtime import open_ledger

_LOG = logging.getLogger(__name__)

IMPACT_WINDOW = 86400.0
"""Seconds of the ledger that new lists are held against."""
BUDGET = 60.0
"""Seconds that a look at the ledger may take in a refresh; `gateway hunt` has no such bound."""
MOST_TOLD = 1000
"""Findings of one hunt that are written into the ledger one by one."""
_LONGEST_NAME = 253
_RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(slots=True)
class Steward:
    """Watches a refresh with the eyes of the policy and of the ledger (a `gateway.feeds.refresh.Watcher`)."""

    config: Config
    now: float
    budget: float = BUDGET
    sightings: tuple[Sighting, ...] = ()
    """What a hunt has found after the swap."""
    untold: int = 0
    """Findings beyond those."""
    exhausted: bool = False
    """The hunt ran out of time before it was through."""

    def impact(self, old: Snapshot, new: Snapshot) -> Impact:
        """Return what was allowed in the last 24 hours and would be denied with the new lists."""
        events = _within(self._events(self.now - IMPACT_WINDOW), self.budget, lambda: None)
        return newly_denied(events, self.config.policy(old), self.config.policy(new))

    def swapped(self, old: Snapshot | None, new: Snapshot) -> None:
        """Search the ledger for what is new on the lists."""
        if old is None:
            return
        hunt = Hunt(ListLookup(new), ListLookup(old))

        def out_of_time() -> None:
            self.exhausted = True

        since = self.now - self.config.file.ledger.keep
        for event in _within(self._events(since), self.budget, out_of_time):
            hunt.look(event)
        self.sightings, self.untold = tuple(hunt.sightings()), hunt.dropped

    def _events(self, since: float) -> Iterator[Event]:
        return Store(self.config.ledger_folder).read(since=since)


def _within(events: Iterator[Event], seconds: float, late: Callable[[], None]) -> Iterator[Event]:
    end = time.monotonic() + seconds
    for number, event in enumerate(events):
        if not number % 256 and time.monotonic() > end:
            late()
            return
        yield event


def run_refresh(
    config: Config,
    *,
    now: float,
    offline: bool = False,
    force: bool = False,
    preview: bool = False,
    accept: tuple[str, ...] = (),
    watch: bool = True,
    progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[RefreshReport, Steward]:
    """Refresh the lists of a policy file, and write into the ledger what has changed.

    Without `watch`, the ledger is not searched: a gateway that starts does not wait for that.
    """
    steward = Steward(config, now)

    async def work() -> RefreshReport:
        return await refresh(
            config.feeds,
            config.state_dir,
            now=now,
            offline=offline,
            force=force,
            preview=preview,
            accept=accept,
            resolver=None if offline else bootstrap(config),
            watcher=steward if watch else None,
            progress=progress,
        )

    report = asyncio.run(work())
    if not preview:
        if warnings := tuple(write_zones(config)):
            report = replace(report, warnings=(*report.warnings, *warnings))
        record(config, report, steward)
    return report, steward


def write_zones(config: Config) -> Iterator[str]:
    """Write the zones for other resolvers anew, where the lists have changed; yield what went wrong."""
    if not config.rpz_zones:
        return
    try:
        snapshot = Snapshot.open(config.snapshot_path)
    except SnapshotError as error:
        yield f"dns.rpz_zones: {error}"
        return
    with snapshot:
        for name, zone in config.rpz_zones.items():
            folder = zone_folder(config.state_dir, name)
            chosen = (zone.section.categories, zone.section.lists)
            made_of = f"{snapshot.notes.get('fingerprint')} {snapshot.created} {chosen!r}"
            index = read_index(folder)
            if index is not None and index.made_of == made_of:
                continue
            try:
                found = collect(snapshot, config.active_feeds, Lists(config.state_dir), zone.holds)
                longest = _LONGEST_NAME - 1 - len(name)
                write_zone(folder, found, made_of=made_of, now=snapshot.created, longest=longest)
            except ExportError as error:
                yield f"dns.rpz_zones: {name}: {error}"
            except OSError as error:
                yield f"dns.rpz_zones: {name}: {error.filename or folder}: {error.strerror or error}"


def bootstrap(config: Config) -> BootstrapResolver:
    """Return a resolver that needs no running gateway. It is closed with the session that uses it."""
    try:
        text = _RESOLV_CONF.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    # Asking ourselves finds nobody while we are not up; another address of this host costs a time-out at worst.
    settings = make_settings(
        config.file.dns,
        record_allowed=False,
        system=parse_resolv_conf(text),
        is_local=lambda address: address.is_loopback,
        upstream_ca=config.upstream_ca,
    )
    return BootstrapResolver(settings)


def record(config: Config, report: RefreshReport, steward: Steward) -> None:
    """Write what a refresh has changed, and what it has found, into the ledger."""
    failed = [feed for feed in report.feeds if feed.outcome in (Outcome.KEPT, Outcome.MISSING) and feed.reason]
    fresh = [feed for feed in report.feeds if feed.outcome is Outcome.FRESH and report.swapped]
    if not (failed or fresh or report.problem or report.swapped):
        return
    with open_ledger(config, "refresh") as ledger:
        for feed in fresh:
            ledger.change(
                "feed-changed",
                f"feed {feed.name} has a new version: {feed.entries} entries",
                feed=feed.name, version=feed.version, entries=feed.entries, dropped=feed.dropped,
            )  # fmt: skip
        for feed in failed:
            ledger.change(
                "feed-kept", f"feed {feed.name}: {feed.reason}", feed=feed.name, version=feed.version or None
            )
        if report.problem:
            ledger.change("refresh-failed", report.problem)
        if report.swapped:
            ledger.change("lists-swapped", f"new lists: {report.entries} entries", octets=report.octets)
        for found in steward.sightings[:MOST_TOLD]:
            ledger.change("feed-hunt", str(found), **found.fields())
        untold = len(steward.sightings[MOST_TOLD:]) + steward.untold
        if untold or steward.exhausted:
            ledger.change(
                "feed-hunt-incomplete",
                f"{untold} more findings; `gateway hunt` shows all" if untold else
                f"the ledger was not searched to its end within {steward.budget:g} seconds; run `gateway hunt`",
            )  # fmt: skip
