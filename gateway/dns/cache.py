"""The cache of upstream answers: bounded, counted in octets, and blind to policy.

Pure: no I/O; the time is an argument. What is kept is the same for all clients, and nobody is given any of it before
a decision on that client's own query and on this answer: who put it there never matters.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from gateway.dns.message import Answer
from gateway.dns.wire import Rcode, Type

_OVERHEAD = 700
"""Octets that an entry takes besides its records and names, as measured with CPython 3.13."""
_NO_NAME = 0
"""Stands for every type in the key of NXDOMAIN: nobody can ask for type 0."""

RECHECK = 30.0
"""Seconds for which an expired answer is given at once after no upstream answered (RFC 8767 section 5)."""
_PREFETCH_LEFT = 0.1
"""Share of its TTL that a hot answer has left when it is renewed."""
_PREFETCH_TTL = 10
"""Answers that live shorter than this are not renewed early: a tenth of it would be too short for an upstream."""
_HOT = 2
"""Times that an answer was taken from here before it counts as hot."""


class Terms(NamedTuple):
    """On what terms answers of a zone are kept."""

    least_ttl: int = 0
    """Seconds at least."""
    metered: bool = False
    """See `Answer.metered`."""


class Key(NamedTuple):
    """What an answer depends on, besides the upstreams."""

    name: str
    qtype: int
    dnssec_ok: bool
    checking_disabled: bool


@dataclass(slots=True)
class Entry:
    """An answer with its time."""

    answer: Answer
    stored: float
    expires: float
    cost: int
    hits: int = 0
    renewed: bool = False
    """A renewal was begun: there is one for each entry, whatever comes of it."""
    recheck: float = 0.0
    """Until then no upstream is waited for, because none answered just now."""

    @property
    def ageing(self) -> float:
        """When it is time to renew the answer, if it is hot."""
        ttl = self.expires - self.stored
        return self.expires if ttl < _PREFETCH_TTL or self.renewed else self.expires - ttl * _PREFETCH_LEFT

    def wants_renewal(self, now: float) -> bool:
        """Say whether the answer is hot and about to expire."""
        return self.hits >= _HOT and self.ageing <= now < self.expires


type _Place = tuple[str, int, bool, bool]
"""A key as it is kept: equal to it, but without a class, so that the garbage collector need not look at it."""


def _nameless(key: _Place) -> _Place:
    """Return the key of NXDOMAIN."""
    name, _, dnssec_ok, checking_disabled = key
    return name, _NO_NAME, dnssec_ok, checking_disabled


class Cache:
    """Least recently used out first, by number and by octets. Expired answers stay for `stale` seconds."""

    def __init__(self, entries: int, octets: int = 256 << 20, stale: float = 0) -> None:
        self._max_entries = entries
        self._max_octets = octets
        self._stale = stale
        self._octets = 0
        self._entries: OrderedDict[_Place, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """Memory taken, estimated."""
        return self._octets

    def has(self, key: Key) -> bool:
        """Say whether there is an entry of any age; most often there is none, and nothing else need be asked."""
        entries = self._entries
        name, _, dnssec_ok, checking_disabled = key
        return key in entries or (name, _NO_NAME, dnssec_ok, checking_disabled) in entries  # as `_nameless` says

    def get(self, key: Key, now: float) -> Entry | None:
        """Return the entry, unless it has expired. What does not exist has no type (RFC 2308 section 5)."""
        return self._get(key, now) or self._get(_nameless(key), now)

    def _get(self, key: _Place, now: float) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now < entry.expires:
            self._entries.move_to_end(key)
            entry.hits += 1
            return entry
        if entry.expires + self._stale <= now:
            self._remove(key)
        return None

    def get_stale(self, key: Key, now: float) -> Entry | None:
        """Return an entry that has expired, but may still help out when no upstream answers (RFC 8767)."""
        if not self._stale:
            return None
        found: Entry | None = None
        for place in (key, _nameless(key)):
            entry = self._entries.get(place)
            if entry is not None and entry.expires <= now < entry.expires + self._stale:
                self._entries.move_to_end(place)
                if found is None or found.stored < entry.stored:
                    found = entry  # the name may be gone since there was a record of this type
        return found

    def put(self, key: Key, answer: Answer, now: float) -> None:
        """Keep an answer for as long as its TTL says; one of zero is not kept, but what it replaces goes.

        NXDOMAIN is kept for every type of the name, unless an alias led to it: then another type of the name exists.
        That of a DS is about the zone above alone, which need not know of a forward zone.
        """
        entries = self._entries
        name, qtype, dnssec_ok, checking_disabled = key
        place: _Place = name, qtype, dnssec_ok, checking_disabled
        nameless: _Place = name, _NO_NAME, dnssec_ok, checking_disabled
        if place in entries:
            self._remove(place)
        if qtype == Type.DS:
            nameless = place
        elif answer.rcode == Rcode.NXDOMAIN and not answer.counts[0]:
            place = nameless
        elif answer.rcode != Rcode.NOERROR and answer.rcode != Rcode.NXDOMAIN:
            nameless = place  # says nothing about whether the name exists
        if nameless in entries:
            self._remove(nameless)
        if answer.ttl <= 0 or not self._max_entries:
            return
        cost = _OVERHEAD + len(answer.records) + len(name) + 100 * (len(answer.chain) + len(answer.addresses))
        entries[place] = Entry(answer, now, now + answer.ttl, cost)
        self._octets += cost
        while len(entries) > self._max_entries or self._octets > self._max_octets:
            _, old = entries.popitem(last=False)
            self._octets -= old.cost

    def _remove(self, key: _Place) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._octets -= entry.cost
