"""Octets over sliding windows, never undercounted, in bounded memory.

Pure: no I/O, no clock. A window keeps what was spent and when. Beyond `_ROOM` entries the two oldest become one, at
the later of their times: it leaves the window later than it might, never sooner.
"""

from collections.abc import Sequence
from typing import NamedTuple

_ROOM = 32
_NEAR = 5.0
"""Spendings within so many seconds, on a fixed grid, become one entry."""


class Limit(NamedTuple):
    """So many octets in so many seconds."""

    octets: float
    seconds: float


DEFAULT_BUDGET = (Limit(120, 3600), Limit(240, 86400))
"""What a client may tell an unknown zone, where the configuration does not say otherwise."""


class Window:
    """What was spent of late."""

    __slots__ = ("_octets", "_times")

    def __init__(self) -> None:
        self._times: list[float] = []
        self._octets: list[float] = []

    def add(self, now: float, octets: float, longest: float) -> None:
        """Spend. What is older than `longest` seconds is forgotten."""
        times, spent = self._times, self._octets
        if times and int(now / _NEAR) <= int(times[-1] / _NEAR):
            spent[-1] += octets
            times[-1] = max(now, times[-1])
            return
        gone = 0
        while gone < len(times) and times[gone] <= now - longest:
            gone += 1
        if gone:
            del times[:gone], spent[:gone]
        if len(times) >= _ROOM:
            spent[1] += spent[0]
            del times[0], spent[0]
        times.append(now)
        spent.append(octets)

    def spent(self, now: float, seconds: float) -> float:
        """Return at least what was spent in the last so many seconds."""
        since = now - seconds
        total = 0.0
        times, spent = self._times, self._octets
        for index in range(len(times) - 1, -1, -1):
            if times[index] <= since:
                break
            total += spent[index]
        return total

    def exceeds(self, now: float, octets: float, limits: Sequence[Limit], factor: float = 1.0) -> Limit | None:
        """Return the first limit that spending so many octets now would exceed."""
        most = octets + sum(self._octets)
        for limit in limits:
            if most > limit.octets * factor and octets + self.spent(now, limit.seconds) > limit.octets * factor:
                return limit
        return None

    def entries(self) -> list[tuple[float, float]]:
        """Return when how much was spent, oldest first."""
        return list(zip(self._times, self._octets, strict=True))

    def restore(self, entries: Sequence[Sequence[float]]) -> None:
        """Take over what `entries` returned."""
        self._times = [float(time) for time, _ in entries][-_ROOM:]
        self._octets = [float(octets) for _, octets in entries][-_ROOM:]


class Floors:
    """What is remembered of accounts that had to go: no less than any of them had spent, in a few cells.

    A cell holds the highest of those that fall into it, for at least `longest` seconds and at most twice that. A new
    account begins with its cell's value, so that nobody gets a fresh budget by making the gateway forget.
    """

    __slots__ = ("_before", "_epoch", "_longest", "_now")

    def __init__(self, cells: int, longest: float) -> None:
        self._longest = longest
        self._epoch = 0
        self._now = [0.0] * cells
        self._before = [0.0] * cells

    def raise_to(self, now: float, key: int, octets: float) -> None:
        """Remember that an account had spent so much."""
        self._turn(now)
        index = key % len(self._now)
        if octets > self._now[index]:
            self._now[index] = octets

    def floor(self, now: float, key: int) -> float:
        """Return what a new account begins with."""
        self._turn(now)
        index = key % len(self._now)
        return max(self._now[index], self._before[index])

    def highest(self) -> float:
        """Return the highest of all cells."""
        return max(max(self._now), max(self._before))

    def _turn(self, now: float) -> None:
        epoch = int(now // self._longest)
        if epoch > self._epoch:
            empty = [0.0] * len(self._now)
            self._before = self._now if epoch == self._epoch + 1 else empty
            self._now = empty
            self._epoch = epoch
