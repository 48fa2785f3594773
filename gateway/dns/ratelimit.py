"""How much one client may ask: a token bucket each, in the form that needs one number (GCRA, ITU-T I.371).

Pure: no I/O; the time is an argument. Whoever forges sender addresses fills the tables, so they are bounded: two
generations, of which the old one is dropped when the young one is full. Who is forgotten begins with a full bucket.
"""

from enum import Enum

from gateway.memo import Memo

CLIENTS = 65536
"""Clients in a generation: about 10 MB."""
WINDOW = 10.0
"""Seconds that being over the limit is one event: recorded once, and told over UDP for the first of them only."""
TOLD = 1.0
"""Seconds of a window in which a client over UDP is told to come over TCP, where its address is proven."""


class Excess(Enum):
    """What becomes of a query over the limit."""

    FIRST = "tell, and record"
    TELL = "tell"
    SILENCE = "say nothing"


class RateLimit:
    """The buckets of all clients."""

    def __init__(self, per_second: float, burst: int, clients: int = CLIENTS) -> None:
        self._interval = 1 / per_second
        # A full bucket is `burst` queries: the last of them finds the others' debt.
        self._tolerance = burst / per_second
        self._room = clients
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}
        self._windows = Memo[str, float](clients)

        self.share = max(1, min(32, int(per_second / 16), burst // 16))
        """Queries that may be counted at once, in advance, without making a difference that a client could notice."""

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def check(self, client: str, now: float) -> Excess | None:
        """Count a query; None while the client is within its limit."""
        return None if self.pays(client, now) else self.excess(client, now)

    def pays(self, client: str, now: float, queries: int = 1) -> bool:
        """Count a query, or several to come, if the client is still within its limit then."""
        paid = self._young.get(client)
        if paid is None:
            paid = self._young[client] = self._enter(client)  # kept even if the query is not paid for
        # `paid` is when the client will have paid for all its queries so far.
        paid = (paid if paid > now else now) + self._interval * queries
        if paid - now <= self._tolerance + 1e-9:
            self._young[client] = paid
            return True
        return False

    def _enter(self, client: str) -> float:
        if len(self._young) >= self._room:
            self._old, self._young = self._young, {}
        return self._old.pop(client, 0.0)

    def excess(self, client: str, now: float) -> Excess:
        """Say what becomes of a query that the client could not pay for."""
        since = self._windows.get(client)
        if since is None or not 0 <= now - since < WINDOW:
            self._windows.keep(client, now)
            return Excess.FIRST
        return Excess.TELL if now - since < TOLD else Excess.SILENCE
