"""The way in for new connections when many come at once: one in each turn of the event loop, fairly by source.

What a new connection costs (a transport, its head and hello, a look-up, a connection to the origin) is many times
what it costs to make one. So they wait here, as bare sockets that are neither watched nor read, and are let in at the
pace at which the event loop gets them done. In which order, `gateway.proxy.fairqueue` says: a thousand that come from
a few addresses keep each other waiting, and not somebody else.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache

from gateway.addresses import IPAddress
from gateway.decision import Reason
from gateway.ledger import Outcome
from gateway.proxy.desk import NOBODY, Desk
from gateway.proxy.fairqueue import FairQueue
from gateway.request import Client, Flaw, Tunnel

_LOG = logging.getLogger(__name__)

MOST = 8192
"""Connections that may wait, each a descriptor, a kilobyte, and in the kernel what its client has sent: some seconds
of work, so that a crowd of honest clients is served late rather than refused."""
_TELLS = 1.0  # seconds between the lines of one client who is turned away again and again
_TOLD = 4096  # clients who are counted apart between their lines


type Leave = Callable[[bool], None]
"""Called to end a connection; whether to say why, which costs more than to close it."""
type Waiting = tuple[Callable[[], None], Leave]
"""What is called when it is a connection's turn, and what when it is turned away."""


class Entrance:
    """Lets connections in, and turns those away that there is no room to wait for."""

    def __init__(self, desk: Desk, most: int = MOST) -> None:
        self._desk = desk
        self._queue: FairQueue[Waiting] = FairQueue(most)
        self._busy = False
        """Whether somebody was let in, in this turn of the event loop."""
        self._closed = False
        self._untold: dict[Client, int] = {}
        """Who was turned away of late, and how often since that was last told."""
        self._telling: Callable[[], None] | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def come(self, client: Client, enter: Callable[[], None], leave: Leave) -> None:
        """Call `enter`, now or later; or `leave`, when there is no room to wait, which is recorded.

        Of a client that is turned away again and again, the first connection is told why.
        """
        if not self._busy and not self._queue and not self._closed:
            self._begin()
            enter()
        elif self._closed:
            leave(False)
        elif not self._has_descriptors or not self._queue.put(_source(client.address), (enter, leave)):
            leave(client not in self._untold)
            self._record(client)

    @property
    def _has_descriptors(self) -> bool:
        """Whether there will be as many descriptors as everybody who waits may need, once let in."""
        desk = self._desk
        return desk.open + len(self._queue) < desk.most + desk.spare

    def close(self) -> None:
        """Let nobody in any more; who waits is sent away."""
        self._closed = True
        self._send_away()
        if self._telling is not None:
            self._telling()
        for client, times in self._untold.items():
            self._tell(client, times)
        self._untold.clear()

    def _begin(self) -> None:
        self._busy = True
        self._desk.loop.call_soon(self._next)

    def _next(self) -> None:
        """Begin another turn. Should it fail who is next, all who wait are sent away: else they would for ever."""
        self._busy = False
        if not self._queue:
            return
        try:
            self._begin()
            enter, leave = self._queue.take()
        except Exception:
            _LOG.exception("nobody could be let in: all who wait are sent away")
            self._send_away()
            return
        try:
            enter()
        except (Exception, asyncio.CancelledError):  # nothing here waits, so nobody has cancelled it
            _LOG.exception("a connection could not be let in")
            leave(False)

    def _send_away(self) -> None:
        for _, leave in self._queue.clear():
            leave(False)

    # -- who is turned away --------------------------------------------------------------------------------------

    def _record(self, client: Client) -> None:
        """Record a refusal: the first of a client at once, and those of the next second in one line.

        A line each would cost more than to accept the connection, and that is the flood's to decide.
        """
        if client not in self._untold and len(self._untold) >= _TOLD:
            client = NOBODY
        if client in self._untold:
            self._untold[client] += 1
            return
        self._untold[client] = 0
        self._tell(client, 1)
        if self._telling is None:
            self._telling = self._desk.loop.call_later(_TELLS, self._tell_all).cancel

    def _tell_all(self) -> None:
        """Tell of all who were turned away since the last time; the others are forgotten."""
        self._telling = None
        again = {client: 0 for client, times in self._untold.items() if times}
        told, self._untold = self._untold, again
        for client, times in told.items():
            self._tell(client, times)
        if again:
            self._telling = self._desk.loop.call_later(_TELLS, self._tell_all).cancel

    def _tell(self, client: Client, times: int) -> None:
        if not times:
            return
        judge = self._desk.judge
        nowhere = Tunnel(client=client, host="", port=0)
        detail = f"{self.waiting} new connections wait already, too many of them from there"
        request = replace(nowhere, flaw=Flaw(Reason.RATE_LIMIT, detail))
        outcome = Outcome(seconds=_TELLS, count=times) if times > 1 else None
        try:
            judge.ledger.record(request, judge.decide(request), outcome)
        except Exception:
            _LOG.exception(
                "%s connections of %s were turned away, which could not be recorded", times, client.address
            )


@lru_cache(maxsize=4096)
def _source(address: IPAddress) -> Hashable:
    """Return whom a connection is counted for: one host may have every address of a /64."""
    return address if address.version == 4 else int(address) >> 64
