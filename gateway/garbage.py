"""How a resolver finds garbage that refers to itself, without standing still for long.

Python frees at once what nothing refers to any more. For cycles it stops everything and looks through all objects of
a generation, and how many those are is not bounded by its thresholds, which count new objects less freed ones: where
each answer that is kept takes the place of another, all of them may be looked through at once. Kept answers are no
garbage, and a million objects.

So what is new is looked at ten times a second, once: what is then still there is put out of sight (`gc.freeze`).
Reference counts free it all the same. Cycles that become garbage later wait for a look at everything, which takes the
longer the more is kept, a third of a second at most. It is had when hardly anybody asks and the process has grown by
what nothing explains or has worked for long; and when it has grown much, at any time.

Measured, with 200,000 answers that come and are then replaced: while they became more, Python stood still for up to
20 ms, and afterwards for 36 to 115 ms. Now it is 1 to 5 ms, for the same CPU and memory.
"""

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_LOG = logging.getLogger(__name__)
_PERIOD = 0.1
"""Seconds between two looks at what is new: at most some ten thousand objects, which take a millisecond or two."""
_VISITS = 50
"""Such looks for each time that a look at everything is considered."""
_IDLE = 0.01
"""Share of a processor below which hardly anybody asks: some eighty names a second that an upstream is asked for."""
_LITTLE = 16 << 20
"""Octets that an idle process may hold of garbage."""
_MUCH = 64 << 20
"""And a busy one, or half of its own; for more it is worth that everybody waits."""
_WORK = 500
"""Times that a process works as long as its last look at everything took, before it has another whatever it holds."""
_MANY_NEW = 10_000, 10, 10
"""Thresholds, for Python to look at what is new by itself where there is much of it before its time."""
_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has taken until a moment."""

    at: float
    """Seconds of a clock."""
    cpu: float
    """Seconds of processors."""
    memory: int
    """Octets of its own, but for those that are known to be in use."""

    @classmethod
    def now(cls, kept: int) -> Self:
        """Measure this process, which keeps so many octets on purpose."""
        try:
            _, resident, files, *_ = map(int, _STATM.read_text().split())
        except OSError:  # no /proc: memory stays as it is, and looks at everything are had when idle
            resident = files = kept = 0
        return cls(time.monotonic(), time.process_time(), (resident - files) * _PAGE - kept)


class Collector:
    """Says when Python looks for cycles in this process, and at what."""

    def __init__(self, measure: Callable[[], Usage]) -> None:
        self._measure = measure
        self._visit = self._looked = Usage(0.0, 0.0, 0)
        self._calm = 0
        self._took = 0.0

    def begin(self) -> None:
        """Look at everything, and from now on at each object once."""
        gc.set_threshold(*_MANY_NEW)
        gc.callbacks.append(_put_out_of_sight)
        self._look_at_everything()
        self._calm = self._looked.memory

    def end(self) -> None:
        """Leave what is new from now on to Python."""
        gc.callbacks.remove(_put_out_of_sight)

    async def run(self) -> None:
        """Look at what is new, and now and then at everything, until cancelled."""
        while True:
            for _ in range(_VISITS):
                await asyncio.sleep(_PERIOD)
                gc.collect(0)
            try:
                self.visit()
            except Exception:  # what serves goes on
                _LOG.exception("whether to look for garbage could not be told")

    def visit(self) -> None:
        """Look at everything, if it is time to."""
        before, now = self._visit, self._measure()
        self._visit = now
        idle = now.cpu - before.cpu <= _IDLE * (now.at - before.at)
        worked = now.cpu - self._looked.cpu >= _WORK * self._took
        if idle and (worked or now.memory - self._calm >= _LITTLE):
            self._look_at_everything()
            self._calm = self._looked.memory
        elif now.memory - self._looked.memory >= max(_MUCH, self._looked.memory // 2):
            self._look_at_everything()

    def _look_at_everything(self) -> None:
        before = self._measure().cpu
        gc.unfreeze()
        gc.collect()
        self._visit = self._looked = self._measure()
        self._took = self._looked.cpu - before


@contextlib.asynccontextmanager
async def collecting(measure: Callable[[], Usage]) -> AsyncIterator[None]:
    """Have a `Collector` for this process until the block ends."""
    collector = Collector(measure)
    collector.begin()
    looking = asyncio.get_running_loop().create_task(collector.run())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        collector.end()


def _put_out_of_sight(phase: str, _: Mapping[str, int]) -> None:
    if phase == "stop":
        gc.freeze()
