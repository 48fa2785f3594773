"""What the detector remembers of zones and denials beside the accounts: what an analyst wants to see, and short cuts.

Pure: no I/O, no clock. Whatever is forgotten here decides nothing: accounts, known names and what is closed are in
the table (`gateway.tunnelling.accounts`), and so is what a zone needs to count as established.
"""

from collections.abc import Iterator
from math import log
from typing import NamedTuple

from gateway.decision import Reason
from gateway.tunnelling.assessment import Assessment, passed
from gateway.tunnelling.priors import Prior

STRICT = frozenset([Prior.UNKNOWN, Prior.NOWHERE, Prior.SITE])
"""Zones of which nothing good is known."""
_TRAIL = 32
_MAX_TYPES = 16
_CLIENTS_COUNTED = 4
_ZONES = 1024
_DAY = 86400.0


class Bounds(NamedTuple):
    """How much may be remembered."""

    zones: int = 24_576
    trails: int = 40_960
    """Pairs of client and zone that spent something."""
    trips: int = 4_096
    clients: int = 65_536


class Recent[K, V]:
    """A mapping that forgets what was not used for long: it keeps at least the half of its bound used last."""

    def __init__(self, bound: int) -> None:
        self._half = max(1, bound // 2)
        self.young: dict[K, V] = {}
        """What was used last: for who is in a hurry."""
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what is kept, and remember that it was used."""
        found = self.young.get(key)
        if found is None and (found := self._old.pop(key, None)) is not None:
            self[key] = found
        return found

    def __getitem__(self, key: K) -> V:
        if (found := self.get(key)) is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: K, value: V) -> None:
        if len(self.young) >= self._half and key not in self.young:
            self._old, self.young = self.young, {}
        self.young[key] = value

    def pop(self, key: K) -> None:
        """Forget one."""
        self.young.pop(key, None)
        self._old.pop(key, None)

    def values(self) -> Iterator[V]:
        """Yield everything."""
        yield from self.young.values()
        yield from self._old.values()

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class Zone:
    """One zone, for all clients together."""

    __slots__ = (
        "answers",
        "apex",
        "clients",
        "days",
        "divided",
        "factor",
        "first",
        "free",
        "heavy",
        "key",
        "last",
        "names",
        "new",
        "nxdomain",
        "place",
        "plain",
        "prior",
        "queries",
        "replies",
        "reverse",
        "seen",
        "strict",
        "today",
        "types",
        "value",
    )

    def __init__(
        self,
        key: str,
        value: int,
        prior: Prior,
        factor: float | None,
        now: float,
        *,
        reverse: bool = False,
        plain: bool = False,
        divided: bool = False,
    ) -> None:
        self.key, self.value = key, value
        self.reverse, self.divided = reverse, divided
        self.plain = plain
        """All names that end in it are under it."""
        self.become(prior, factor)
        self.first = self.last = now
        self.queries = self.names = self.replies = self.nxdomain = self.answers = 0
        self.types: dict[int, int] = {}
        self.seen: tuple[str, ...] = ()
        """Some of the clients, here and now."""
        self.today = 0.0
        """When the day ends on which it was last asked for."""
        # As the table has it:
        self.place = 0
        """Where its account was."""
        self.apex = False
        """The domain itself was asked for: that is what ordinary clients do."""
        self.days = self.clients = self.new = self.heavy = 0

    free: Assessment

    def become(self, prior: Prior, factor: float | None) -> None:
        """Take a zone for something else."""
        self.prior, self.factor = prior, factor
        self.strict = prior in STRICT
        self.free = passed(self.key, prior)
        """What is said of a query that tells nothing, or nothing that is counted."""

    def asked(self, now: float, client: str, qtype: int) -> bool:
        """Count a query. Says whether the client is new here, or the day."""
        self.last = now
        self.queries += 1
        types = self.types
        if qtype in types:
            types[qtype] += 1
        elif len(types) < _MAX_TYPES:
            types[qtype] = 1
        fresh = False
        if now >= self.today:
            self.today, fresh = (now // _DAY + 1) * _DAY, True
        if client not in self.seen and len(self.seen) < _CLIENTS_COUNTED:
            self.seen += (client,)
            fresh = True
        return fresh


class Trip(NamedTuple):
    """A client that may tell a zone nothing any more."""

    client: str
    zone: str
    reason: Reason
    why: str
    until: float
    curve: tuple[tuple[float, float], ...]
    """When how many octets had left: the leak so far."""


class Client:
    """One client, as far as it is at hand."""

    __slots__ = ("_today", "_zones", "value")

    def __init__(self, value: int) -> None:
        self.value = value
        """Its hash."""
        self._zones = 0
        self._today = 0.0

    def asked(self, now: float, zone: int) -> None:
        """Remember that it asked for a zone today, given by its hash."""
        if now >= self._today:
            self._today, self._zones = (now // _DAY + 1) * _DAY, 0
        self._zones |= 1 << zone % _ZONES

    @property
    def zones(self) -> float:
        """About how many zones it asked for today (linear counting, Whang 1990)."""
        return _ZONES * log(_ZONES / max(1, _ZONES - self._zones.bit_count()))


class Tables:
    """All zones, trails and denials, within bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self.zones: Recent[str, Zone] = Recent(bounds.zones)
        self.trails: Recent[int, tuple[tuple[float, float], ...]] = Recent(bounds.trails)
        """When how many octets left of late, by the hash of client and zone."""
        self.clients: Recent[str, Client] = Recent(bounds.clients)
        self.trips: Recent[tuple[str, str], Trip] = Recent(bounds.trips)

    def step(self, account: int, at: float, octets: float) -> None:
        """Remember what a name told."""
        trails = self.trails
        trails[account] = (*(trails.get(account) or ())[1 - _TRAIL :], (at, octets))

    def trip(self, trip: Trip) -> None:
        """Remember a denial."""
        self.trips[trip.client, trip.zone] = trip
