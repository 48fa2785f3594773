"""What all workers of the service know together: spending and known names, in a table of fixed size.

Pure: no I/O, no clock. The table is a buffer that several processes have mapped; who reads a cell to change it holds
the lock. Nothing in it is ever more lenient than the truth: a window is cut into parts and summed over one part more,
a cell that has to make room leaves its sums to the floor of its set, and a name that was forgotten is new again.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from struct import Struct

from gateway.tunnelling.window import Limit

KEY = 16
"""Octets of the key for hashes, at the beginning of the table: equal names have equal hashes in all workers."""
_PARTS = 8
_WAYS = 8
_SETS = 8192
_NAME_WAYS = 8
_NAME_SETS = 32768
_HEAD = 64
_FACTS = 3  # closed until, new names, heavy names
_FLOOR = 2**64 - 1
_RING = 1 + _PARTS + 1  # the number of the newest part, and what was spent in each


def size(spans: int) -> int:
    """Return the octets of a table for so many windows: 15 MB for two."""
    return _HEAD + _NAME_SETS * _NAME_WAYS * 8 + _SETS * _WAYS * (8 + _cell(spans).size)


def _cell(spans: int) -> Struct:
    return Struct(f"<{_FACTS + spans * _RING}d")


class Cell:
    """One account: of a client with a zone, of a zone, of a client."""

    __slots__ = ("_seconds", "values", "way")

    def __init__(self, way: int, values: Iterable[float], seconds: Sequence[float]) -> None:
        self.way, self._seconds = way, seconds
        self.values = list(values)
        """As they are kept."""

    @property
    def until(self) -> float:
        """Until when the zone is closed to the client."""
        return self.values[0]

    @property
    def new(self) -> int:
        """Names with something new in them."""
        return int(self.values[1])

    @property
    def heavy(self) -> int:
        """Those of them that carry much."""
        return int(self.values[2])

    def close(self, until: float) -> None:
        """Close the zone to the client."""
        self.values[0] = max(self.values[0], until)

    def spent(self, now: float, seconds: float) -> float:
        """Return at least what was spent in the last so many seconds, which are one of the table's windows."""
        index = self._seconds.index(seconds)
        at, part = _FACTS + index * _RING, now * _PARTS // seconds
        gone = part - self.values[at]
        if gone <= 0:  # also when the clock was set back: that makes nothing free
            return sum(self.values[at + 1 : at + _RING])
        if gone > _PARTS:
            return 0.0
        newest = int(self.values[at])
        lost = {(newest + step) % (_PARTS + 1) for step in range(1, int(gone) + 1)}
        return sum(self.values[at + 1 + place] for place in range(_PARTS + 1) if place not in lost)

    def exceeds(self, now: float, octets: float, limits: Iterable[Limit], factor: float) -> Limit | None:
        """Return the first limit that spending so many octets now would exceed."""
        for limit in limits:
            if octets + self.spent(now, limit.seconds) > limit.octets * factor:
                return limit
        return None

    def add(self, now: float, octets: float, *, new: int = 0, heavy: bool = False) -> None:
        """Spend."""
        values = self.values
        values[1] += new
        values[2] += heavy
        for index, seconds in enumerate(self._seconds):
            at, part = _FACTS + index * _RING, now * _PARTS // seconds
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
        cells = names + _SETS * _WAYS * 8
        self._tags = buffer[names:cells].cast("Q")
        self._cells = buffer[cells : cells + _SETS * _WAYS * self._cell.size]

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
        floor = value % _SETS * _WAYS
        tags = self._tags[floor : floor + _WAYS].tolist()
        tags[0] = _FLOOR
        if value in tags:
            return self._load(floor + tags.index(value))
        base = self._load(floor)
        if 0 in tags:
            way = floor + tags.index(0)
        else:
            # By what it spent in any part of the longest window, whether or not that is over by now.
            cells = [self._load(floor + way) for way in range(1, _WAYS)]
            gone = min(cells, key=lambda cell: (cell.until > now, sum(cell.values[-_PARTS - 1 :])))
            way = gone.way
            self._raise(now, base, gone)
        begun = Cell(way, (0.0,) * _FACTS + tuple(base.values[_FACTS:]), self.seconds)
        self._tags[way] = value
        self.store(begun)
        return begun

    def _load(self, way: int) -> Cell:
        return Cell(way, self._cell.unpack_from(self._cells, way * self._cell.size), self.seconds)

    def _raise(self, now: float, floor: Cell, gone: Cell) -> None:
        """Let no part of the floor be below that of a cell that goes."""
        floor.add(now, 0.0)
        gone.add(now, 0.0)
        floor.values[_FACTS:] = map(max, floor.values[_FACTS:], gone.values[_FACTS:])
        self.store(floor)

    def store(self, cell: Cell) -> None:
        """Write a cell back."""
        self._cell.pack_into(self._cells, cell.way * self._cell.size, *cell.values)

    def forget(self, now: float, value: int) -> None:
        """Begin an account anew."""
        cell = self.open(now, value)
        cell.values[:] = [0.0] * len(cell.values)
        self.store(cell)
