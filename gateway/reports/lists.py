"""What is told of lists: how a refresh went, what new ones would deny, who was where they point.

Pure: no I/O; time is given.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gateway.console import Rows, counted
from gateway.feeds.catalog import Feed
from gateway.feeds.hunt import Sighting
from gateway.feeds.impact import Impact
from gateway.feeds.report import Outcome, RefreshReport
from gateway.feeds.status import Status
from gateway.units import render_duration

_MOST = 20
"""Lines printed of one kind of finding."""


def refresh_table(report: RefreshReport) -> Rows:
    """Return one row for each list."""
    rows: list[Sequence[object]] = [
        (
            feed.name,
            feed.outcome.value,
            feed.entries,
            feed.rejected,
            feed.dropped,
            "-" if feed.age is None else render_duration(round(feed.age)),
            feed.version[:12] or "-",
            feed.reason,
        )
        for feed in report.feeds
    ]
    return ("list", "state", "entries", "rejected", "dropped", "age", "version", "note"), rows


def findings(report: RefreshReport) -> Iterator[str]:
    """Yield one line for everything about a refresh that needs attention."""
    if report.problem:
        yield f"nothing compiled: {report.problem}"
    yield from report.warnings
    for feed in report.feeds:
        if feed.is_stale and feed.age is not None:
            yield f"{feed.name}: its copy is {render_duration(round(feed.age))} old, more than max_age"
        if feed.outcome is Outcome.MISSING:
            yield f"{feed.name}: not in force: {feed.reason}; run `gateway refresh` when it can be had"
        elif feed.outcome is Outcome.KEPT:
            yield f"{feed.name}: kept its last good copy: {feed.reason}"
        if feed.account is None:
            continue
        for kind, counts in (("rejected", feed.account.rejected), ("dropped", feed.account.dropped)):
            for reason, count in counts.items():
                samples = feed.account.samples.get(reason, ())
                shown = f", as in line {samples[0][0]}: {samples[0][1]!r}" if samples else ""
                yield f"{feed.name}: {kind} {count}: {reason}{shown}"


def impact_lines(impact: Impact) -> Iterator[str]:
    """Yield what new lists would deny, or do deny now, that was allowed of late: by feed and client."""
    counted_all = counted(impact.destinations, "destination")
    if not impact.denials:
        yield f"none of {counted_all} of the last 24 hours would newly be denied"
        return
    targets = {denial.target for denial in impact.denials}
    yield f"newly denied: {len(targets)} of {counted_all} that were allowed in the last 24 hours"
    for denial in impact.denials[:_MOST]:
        yield (
            f"  {denial.client} -> {denial.target}: feed {denial.feed}, line {denial.line} ({denial.entry}), "
            f"rule {denial.rule or '-'}"
        )
    if len(impact.denials) > _MOST:
        yield f"  and {len(impact.denials) - _MOST} more"
    if not impact.complete:
        yield "  not everything was looked at: too many destinations"


def hunt_lines(sightings: Sequence[Sighting]) -> Iterator[str]:
    """Yield who has already been where the new lists point."""
    for found in sightings[:_MOST]:
        times = f", {found.count} times" if found.count > 1 else ""
        yield f"{found}: {found.first[:19]} to {found.last[:19]}{times}"
    if len(sightings) > _MOST:
        yield f"and {len(sightings) - _MOST} more: run `gateway hunt`"


def hunt_table(sightings: Sequence[Sighting]) -> Rows:
    """Return one row for each client and indicator."""
    rows: list[Sequence[object]] = [
        (
            found.match.list,
            f"{found.user}@{found.client}" if found.user else found.client,
            found.how,
            found.indicator,
            found.match.entry,
            found.first[:19],
            found.last[:19],
            found.count,
        )
        for found in sightings
    ]
    return ("list", "client", "how", "what", "entry", "first", "last", "count"), rows


def hunt_json(sightings: Sequence[Sighting]) -> list[dict[str, object]]:
    """Return findings for JSON."""
    return [found.fields() for found in sightings]


def refresh_json(report: RefreshReport, sightings: Sequence[Sighting] = ()) -> dict[str, Any]:
    """Return a refresh for JSON."""
    impact = report.impact
    return {
        "exit_code": report.exit_code,
        "problem": report.problem,
        "snapshot": str(report.snapshot),
        "swapped": report.swapped,
        "octets": report.octets,
        "entries": report.entries,
        "warnings": list(report.warnings),
        "impact": None
        if impact is None
        else {
            "destinations": impact.destinations,
            "complete": impact.complete,
            "denials": [denial._asdict() for denial in impact.denials],
        },
        "hunt": hunt_json(sightings),
        "feeds": [
            {
                "name": feed.name,
                "outcome": feed.outcome.value,
                "reason": feed.reason,
                "version": feed.version,
                "age": feed.age,
                "entries": feed.entries,
                "rejected": dict(feed.account.rejected) if feed.account else {},
                "unsupported": dict(feed.account.unsupported) if feed.account else {},
                "dropped": dict(feed.account.dropped) if feed.account else {},
            }
            for feed in report.feeds
        ],
    }


def feeds_table(status: Status, now: float) -> Rows:
    """Return one row for each feed, as of the last refresh."""
    rows: list[Sequence[object]] = [
        (
            feed.name,
            "stale" if feed.is_stale(now) else feed.outcome,
            feed.entries,
            feed.rejected,
            feed.dropped,
            _ago(feed.last_success, now),
            _ago(feed.last_change, now),
            feed.version or "-",
            "never-block" if feed.never_block else ",".join(feed.categories) or "-",
            feed.reason,
        )
        for feed in status.feeds.values()
    ]
    return (
        ("list", "state", "entries", "rejected", "dropped", "fresh", "changed", "version", "categories", "note"),
        rows,
    )


def _ago(time: float, now: float) -> str:
    if not time:
        return "never"
    seconds = max(0, round(now - time))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"


def feeds_notes(status: Status, active: Mapping[str, Feed], now: float) -> Iterator[str]:
    """Yield what a table of feeds has no room for."""
    if status.problem:
        yield f"the last refresh ({_ago(status.refreshed, now)}) compiled nothing: {status.problem}"
    for name in active.keys() - status.feeds.keys():
        yield f"{name}: not refreshed yet: run `gateway refresh`"
    for feed in status.feeds.values():
        if feed.is_stale(now):
            yield f"{feed.name}: its copy is older than max_age ({render_duration(feed.max_age or 0)})"


def feeds_json(status: Status, now: float) -> dict[str, Any]:
    """Return the state of the feeds for JSON."""
    data = asdict(status)
    data["feeds"] = [
        {**asdict(feed), "age": feed.age(now), "stale": feed.is_stale(now)} for feed in status.feeds.values()
    ]
    return data
