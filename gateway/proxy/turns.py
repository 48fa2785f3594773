"""Turns of the event loop, rationed among connections that are looked into.

One process serves everybody. What mitmproxy does with 64 KB may take a tenth of a millisecond or a whole second: a
thousand frames, chunks or handshakes in one piece are costly, and cheap to send. So whoever reads asks for a turn
first; when a turn has been long enough, the others wait, clients in rotation, and everything else goes on meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Hashable

BUDGET = 0.004
"""Seconds of work in one turn of the loop, beyond which whoever comes has to wait for another."""


class Turns:
    """Says who may work now. `charge` what was done, `take` before the next piece."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spent = 0.0
        self._armed = False
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By client; who had a turn goes to the end."""

    def charge(self, seconds: float) -> None:
        """Count work that was done in this turn."""
        self._spent += seconds
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._renew)

    async def take(self, client: Hashable) -> None:
        """Wait for a turn: not at all, unless this one was long already, or others wait."""
        if self._spent < BUDGET and not self._waiting:
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self.charge(0)
        await turn

    def _renew(self) -> None:
        """Begin another turn, with one of those who wait."""
        self._armed = False
        self._spent = 0.0
        while self._waiting:
            client = next(iter(self._waiting))
            queue = self._waiting.pop(client)
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue
            if not turn.done():  # who was cancelled has no need of it
                turn.set_result(None)
                break
        if self._waiting:
            self.charge(0)
