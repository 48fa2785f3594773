"""A bounded queue that is fair to sources: whoever has been served least of late is next, however many others wait.

Pure: no I/O, no clock. "Of late" is counted in what was served and not in time (start-time fair queueing): of sources
that want more than there is, each has the same; who comes anew, or seldom, goes before them, up to `LEAD` times.
"""

import heapq
from collections import deque
from collections.abc import Hashable
from itertools import chain, count

LEAD = 4
"""How many of a source that comes anew go before those of sources that were here all the while."""
_FORGETS = 1024  # sources that are remembered before it is asked which of them still matter


class FairQueue[Item]:
    """Holds items of sources until it is their turn. `most` are held at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Hashable, deque[Item]] = {}
        self._order: list[tuple[int, int, Hashable]] = []
        """A heap of those who wait: how many were served before its next, and of equals who came first."""
        self._numbers = count()
        self._served: dict[Hashable, int] = {}
        """How many of each source, counted from what every source has had that wanted it."""
        self._had = 0
        """What every source has had."""
        self._forgets = _FORGETS
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, source: Hashable, item: Item) -> bool:
        """Add an item. False: there is no room for it.

        When more than half of the room is taken, a source may only have an even part of that half: one that sends
        more cannot take the other half from those who come later.
        """
        queue = self._waiting.get(source)
        if self._length >= self._most // 2:
            part = self._most // 2 // (len(self._waiting) + (queue is None))
            if self._length >= self._most or (queue is not None and len(queue) >= part):
                return False
        self._length += 1
        if queue is not None:
            queue.append(item)
            return True
        self._waiting[source] = deque((item,))
        served = max(self._served.get(source, 0), self._had - LEAD)
        heapq.heappush(self._order, (served, next(self._numbers), source))
        return True

    def take(self) -> Item:
        """Remove the next item, and return it.

        Raises:
            IndexError: there is none.
        """
        served, _, source = heapq.heappop(self._order)
        queue = self._waiting[source]
        item = queue.popleft()
        self._length -= 1
        self._had = max(self._had, served)
        self._served[source] = served + 1
        if queue:
            heapq.heappush(self._order, (served + 1, next(self._numbers), source))
        else:
            del self._waiting[source]
        if len(self._served) > self._forgets:
            self._forget()
        return item

    def clear(self) -> list[Item]:
        """Remove everything, and return it in no order."""
        waiting, self._waiting = self._waiting, {}
        self._order, self._length = [], 0
        return list(chain.from_iterable(waiting.values()))

    def _forget(self) -> None:
        """Keep only the sources that had more than who comes anew is taken to have had."""
        self._served = {source: had for source, had in self._served.items() if had > self._had - LEAD}
        self._forgets = max(_FORGETS, 2 * len(self._served))
