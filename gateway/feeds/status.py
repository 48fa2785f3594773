"""What became of every feed at the last refresh: kept in `feeds.json`, shown by `gateway feeds`, fit for metrics.

Reads and writes that one file. A refresh also finds in it how often a feed has failed of late, and leaves one that
keeps failing alone for longer and longer.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from gateway.feeds.store import write_atomically

FILE = "feeds.json"
_FIRST_PAUSE = 300.0
_LONGEST_PAUSE = 86400.0
_MOST_DOUBLINGS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatus:
    """One feed. Times are seconds since the epoch; 0 is never."""

    name: str
    outcome: str = ""
    """As `gateway.feeds.report.Outcome`."""
    reason: str = ""
    """Why it is not fresh; safe to print."""
    version: str = ""
    """Digest of the copy in use; empty without one."""
    categories: tuple[str, ...] = ()
    never_block: bool = False
    entries: int = 0
    rejected: int = 0
    dropped: int = 0
    last_attempt: float = 0.0
    """When its publisher was last asked."""
    last_success: float = 0.0
    """When the copy was last known to be what the publisher has."""
    last_change: float = 0.0
    failures: int = 0
    """Attempts that have failed since the last success."""
    retry_after: float = 0.0
    """Seconds for which the publisher asked to be left alone, at the last attempt."""
    max_age: float | None = None
    """Age from which on the copy is too old; None for local files."""

    def age(self, now: float) -> float | None:
        """Return the age of the copy in seconds; None without one."""
        return max(0.0, now - self.last_success) if self.version else None

    def is_stale(self, now: float) -> bool:
        """Say whether the copy is older than it may be."""
        age = self.age(now)
        return age is not None and self.max_age is not None and age > self.max_age

    def wait(self, interval: float, now: float) -> float:
        """Return for how many seconds more a feed that has failed is left alone.

        Five minutes after the first failure, then twice as long each time, and never longer than its interval: what
        is refreshed hourly by cron is asked again an hour later, and a publisher that is down for days is spared.
        """
        if not self.failures or not self.last_attempt <= now:  # a clock that was set back
            return 0.0
        pause = min(_FIRST_PAUSE * 2.0 ** min(self.failures - 1, _MOST_DOUBLINGS), interval)
        pause = max(pause, min(self.retry_after, _LONGEST_PAUSE))
        return max(0.0, self.last_attempt + pause - now)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what was stored. Raises TypeError or ValueError when it cannot be what was."""
        known = {**data, "categories": tuple(str(category) for category in data.get("categories", ()))}
        found = cls(**known)
        numbers = (found.failures, found.last_attempt, found.last_success, found.last_change, found.retry_after)
        if not all(isinstance(value, int | float) for value in numbers) or not isinstance(found.name, str):
            raise ValueError("is no status of a feed")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All feeds, and the snapshot that is made of them."""

    refreshed: float = 0.0
    """When the last refresh ended."""
    swapped: float = 0.0
    """When the snapshot was last replaced."""
    problem: str = ""
    """Why the last refresh compiled nothing."""
    exit_code: int = 0
    seconds: float = 0.0
    """What the last refresh took."""
    octets: int = 0
    """Size of the snapshot."""
    feeds: dict[str, FeedStatus] = field(default_factory=dict)


def load_status(state_dir: Path) -> Status:
    """Return what the last refresh left; nothing is known when there is no such file, or it is damaged."""
    try:
        data = json.loads((state_dir / FILE).read_text(encoding="utf-8"))
        feeds = {name: FeedStatus.from_json(item) for name, item in data.pop("feeds").items()}
        return Status(**data, feeds=feeds)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Status()


def save_status(state_dir: Path, status: Status) -> None:
    """Store it. Raises OSError."""
    write_atomically(state_dir / FILE, json.dumps(asdict(status), indent=1).encode())


class Metric(NamedTuple):
    """One number, as Prometheus wants it, but for the prefix of all names of the gateway."""

    name: str
    help: str
    labels: dict[str, str]
    value: float


def metrics(status: Status, now: float) -> Iterator[Metric]:
    """Yield the numbers of a status for a metrics endpoint: the same name each time, in the order of the names."""
    feeds = list(status.feeds.values())
    for name, text, read in (
        ("feed_age_seconds", "Time since the copy in use was known to be the publisher's", _age(now)),
        ("feed_dropped_entries", "Entries left out because no list may deny them", lambda feed: feed.dropped),
        ("feed_entries", "Entries in force", lambda feed: feed.entries),
        ("feed_failures", "Attempts failed since the last success", lambda feed: feed.failures),
        ("feed_last_change_timestamp_seconds", "When its content changed", lambda feed: feed.last_change),
        ("feed_last_success_timestamp_seconds", "When it was last had", lambda feed: feed.last_success),
        ("feed_rejected_lines", "Lines that could not be read", lambda feed: feed.rejected),
        ("feed_stale", "1 when the copy in use is older than max_age", lambda feed: feed.is_stale(now)),
    ):
        for feed in feeds:
            value = read(feed)
            if value is not None:
                yield Metric(name, text, {"feed": feed.name}, float(value))
    yield Metric("refresh_exit_code", "Exit code of the last refresh", {}, float(status.exit_code))
    yield Metric("refresh_seconds", "What the last refresh took", {}, status.seconds)
    yield Metric("refresh_timestamp_seconds", "When the last refresh ended", {}, status.refreshed)
    yield Metric("snapshot_bytes", "Size of the compiled lists", {}, float(status.octets))
    yield Metric("snapshot_timestamp_seconds", "When they were last replaced", {}, status.swapped)


def _age(now: float) -> Any:
    return lambda feed: feed.age(now)
