"""Roll-up of repeats: a client that asks for one blocked name all day long costs two lines a minute.

Pure: no I/O, no clock. The first of its kind is written at once by the caller; repeats within a window are counted
and come out together. Whatever the order and the times, the first ones and the counts add up to all that was counted.
One thread counts; windows may be closed from another.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from gateway.ledger.event import Event
from gateway.ledger.losses import Span
from gateway.ledger.pattern import BlockLine
from gateway.ledger.tally import Denial

WINDOW = 60.0
"""Seconds from the first of a kind during which repeats are only counted."""
LIMIT = 10_000
"""Kinds held at a time: bounds memory, whatever names clients make up."""
GRACE = 1.0
"""Seconds between the end of a window and the reading of its count: one who counts by himself may be in the middle of
it, in another thread.
"""


@dataclass(slots=True)
class Repeats:
    """One kind: what was written first, and how often it came again."""

    id: str
    """It finds the line of the first, and is told to the clients of all."""
    line: Event | BlockLine
    started: float
    denials: tuple[Denial, ...] = ()
    """What each repeat counts as."""
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    open: bool = True
    """Whether repeats may still be counted here; then `again` needs no look at the roll-up, and no lock."""

    def again(self, now: float) -> None:
        """Count one more."""
        if not self.count:
            self.first = now
        self.count += 1
        self.last = now

    @property
    def span(self) -> Span:
        """The repeats, without the first."""
        return Span(count=self.count, first=self.first, last=self.last)


class Rollup:
    """Counts repeats by key. Entries are held in the order in which their windows began."""

    def __init__(self, window: float = WINDOW, limit: int = LIMIT) -> None:
        self._window = window
        self._limit = limit
        self._open: dict[Hashable, Repeats] = {}
        self._order: deque[Hashable] = deque()
        """Their keys: to find the first key of a dictionary takes the longer, the more were removed before it."""
        self._ended: deque[tuple[float, Repeats]] = deque()

    def __len__(self) -> int:
        return len(self._open) + len(self._ended)

    def repeat(self, key: Hashable, now: float) -> Repeats | None:
        """Count one more of a kind whose window is open, and return its entry; None when it is the first.

        For the one thread that counts, without the lock of those who open and close windows: whose window is being
        closed meanwhile is read out late, as those are who count by themselves.
        """
        entry = self._open.get(key)
        if entry is None or not entry.started <= now < entry.started + self._window:
            return None
        entry.again(now)
        return entry

    def begin(self, key: Hashable, repeats: Repeats) -> Repeats | None:
        """Open a window for a kind just written. Returns what has to be written to make room for it."""
        kinds, order = self._open, self._order
        closed = kinds.pop(key, None)
        if closed is not None:
            order.remove(key)  # soon found: it is over, so it is among the oldest
        elif len(kinds) >= self._limit:
            closed = kinds.pop(order.popleft())
        kinds[key] = repeats
        order.append(key)
        if closed is None:
            return None
        closed.open = False
        return closed if closed.count else None

    def expired(self, now: float, at_most: int = 64) -> list[Repeats]:
        """Close windows that are over, and return those closed before that have repeats; at infinity, all of them.

        At most so many are looked at, because the caller holds a lock meanwhile; call again while `due` says so.
        """
        for _ in range(at_most):
            if not self._over(now):
                break
            entry = self._open.pop(self._order.popleft())
            entry.open = False
            self._ended.append((now, entry))
        found = []
        for _ in range(at_most):
            if not self._readable(now):
                break
            _, entry = self._ended.popleft()
            if entry.count:
                found.append(entry)
        return found

    def entries(self) -> list[Repeats]:
        """Return all whose counts have not come out yet."""
        return [*self._open.values(), *(entry for _, entry in self._ended)]

    def due(self, now: float) -> bool:
        """Say whether `expired` has something to do. A clock that was set back ends windows too."""
        return self._over(now) or self._readable(now)

    def _over(self, now: float) -> bool:
        if not self._order:
            return False
        oldest = self._open[self._order[0]]
        return not oldest.started <= now < oldest.started + self._window

    def _readable(self, now: float) -> bool:
        return bool(self._ended) and (now == math.inf or not 0 <= now - self._ended[0][0] < GRACE)
