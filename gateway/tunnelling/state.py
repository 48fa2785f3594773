"""What the detector remembers of zones and clients, in bounded memory.

Pure: no I/O, no clock. Whatever is forgotten makes the detector stricter, never more lenient: a forgotten label is
new again, a forgotten account leaves what it had spent in the `Floors` that new accounts begin with.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from gateway.tunnelling.priors import Prior
from gateway.tunnelling.window import Floors, Limit, Window

LABELS_PER_ZONE = 1024
"""Names of one zone in each of two generations; beyond, the older generation is forgotten."""
SAMPLES = 5
_MAX_TYPES = 16
_CLIENTS_COUNTED = 8
_DAY = 86400.0
_FLOORS_PER_CLIENT = 16
_CHANCES, _LATELY, _MUCH = 8, 600.0, 20.0
_NO_NAMES: frozenset[int] = frozenset()


class Bounds(NamedTuple):
    """How much may be remembered."""

    zones: int = 24_576
    names: int = 400_000
    """Hashes of names, over all zones: some 70 octets each."""
    clients: int = 131_072
    accounts: int = 40_960
    """Pairs of client and zone that spent something."""
    trips: int = 4_096


class Zone:
    """One zone, for all clients together."""

    __slots__ = (
        "_older",
        "_younger",
        "answers",
        "apex",
        "clients",
        "days",
        "divided",
        "factor",
        "first",
        "heavy",
        "key",
        "last",
        "new",
        "nxdomain",
        "prior",
        "queries",
        "replies",
        "reverse",
        "site",
        "types",
        "until",
    )

    def __init__(
        self,
        key: str,
        prior: Prior,
        factor: float | None,
        now: float,
        *,
        reverse: bool = False,
        divided: bool = False,
    ) -> None:
        self.key, self.prior, self.factor = key, prior, factor
        self.reverse, self.divided = reverse, divided
        self.first = self.last = now
        self.queries = self.new = self.heavy = 0
        self.apex = False
        """The domain itself was asked for: that is what ordinary clients do."""
        self.replies = self.nxdomain = self.answers = 0
        self.types: dict[int, int] | None = None
        self.site: Window | None = None
        self.clients: tuple[str, ...] = ()
        self.days = 1
        self.until = 0.0
        """Until when nobody may tell this zone anything new."""
        self._younger: set[int] | None = None
        self._older: set[int] | frozenset[int] = _NO_NAMES

    def knows(self, value: int) -> bool:
        """Say whether a name was asked for before."""
        return (self._younger is not None and value in self._younger) or value in self._older

    def learn(self, values: list[int]) -> int:
        """Remember names. Returns by how many more names that is."""
        if self._younger is None:
            self._younger = set()
        before = len(self._younger) + len(self._older)
        self._younger.update(values)
        if len(self._younger) > LABELS_PER_ZONE:
            self._older, self._younger = self._younger, set()
        return len(self._younger) + len(self._older) - before

    def restore(self, values: list[int]) -> None:
        """Take over what `known` returned."""
        self._younger, self._older = set(values[:LABELS_PER_ZONE]), set(values[LABELS_PER_ZONE:])

    @property
    def names(self) -> int:
        """How many names are remembered."""
        return len(self._younger or ()) + len(self._older)

    def known(self) -> list[int]:
        """Return the hashes of the names."""
        return [*sorted(self._younger or ()), *sorted(self._older)]

    def asked(self, now: float, client: str, qtype: int) -> None:
        """Count a query."""
        if now - self.last >= _DAY or int(now // _DAY) != int(self.last // _DAY):
            self.days += 1
        self.last = now
        self.queries += 1
        if self.types is None:
            self.types = {}
        if qtype in self.types or len(self.types) < _MAX_TYPES:
            self.types[qtype] = self.types.get(qtype, 0) + 1
        if len(self.clients) < _CLIENTS_COUNTED and client not in self.clients:
            self.clients += (client,)


class Account:
    """What one client has told one zone, and was told by it."""

    __slots__ = ("down", "heavy", "new", "samples", "up")

    def __init__(self) -> None:
        self.up = Window()
        self.down: Window | None = None
        self.new = 0
        """Names with something new in them."""
        self.heavy = 0
        """Those of them that carry much."""
        self.samples: tuple[str, ...] = ()

    def sample(self, name: str) -> None:
        """Keep a few of the names."""
        if len(self.samples) < SAMPLES:
            self.samples += (name,)


class Client:
    """One client."""

    __slots__ = ("accounts", "all", "floors")

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.all: Window | None = None
        """What it told all unknown zones together, in names that look like data."""
        self.floors: Floors | None = None


class Trip(NamedTuple):
    """A client that may tell a zone nothing any more."""

    client: str
    zone: str
    reason: str
    why: str
    first: float
    until: float
    out: float
    """Octets accounted before."""
    answers: float
    samples: tuple[str, ...]
    curve: tuple[tuple[float, float], ...]
    """When how many octets had left: the leak so far."""
    refused: int = 0
    last: float = 0.0


class Tables:
    """All zones, clients and accounts. The least recently used are forgotten first."""

    def __init__(self, bounds: Bounds, limits: tuple[Limit, ...], hash_of: Callable[[str], int]) -> None:
        self.bounds = bounds
        self.hash_of = hash_of
        self.longest = max(limit.seconds for limit in limits)
        self.zones: dict[str, Zone] = {}
        self.clients: dict[str, Client] = {}
        self.trips: dict[tuple[str, str], Trip] = {}
        self.tripped: Counter[str] = Counter()
        """Clients with trips, and how many."""
        self.names = 0
        self._client_floors = Floors(4096, self.longest)
        self._all_floors = Floors(4096, self.longest)
        self._site_floors = Floors(4096, self.longest)
        self._order: dict[tuple[str, str], None] = {}
        """Accounts, oldest first."""

    def zone(self, key: str) -> Zone | None:
        """Return a zone, and remember that it was used."""
        zone = self.zones.get(key)
        if zone is not None and len(self.zones) * 2 > self.bounds.zones:
            del self.zones[key]
            self.zones[key] = zone
        return zone

    def add_zone(self, now: float, zone: Zone, value: int) -> None:
        """Begin to remember a zone; `value` is the hash of its name."""
        while len(self.zones) >= self.bounds.zones:
            self._forget_zone(now)
        floor = self._site_floors.floor(now, value)
        if floor:
            zone.site = Window()
            zone.site.add(now, floor, self.longest)
        self.zones[zone.key] = zone

    def learn(self, now: float, zone: Zone, values: list[int]) -> None:
        """Remember names of a zone."""
        self.names += zone.learn(values)
        while self.names > self.bounds.names and len(self.zones) > 1:
            self._forget_zone(now)

    def _forget_zone(self, now: float) -> None:
        key = next(iter(self.zones))
        zone = self.zones.pop(key)
        self.names -= zone.names
        if zone.site is not None:
            self._site_floors.raise_to(now, self.hash_of(key), zone.site.spent(now, self.longest))

    def client(self, now: float, key: str) -> Client:
        """Return a client, a new one if need be."""
        client = self.clients.get(key)
        if client is None:
            while len(self.clients) >= self.bounds.clients:
                self._forget_client(now)
            client = self.clients[key] = Client()
            floor = self._all_floors.floor(now, self.hash_of(key))
            if floor:
                client.all = Window()
                client.all.add(now, floor, self.longest)
        elif len(self.clients) * 2 > self.bounds.clients:
            del self.clients[key]
            self.clients[key] = client
        return client

    def account(self, now: float, client_key: str, zone_key: str) -> Account:
        """Return an account, a new one if need be: that begins with what forgotten ones had spent."""
        client = self.client(now, client_key)
        account = client.accounts.get(zone_key)
        if account is None:
            account = Account()
            floor = self._client_floors.floor(now, self.hash_of(client_key))
            if client.floors is not None:
                floor = max(floor, client.floors.floor(now, self.hash_of(zone_key)))
            if floor:
                account.up.add(now, floor, self.longest)
            client.accounts[zone_key] = account
            self._order[client_key, zone_key] = None
            while len(self._order) > self.bounds.accounts:
                self._forget_account(now)
        return account

    @property
    def accounts(self) -> int:
        """How many accounts there are."""
        return len(self._order)

    def _forget_account(self, now: float) -> None:
        """Forget the oldest account; one that spends much gets a second chance first."""
        for _ in range(_CHANCES):
            pair = next(iter(self._order))
            del self._order[pair]
            if self.clients[pair[0]].accounts[pair[1]].up.spent(now, _LATELY) < _MUCH:
                break
            self._order[pair] = None
        else:
            pair = next(iter(self._order))
            del self._order[pair]
        client = self.clients[pair[0]]
        spent = client.accounts.pop(pair[1]).up.spent(now, self.longest)
        if spent:
            if client.floors is None:
                client.floors = Floors(_FLOORS_PER_CLIENT, self.longest)
            client.floors.raise_to(now, self.hash_of(pair[1]), spent)

    def _forget_client(self, now: float) -> None:
        key = next(iter(self.clients))
        client = self.clients.pop(key)
        value = self.hash_of(key)
        for zone_key in client.accounts:
            del self._order[key, zone_key]
        spent = max((account.up.spent(now, self.longest) for account in client.accounts.values()), default=0.0)
        if client.floors is not None:
            spent = max(spent, client.floors.highest())
        if spent:
            self._client_floors.raise_to(now, value, spent)
        if client.all is not None:
            self._all_floors.raise_to(now, value, client.all.spent(now, self.longest))

    def adopt_zone(self, zone: Zone, names: list[int]) -> None:
        """Take over a saved zone, if there is room."""
        if len(self.zones) < self.bounds.zones and self.names + len(names) <= self.bounds.names:
            zone.restore(names)
            self.zones[zone.key] = zone
            self.names += zone.names

    def adopt_client(self, key: str, client: Client, accounts: list[tuple[str, Account]]) -> None:
        """Take over a saved client, as far as there is room."""
        if key in self.clients or len(self.clients) >= self.bounds.clients:
            return
        self.clients[key] = client
        for zone_key, account in accounts[: self.bounds.accounts - self.accounts]:
            client.accounts[zone_key] = account
            self._order[key, zone_key] = None

    def trip(self, trip: Trip) -> None:
        """Remember a denial."""
        if (trip.client, trip.zone) not in self.trips:
            self.tripped[trip.client] += 1
        self.trips[trip.client, trip.zone] = trip
        if len(self.trips) > self.bounds.trips:
            self.untrip(*next(iter(self.trips)))

    def untrip(self, client_key: str, zone_key: str) -> bool:
        """Forget a denial. Says whether there was one."""
        if self.trips.pop((client_key, zone_key), None) is None:
            return False
        self.tripped[client_key] -= 1
        if not self.tripped[client_key]:
            del self.tripped[client_key]
        return True

    def forget(self, client_key: str, zone_key: str) -> None:
        """Forget what a client told a zone, and leave no trace: an operator says so."""
        client = self.clients.get(client_key)
        if client is not None and client.accounts.pop(zone_key, None) is not None:
            del self._order[client_key, zone_key]
