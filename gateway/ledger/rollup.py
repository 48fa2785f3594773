"""Roll-up of repeats: a client that asks for one blocked name all day long costs two lines a minute.

Pure: no I/O, no clock. The first of its kind is written at once by the caller; repeats within a window are counted
and come out together. Whatever the order and the times, the first ones and the counts add up to all that was counted.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from gateway.ledger.losses import Span

WINDOW = 60.0
"""Seconds from the first of a kind during which repeats are only counted."""
LIMIT = 10_000
"""Kinds held at a time: bounds memory, whatever names clients make up."""


@dataclass(slots=True)
class Repeats[Item]:
    """One kind: what was written first, and how often it came again."""

    item: Item
    started: float
    count: int = 0
    first: float = 0.0
    last: float = 0.0

    @property
    def span(self) -> Span:
        """The repeats, without the first."""
        return Span(count=self.count, first=self.first, last=self.last)


class Rollup[Item]:
    """Counts repeats by key. Entries are held in the order in which their windows began."""

    def __init__(self, window: float = WINDOW, limit: int = LIMIT) -> None:
        self._window = window
        self._limit = limit
        self._open: dict[Hashable, Repeats[Item]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def repeat(self, key: Hashable, now: float) -> Item | None:
        """Count one more of a kind whose window is open, and return its item; None when it is the first."""
        entry = self._open.get(key)
        if entry is None or not entry.started <= now < entry.started + self._window:
            return None
        if not entry.count:
            entry.first = now
        entry.count += 1
        entry.last = now
        return entry.item

    def begin(self, key: Hashable, item: Item, now: float) -> list[Repeats[Item]]:
        """Open a window for a kind just written. Returns what has to be written to make room, if it has repeats."""
        closed = []
        if (previous := self._open.pop(key, None)) is not None and previous.count:
            closed.append(previous)
        if len(self._open) >= self._limit:
            oldest = self._open.pop(next(iter(self._open)))
            if oldest.count:
                closed.append(oldest)
        self._open[key] = Repeats(item, now)
        return closed

    def expired(self, now: float, at_most: int = 64) -> list[Repeats[Item]]:
        """Close windows that are over and return those with repeats; at infinity, all are over.

        At most so many are looked at, because the caller holds a lock meanwhile; call again while `due` says so.
        """
        closed = []
        for _ in range(at_most):
            if not self.due(now):
                break
            entry = self._open.pop(next(iter(self._open)))
            if entry.count:
                closed.append(entry)
        return closed

    def due(self, now: float) -> bool:
        """Say whether the oldest window is over. A clock that was set back ends it too."""
        if not self._open:
            return False
        oldest = self._open[next(iter(self._open))]
        return not oldest.started <= now < oldest.started + self._window
