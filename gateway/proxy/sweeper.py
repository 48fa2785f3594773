"""One timer for all connections of a process.

A timer of their own would cost each connection two system-call-free but measurable microseconds at every stage, and
memory while it is idle; a timer moved at every octet far more. Here each connection is asked once a tick instead.
Many whose time is over at once (heads of a flood that never came) are not all ended in one turn of the event loop.
"""

import asyncio
import logging
import time
from typing import Protocol

_LOG = logging.getLogger(__name__)

SLICE = 0.004
"""Seconds after which everything else has its turn, before the others are asked."""


class Timed(Protocol):
    """Something with deadlines."""

    def check(self, now: float) -> None:
        """Act if a deadline has passed. `now` is the loop's clock."""

    def abort(self) -> None:
        """Cut the connection off."""


class Sweeper:
    """Asks everything that is alive for its deadlines, every `tick` seconds."""

    def __init__(self, tick: float = 0.5) -> None:
        self.alive: set[Timed] = set()
        self._tick = tick
        self._loop = asyncio.get_running_loop()
        self._left: list[Timed] = []
        """Who is still to be asked in this tick."""
        self._handle: asyncio.Handle | None = self._loop.call_later(tick, self._sweep)

    def stop(self) -> None:
        """Ask no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _abort(self, timed: Timed) -> None:
        try:
            timed.abort()
        except (Exception, asyncio.CancelledError):
            _LOG.exception("nor could it be cut off")

    def _sweep(self) -> None:
        """Ask everybody, or who is left to be asked, for as long as one turn of the event loop may take."""
        left = self._left or list(self.alive)
        now, ends = self._loop.time(), time.perf_counter() + SLICE
        while left:
            if time.perf_counter() >= ends:
                self._left = left
                self._handle = self._loop.call_soon(self._sweep)
                return
            timed = left.pop()
            if timed not in self.alive:  # gone meanwhile
                continue
            try:
                timed.check(now)
            except (Exception, asyncio.CancelledError):
                # One broken connection must not take away the deadlines of all others, nor go on without its own.
                _LOG.exception("a deadline could not be enforced: the connection is cut off")
                self.alive.discard(timed)
                self._abort(timed)
        self._left = []
        self._handle = self._loop.call_later(self._tick, self._sweep)
