"""Turns of the event loop, rationed among connections that are looked into.

One process serves everybody. What mitmproxy does with 64 KB may take a tenth of a millisecond or a whole second: a
thousand frames, chunks or handshakes in one piece are costly, and cheap to send. So whoever reads asks for a turn
first; when a turn has been long enough, the others wait, and everything else goes on meanwhile. The next turn is of
the client who has cost least of late: many costly connections keep each other waiting, and not somebody else.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Hashable
from itertools import chain

_LOG = logging.getLogger(__name__)

BUDGET = 0.004
"""Seconds of work in one turn of the loop, beyond which whoever comes has to wait for another."""
_OF_LATE = 1.0  # seconds after which what a client has cost is forgotten


class Turns:
    """Says who may work now. `charge` what was done, `take` before the next piece."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spent = 0.0
        self._armed = False
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By client; of equals, who had a turn goes to the end."""
        self._cost: dict[Hashable, float] = {}
        self._forgets = 0.0

    def charge(self, client: Hashable, seconds: float) -> None:
        """Count work that was done in this turn."""
        self._spent += seconds
        self._cost[client] = self._cost.get(client, 0.0) + seconds
        self._arm()

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._next)

    async def take(self, client: Hashable) -> None:
        """Wait for a turn: not at all, unless this one was long already, or others wait."""
        if self._spent < BUDGET and not self._waiting:
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._arm()
        await turn

    def _next(self) -> None:
        """Begin another turn. Should that fail, all who wait have one: late is fair enough, and never is not."""
        self._armed = False
        self._spent = 0.0
        try:
            self._renew()
        except Exception:
            _LOG.exception("nobody could be given the next turn: all who wait have one")
            waiting, self._waiting = self._waiting, {}
            for turn in chain.from_iterable(waiting.values()):
                if not turn.done():
                    turn.set_result(None)

    def _renew(self) -> None:
        """Give the turn to one of those who wait."""
        if (now := self._loop.time()) >= self._forgets:
            self._forgets = now + _OF_LATE
            self._cost.clear()
        while self._waiting:
            client = min(self._waiting, key=lambda each: self._cost.get(each, 0.0))
            queue = self._waiting.pop(client)
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue
            if not turn.done():  # who was cancelled has no need of it
                turn.set_result(None)
                break
        if self._waiting:
            self._arm()
