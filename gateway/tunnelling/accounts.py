"""What all workers of the service know together: spending and known names, in a table of fixed size.

Pure: no I/O, no clock. The table is a buffer that several processes have mapped; who reads a cell to change it holds
the lock. Nothing in it is ever more lenient than the truth: a window is cut into parts and summed over one part more,
a cell that has to make room leaves its sums to the floor of its set, and a name that was forgotten is new again.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from struct import Struct

from gateway.tunnelling.window import Limit

KEY = 16
"""Octets of the key for hashes, at the beginning of the table: equal names have equal hashes in all workers."""
_PARTS = 8
_WAYS = 8
_SETS = 2048
_NAME_WAYS = 8
_NAME_SETS = 32768
_HEAD = 64
_FACTS = 4  # tag, closed until, new names, heavy names
_RING = 1 + _PARTS + 1  # the number of the newest part, and what was spent in each


def size(spans: int) -> int:
    """Return the octets of a table for so many windows: 4.3 MB for two."""
    return _HEAD + _NAME_SETS * _NAME_WAYS * 8 + _SETS * _WAYS * _cell(spans).size


def _cell(spans: int) -> Struct:
    return Struct(f"<Q{_FACTS - 1 + spans * _RING}d")


class Cell:
    """One account: of a client with a zone, of a zone, of a client."""

    __slots__ = ("_seconds", "_values", "at", "tag")

    def __init__(self, at: int, values: tuple[float, ...], seconds: Sequence[float]) -> None:
        self.at, self._seconds = at, seconds
        self.tag = int(values[0])
        self._values = [value if math.isfinite(value) else 0.0 for value in values[1:]]

    @property
    def until(self) -> float:
        """Until when the zone is closed to the client."""
        return self._values[0]

    @property
    def new(self) -> int:
        """Names with something new in them."""
        return int(self._values[1])

    @property
    def heavy(self) -> int:
        """Those of them that carry much."""
        return int(self._values[2])

    @property
    def values(self) -> list[float]:
        """All but the tag, as they are kept."""
        return self._values

    def close(self, until: float) -> None:
        """Close the zone to the client."""
        self._values[0] = max(self._values[0], until)

    def spent(self, now: float, seconds: float) -> float:
        """Return at least what was spent in the last so many seconds, which are one of the table's windows."""
        index = self._seconds.index(seconds)
        at, part = _FACTS - 1 + index * _RING, now * _PARTS // seconds
        gone = part - self._values[at]
        if gone <= 0:  # also when the clock was set back: that makes nothing free
            return sum(self._values[at + 1 : at + _RING])
        if gone > _PARTS:
            return 0.0
        newest = int(self._values[at])
        lost = {(newest + step) % (_PARTS + 1) for step in range(1, int(gone) + 1)}
        return sum(self._values[at + 1 + place] for place in range(_PARTS + 1) if place not in lost)

    def exceeds(self, now: float, octets: float, limits: Iterable[Limit], factor: float) -> Limit | None:
        """Return the first limit that spending so many octets now would exceed."""
        for limit in limits:
            if octets + self.spent(now, limit.seconds) > limit.octets * factor:
                return limit
        return None

    def add(self, now: float, octets: float, *, new: int = 0, heavy: bool = False) -> None:
        """Spend."""
        values = self._values
        values[1] += new
        values[2] += heavy
        for index, seconds in enumerate(self._seconds):
            at, part = _FACTS - 1 + index * _RING, now * _PARTS // seconds
            newest = values[at]
            if part > newest:
                if part - newest > _PARTS:
                    values[at + 1 : at + _RING] = [0.0] * (_PARTS + 1)
                else:
                    for step in range(1, int(part - newest) + 1):
                        values[at + 1 + int(newest + step) % (_PARTS + 1)] = 0.0
                values[at] = newest = part
            values[at + 1 + int(newest) % (_PARTS + 1)] += octets


class SharedTable:
    """The table, over a buffer of `size` octets that was zero at first but for the key of the hashes."""

    def __init__(
        self, buffer: memoryview, seconds: Sequence[float], lock: AbstractContextManager[object] | None = None
    ) -> None:
        """`seconds` are the lengths of the windows, the same for all who share the table."""
        self.seconds = tuple(seconds)
        self.lock: AbstractContextManager[object] = lock or nullcontext()
        self._cell = _cell(len(self.seconds))
        names = _HEAD + _NAME_SETS * _NAME_WAYS * 8
        self.key = bytes(buffer[:KEY])
        self._names = buffer[_HEAD:names].cast("Q")
        self._cells = buffer[names : names + _SETS * _WAYS * self._cell.size]

    def knows(self, value: int) -> bool:
        """Say whether any worker was asked for a name."""
        at = value % _NAME_SETS * _NAME_WAYS
        return value in self._names[at : at + _NAME_WAYS].tolist()

    def learn(self, values: Iterable[int]) -> None:
        """Remember names. Where there is no room, one that was there is forgotten."""
        for value in values:
            at = value % _NAME_SETS * _NAME_WAYS
            there = self._names[at : at + _NAME_WAYS].tolist()
            if value not in there:
                self._names[at + (there.index(0) if 0 in there else value // _NAME_SETS % _NAME_WAYS)] = value

    def open(self, now: float, value: int) -> Cell:
        """Return the cell of a hash. Where there is none and no room, another is given up: the one that has spent
        least. What it had spent counts for all accounts of the set that begin later.
        """
        value = value or 1
        base = value % _SETS * _WAYS * self._cell.size
        cells = []
        for way in range(1, _WAYS):
            at = base + way * self._cell.size
            values = self._cell.unpack_from(self._cells, at)
            if values[0] == value:
                return Cell(at, values, self.seconds)
            cells.append(Cell(at, values, self.seconds))
        floor = Cell(base, self._cell.unpack_from(self._cells, base), self.seconds)
        longest = max(self.seconds)
        # A closed zone is forgotten last.
        victim = min(cells, key=lambda cell: (cell.tag != 0, cell.until > now, cell.spent(now, longest)))
        if victim.tag and victim.spent(now, longest):
            self._raise(now, floor, victim)
        begun = Cell(victim.at, (value, 0.0, 0.0, 0.0, *floor.values[_FACTS - 1 :]), self.seconds)
        self.store(begun)
        return begun

    def _raise(self, now: float, floor: Cell, gone: Cell) -> None:
        """Let no part of the floor be below that of a cell that goes."""
        floor.add(now, 0.0)
        gone.add(now, 0.0)
        for place in range(_FACTS - 1, len(floor.values)):
            floor.values[place] = max(floor.values[place], gone.values[place])
        self.store(floor)

    def store(self, cell: Cell) -> None:
        """Write a cell back."""
        self._cell.pack_into(self._cells, cell.at, cell.tag, *cell.values)

    def forget(self, now: float, value: int) -> None:
        """Begin an account anew."""
        cell = self.open(now, value)
        cell.values[:] = [0.0] * len(cell.values)
        self.store(cell)
