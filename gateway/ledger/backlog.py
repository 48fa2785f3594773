"""What stands between those who record and the one who writes: a bounded queue that counts what it cannot hold.

Nothing is built or written while its lock is held, so putting something in takes microseconds, always.
"""

import threading
from collections import deque

from gateway.ledger.losses import Loss, Losses
from gateway.ledger.pattern import Line

LIMIT = 8192
"""Lines waiting to be written. One is 1 to 20 KB in memory, so this bounds what a stalled disk can cost."""

_LINGER = 0.05  # seconds between a line and its writing: one write for many lines


class Backlog:
    """Lines to write, in order, and the counts of those there was no room for."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.folded = 0
        """Decisions that were only counted."""
        self._limit = limit
        self._soon = max(1, limit // 4)
        self._lock = threading.Lock()
        self._queue: deque[Line] = deque()
        self._losses = Losses()
        self._closed = False
        self._idle = False
        self._wake = threading.Event()
        self._hurry = threading.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def __bool__(self) -> bool:
        return bool(self._queue or self._losses)

    @property
    def full(self) -> bool:
        """Whether a line would find no room, so that it need not even be built."""
        return len(self._queue) >= self._limit

    def put(self, line: Line) -> bool:
        """Queue a line; false when there is no room for it, or nobody to write it any more."""
        with self._lock:
            queued = len(self._queue)
            if queued >= self._limit or self._closed:
                return False
            self._queue.append(line)
        if self._idle:
            self._wake.set()
        if queued == self._soon:
            self._hurry.set()
        return True

    def fold(self, loss: Loss) -> None:
        """Count what a line would have said."""
        with self._lock:
            self._losses.add(loss)
            self.folded += loss.span.count
        if self._idle:
            self._wake.set()

    def take(self, at_most: int) -> list[Line]:
        """Return the oldest lines, and forget them."""
        with self._lock:
            take = self._queue.popleft
            return [take() for _ in range(min(at_most, len(self._queue)))]

    def take_losses(self) -> list[Loss]:
        """Return the counts, and start anew."""
        with self._lock:
            return self._losses.drain()

    def close_if_empty(self) -> bool:
        """Refuse lines from now on if none is left; say whether that is so."""
        with self._lock:
            self._closed = self._closed or not (self._queue or self._losses)
            return self._closed

    def close(self) -> int:
        """Refuse lines from now on, and return how many decisions are left that nobody will write."""
        with self._lock:
            self._closed = True
            return len(self._queue) + sum(loss.span.count for loss in self._losses.drain())

    def wake(self) -> None:
        """Let the writer look at once."""
        self._hurry.set()
        self._wake.set()

    def wait(self, timeout: float) -> None:
        """Wait until there is something to write; then a little longer, so that more comes together."""
        self._idle = True  # before looking: a line put in after the look sees it, and wakes us
        if not self:
            self._wake.wait(timeout)
        self._idle = False
        self._hurry.wait(_LINGER)
        self._wake.clear()
        self._hurry.clear()
