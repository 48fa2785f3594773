"""What a refresh tells: its progress while it runs, and its report at the end.

Pure: no I/O, no clock.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gateway.feeds.compile import Account
from gateway.feeds.impact import Impact


class Outcome(StrEnum):
    """What a refresh did for one list."""

    FRESH = "fresh"
    """There is a new copy."""
    UNCHANGED = "unchanged"
    """The copy that we have is the newest, or it is not time to ask again."""
    KEPT = "kept"
    """No new copy could be had, or it was not believed: the last good one is used."""
    MISSING = "missing"
    """There has never been a good copy: the list is not in the snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedResult:
    """What a refresh did for one list, and what is in it."""

    name: str
    outcome: Outcome
    reason: str = ""
    """Why it was kept or is missing, or was not asked for; safe to print."""
    version: str = ""
    age: float | None = None
    """Seconds since the copy was last known to be what the publisher has; None without a copy."""
    account: Account | None = None
    """What became of its lines; None when nothing was compiled."""
    is_stale: bool = False
    """Whether the copy is older than the feed's max_age."""

    @property
    def entries(self) -> int:
        """Entries in the snapshot."""
        return self.account.entries if self.account is not None else 0

    @property
    def rejected(self) -> int:
        """Lines that could not be read."""
        return sum(self.account.rejected.values()) if self.account is not None else 0

    @property
    def dropped(self) -> int:
        """Entries that no feed may have."""
        return sum(self.account.dropped.values()) if self.account is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshReport:
    """What a refresh did."""

    feeds: tuple[FeedResult, ...] = ()
    snapshot: Path
    swapped: bool = False
    """Whether there is a new snapshot; without one, nothing in it would have been different, or see `problem`."""
    octets: int = 0
    """Size of the snapshot in use."""
    problem: str = ""
    """Why nothing was compiled; the last good snapshot, if there is one, is still in use."""
    impact: Impact | None = None
    """What the new lists deny of what was allowed of late; None when nobody looked, or nothing is new."""
    warnings: tuple[str, ...] = ()
    """What else went wrong, a line each."""

    @property
    def entries(self) -> int:
        """Entries of all lists."""
        return sum(feed.entries for feed in self.feeds)

    @property
    def exit_code(self) -> int:
        """0: all lists are the newest; 1: some kept their last good copy or are missing; 2: nothing was compiled."""
        if self.problem:
            return 2
        return int(bool(self.warnings) or any(feed.outcome in (Outcome.KEPT, Outcome.MISSING) for feed in self.feeds))


class Step(StrEnum):
    """Where a refresh is."""

    FETCHING = "fetching"
    DONE = "done"
    COMPILING = "compiling"


@dataclass(frozen=True, slots=True)
class Progress:
    """Something that happened during a refresh, for whoever shows it."""

    step: Step
    name: str = ""
    """The feed, for `fetching` and `done`."""
    octets: int = 0
    """Received so far; while compiling, read so far."""
    expected: int | None = None
    """Octets to expect, where the server said so; while compiling, octets of all lists."""
    outcome: Outcome | None = None
    """When done."""
