"""Turns of the event loop, rationed among connections that are looked into.

One process serves everybody. What mitmproxy does with 64 KB may take a tenth of a millisecond or a whole second: a
thousand frames, chunks or handshakes in one piece are costly, and cheap to send. So whoever reads asks for a turn
first; when a turn has been long enough, the others wait, and everything else goes on meanwhile. The next turn is of
the client who has cost least of late: many costly connections keep each other waiting, and not somebody else.

"Of late" is measured in work, not in time (start-time fair queueing): what somebody did while nobody wanted the time
is not held against them, and who comes anew, or comes back, has a lead of `LEAD` over who was here all the while.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Hashable
from itertools import chain

_LOG = logging.getLogger(__name__)

BUDGET = 0.004
"""Seconds of work in one turn of the loop, beyond which whoever comes has to wait for another."""
LEAD = 0.01
"""Seconds of work that a client may do before others who want turns all the time: the most it is given for being
away. More would let many that come at once keep out who is here."""
_FORGETS = 1.0  # seconds between looks for clients that have no account any more


class Turns:
    """Says who may work now. `charge` what was done, `take` before the next piece."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spent = 0.0
        self._armed = False
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By client; of equals, who had a turn goes to the end."""
        self._cost: dict[Hashable, float] = {}
        """What each client has cost, counted from what everybody has had; who is not here has had `LEAD` less."""
        self._had = 0.0
        """What everybody who wanted it has had."""
        self._forgets = 0.0

    def charge(self, client: Hashable, seconds: float) -> None:
        """Count work that was done in this turn."""
        self._spent += seconds
        self._cost[client] = cost = self._cost_of(client) + seconds
        if not self._waiting:
            self._had = max(self._had, cost)
        self._arm()

    def _cost_of(self, client: Hashable) -> float:
        return max(self._cost.get(client, 0.0), self._had - LEAD)

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
            self._forgets = now + _FORGETS
            self._cost = {client: cost for client, cost in self._cost.items() if cost > self._had - LEAD}
        while self._waiting:
            client = min(self._waiting, key=self._cost_of)
            self._had = max(self._had, self._cost_of(client))
            queue = self._waiting.pop(client)
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue
            if not turn.done():  # who was cancelled has no need of it
                turn.set_result(None)
                break
        if self._waiting:
            self._arm()
