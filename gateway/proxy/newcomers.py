"""Names that are looked into for the first time: let in at a bounded pace, whoever has cost least of late first.

A new name costs a signature, a handshake that cannot be resumed, and all that is made for a connection; and whoever
asks for ever new ones takes as much of the event loop as is there. So new names have a share of its time, and wait in
a queue for more. Names that have a certificate already, plain requests and spliced tunnels do not wait here.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Hashable
from itertools import chain

_LOG = logging.getLogger(__name__)

SHARE = 0.25
"""Seconds of work for new names in a second. What is counted is the work in mitmproxy's layers; with what is not
(accepting, reading head and hello, sending, the ledger, closing) a new name costs two and a half times as much."""
BURST = 0.05
"""Seconds of work that may be done at once, after a time without any: a page with names of thirty hosts."""
DEBT = 0.2
"""Seconds of work that were done too much, beyond which they are forgotten: nobody waits for longer than that."""
AT_ONCE = 4
"""How many may be entering: until their hello was worked on, what they cost is not known."""
MOST = 1000
"""Connections that may wait, at some 30 KB each."""
EARNED, MOST_EARNED = 0.002, 0.02
"""Seconds of work that a client is forgiven for a connection that was answered, which a flood of names seldom is."""
_OF_LATE = 5.0  # seconds in which half of what a client has cost is forgotten
_LITTLE = 0.0001  # seconds of work that are not remembered any longer


class TooManyError(Exception):
    """The queue is full, and whoever it was raised for has as many in it as anybody else, or more."""


class Newcomers:
    """Says which connection for a new name may go on now: `enter`, then `charge` its work, and `entered`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int = MOST) -> None:
        self._loop = loop
        self._most = most
        self._credit = BURST
        self._since = self._aged = loop.time()
        self._entering = 0
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By client; of equals, who had a turn goes to the end."""
        self._cost: dict[Hashable, float] = {}
        self._timer: asyncio.Handle | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    async def enter(self, client: Hashable) -> None:
        """Wait for one's turn. Afterwards, `entered` has to be called once.

        Raises:
            TooManyError: too many wait already.
        """
        self._forget()
        if not self._waiting and self._has_room():
            self._entering += 1
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        if self.waiting >= self._most:
            self._turn_away(client)
        self._waiting.setdefault(client, deque()).append(turn)
        self._arm()
        try:
            await turn
        except asyncio.CancelledError:
            self._give_back(client, turn)
            raise

    def entered(self) -> None:
        """Let the next one in: what this one costs is known by now, or it is gone."""
        self._entering -= 1
        self._arm()

    def charge(self, client: Hashable, took: float, worked: float) -> None:
        """Count work for a connection that has entered.

        Args:
            took: seconds by the clock, which are what others wait: on a machine that is busy, fewer are let in.
            worked: seconds of the processor, which are what the client has asked for.
        """
        self._credit = max(-DEBT, self._credit - took)
        self._cost[client] = self._cost.get(client, 0.0) + worked

    def earn(self, client: Hashable) -> None:
        """Prefer a client from now on to others that cost as much: an origin has answered it."""
        self._forget()
        self._cost[client] = max(-MOST_EARNED, self._cost.get(client, 0.0) - EARNED)

    def _has_room(self) -> bool:
        now = self._loop.time()
        self._credit = min(BURST, self._credit + (now - self._since) * SHARE)
        self._since = now
        return self._credit > 0 and self._entering < AT_ONCE

    def _turn_away(self, client: Hashable) -> None:
        """Make room: of the client that has most in the queue, the last one leaves it."""
        most = max(self._waiting, key=lambda each: len(self._waiting[each]))
        if len(self._waiting[most]) <= len(self._waiting.get(client, ())) + 1:
            raise TooManyError
        last = self._waiting[most].pop()
        if not last.done():
            last.set_exception(TooManyError())

    def _give_back(self, client: Hashable, turn: asyncio.Future[None]) -> None:
        """Leave the queue early, or pass on a turn that came too late."""
        if not turn.cancelled():
            if turn.exception() is None:
                self.entered()
            return
        if (queue := self._waiting.get(client)) is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[client]

    def _arm(self) -> None:
        """See to it that somebody is let in as soon as there is credit."""
        if self._timer is None and self._waiting and self._entering < AT_ONCE:
            self._has_room()
            self._timer = self._loop.call_later(max(0.0, -self._credit / SHARE), self._next)

    def _next(self) -> None:
        """Let one in. Should that fail, all who wait are turned away: too few is safe, and too late is not."""
        self._timer = None
        try:
            self._let_in()
            self._arm()
        except Exception as error:
            _LOG.exception("nobody could be let in: all who wait are turned away")
            waiting, self._waiting = self._waiting, {}
            for turn in chain.from_iterable(waiting.values()):
                if not turn.done():
                    turn.set_exception(RuntimeError(f"nobody could be let in: {error}"))

    def _let_in(self) -> None:
        self._forget()
        while self._waiting and self._has_room():
            client = min(self._waiting, key=lambda each: self._cost.get(each, 0.0))
            queue = self._waiting.pop(client)
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue
            if not turn.done():
                turn.set_result(None)
                self._entering += 1

    def _forget(self) -> None:
        """Let what clients have cost count for less as time goes by."""
        now = self._loop.time()
        if (passed := now - self._aged) < _OF_LATE:
            return
        self._aged = now
        left = 0.5 ** (passed / _OF_LATE)
        self._cost = {client: cost for client, before in self._cost.items() if abs(cost := before * left) > _LITTLE}
