"""One timer for all connections of a process.

A timer of their own would cost each connection two system-call-free but measurable microseconds at every stage, and
memory while it is idle; a timer moved at every octet far more. Here each connection is asked once a tick instead.
"""

import asyncio
import logging
from typing import Protocol

_LOG = logging.getLogger(__name__)


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
        self._handle: asyncio.TimerHandle | None = self._loop.call_later(tick, self._sweep)

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
        now = self._loop.time()
        for timed in tuple(self.alive):
            try:
                timed.check(now)
            except (Exception, asyncio.CancelledError):
                # One broken connection must not take away the deadlines of all others, nor go on without its own.
                _LOG.exception("a deadline could not be enforced: the connection is cut off")
                self.alive.discard(timed)
                self._abort(timed)
        self._handle = self._loop.call_later(self._tick, self._sweep)
