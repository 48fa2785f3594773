"""The numbers of all workers in one piece of memory that they share with the supervisor: a slot for each.

Pure: no I/O; the memory and the time are arguments. One worker writes a slot and the supervisor reads it; each number
is eight octets in their place, so that whoever is killed in between leaves every number whole. Who takes the place of
a worker that died goes on with its numbers, which therefore never get smaller.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.control.cells import COUNTERS, GAUGES, Cell
from gateway.dns.tally import BOUNDS, FAILURES, UpstreamTally

UPSTREAMS = 32
"""Upstreams told apart; the last place is for all further ones together."""
OTHERS = "others"

_NAME = 16  # words of an upstream's name
_FIGURES = 2 + len(FAILURES) + len(BOUNDS) + 1
_UPSTREAM = _NAME + _FIGURES + 1
_PID, _BEAT, _STAMP, _COUNTERS = 0, 1, 2, 4
_GAUGES = _COUNTERS + len(COUNTERS)
_AFTER = _GAUGES + len(GAUGES)
WORDS = _AFTER + UPSTREAMS * _UPSTREAM
SIZE = 8 * WORDS
"""Octets of a slot."""
_LARGEST = (1 << 64) - 1


class UpstreamFigures(NamedTuple):
    """What a worker tells of an upstream."""

    asked: int
    took: int
    """Microseconds."""
    failures: tuple[int, ...]
    """In the order of `FAILURES`."""
    within: tuple[int, ...]
    """Answers by the bound of `BOUNDS` that they were within, and those beyond all."""
    resting: bool = False

    @classmethod
    def of(cls, tally: UpstreamTally, resting: bool) -> "UpstreamFigures":
        """Return the figures of a tally."""
        failures = tuple(tally.failures[each] for each in FAILURES)
        return cls(tally.asked, tally.took, failures, tuple(tally.within), resting)


class Reading(NamedTuple):
    """What stands in a slot."""

    pid: int
    """Of the process that wrote it last; 0: nobody has."""
    beat: int
    """When that was: nanoseconds of the monotonic clock, which all processes share."""
    stamp: tuple[int, int]
    """Identity of the snapshot that it filters with; zeros without one."""
    counters: dict[Cell, int]
    gauges: dict[Cell, int]
    upstreams: dict[str, UpstreamFigures]


class Report(NamedTuple):
    """What a worker tells: counted since it began. What is missing is nothing."""

    counters: Mapping[Cell, int]
    gauges: Mapping[Cell, int]
    upstreams: Mapping[str, UpstreamFigures] = {}
    stamp: tuple[int, int] = (0, 0)


def words_of(memory: memoryview, number: int) -> memoryview:
    """Return the words of a slot."""
    return memory[number * SIZE : (number + 1) * SIZE].cast("Q")


def read(words: memoryview) -> Reading:
    """Read a slot."""
    upstreams = {}
    for at in range(_AFTER, WORDS, _UPSTREAM):
        if name := _name(words, at):
            upstreams[name] = _figures(words[at + _NAME : at + _UPSTREAM].tolist())
    return Reading(
        words[_PID],
        words[_BEAT],
        (words[_STAMP], words[_STAMP + 1]),
        dict(zip(COUNTERS, words[_COUNTERS:_GAUGES].tolist(), strict=True)),
        dict(zip(GAUGES, words[_GAUGES:_AFTER].tolist(), strict=True)),
        upstreams,
    )


class Pen:
    """Writes a slot, on top of what another worker has left there."""

    def __init__(self, words: memoryview, pid: int) -> None:
        self._words = words
        self._pid = pid
        self._last = words[_COUNTERS:_GAUGES].tolist()
        self._base = self._last
        self._places = {name: at for at in range(_AFTER, WORDS, _UPSTREAM) if (name := _name(words, at))}
        self._begun = {name: words[at + _NAME : at + _UPSTREAM].tolist() for name, at in self._places.items()}

    def write(self, report: Report, beat: int) -> None:
        """Write what a worker tells."""
        words = self._words
        sums = (base + report.counters.get(cell, 0) for cell, base in zip(COUNTERS, self._base, strict=True))
        # A number that was put together while another thread moved a part of it may lack that part for a moment.
        self._last = [min(max(now, before), _LARGEST) for now, before in zip(sums, self._last, strict=True)]
        _put(words, _COUNTERS, self._last)
        _put(words, _GAUGES, [max(0, report.gauges.get(cell, 0)) for cell in GAUGES])
        figures: dict[int, list[int]] = {}
        for name, told in report.upstreams.items():
            at, base = self._place(name)
            row = [told.asked, told.took, *told.failures, *told.within]
            before = figures.setdefault(at, [*base[:_FIGURES], 0])
            figures[at] = [*map(sum, zip(before, [*row, int(told.resting)], strict=True))]
        for at, row in figures.items():
            _put(words, at + _NAME, row)
        words[_STAMP], words[_STAMP + 1] = report.stamp
        words[_BEAT] = beat
        words[_PID] = self._pid  # last: from now on all of it is this worker's

    def _place(self, name: str) -> tuple[int, list[int]]:
        """Return where an upstream stands, and what stood there before; a new one gets the next place."""
        text = name.encode()[: 8 * _NAME - 1].decode(errors="ignore")
        if text not in self._places:
            if len(self._places) >= UPSTREAMS - 1:
                text = OTHERS
            if text not in self._places:
                at = self._places[text] = _AFTER + len(self._places) * _UPSTREAM
                padded = text.encode().ljust(8 * _NAME, b"\0")
                words = memoryview(padded).cast("Q").tolist()
                for word in reversed(range(_NAME)):  # the first word last: without it, there is no name yet
                    self._words[at + word] = words[word]
        return self._places[text], self._begun.get(text, [0] * (_FIGURES + 1))


def _put(words: memoryview, at: int, values: Sequence[int]) -> None:
    for place, value in enumerate(values, at):
        words[place] = value


def _name(words: memoryview, at: int) -> str:
    return words[at : at + _NAME].tobytes().rstrip(b"\0").decode(errors="replace") if words[at] else ""


def _figures(row: Sequence[int]) -> UpstreamFigures:
    after = 2 + len(FAILURES)
    return UpstreamFigures(row[0], row[1], tuple(row[2:after]), tuple(row[after:_FIGURES]), bool(row[_FIGURES]))


def together(figures: Iterable[UpstreamFigures]) -> UpstreamFigures:
    """Return the sums of what several workers tell of one upstream, but for `resting`."""
    rows = list(figures)
    return UpstreamFigures(
        sum(row.asked for row in rows),
        sum(row.took for row in rows),
        tuple(map(sum, zip(*(row.failures for row in rows), strict=True))),
        tuple(map(sum, zip(*(row.within for row in rows), strict=True))),
    )
