"""The cache of upstream answers: bounded, counted in octets, and blind to policy.

Pure: no I/O; the time is an argument. What is kept is the same for all clients, and nobody is given any of it before
a decision on that client's own query and on this answer: who put it there never matters.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from gateway.dns.message import Answer

_OVERHEAD = 700
"""Octets that an entry takes besides its records and names, as measured with CPython 3.13."""


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


class Cache:
    """Least recently used out first, by number and by octets."""

    def __init__(self, entries: int, octets: int = 256 << 20) -> None:
        self._max_entries = entries
        self._max_octets = octets
        self._octets = 0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """Memory taken, estimated."""
        return self._octets

    def get(self, key: Key, now: float) -> Entry | None:
        """Return the entry, unless it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= now:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, answer: Answer, now: float) -> None:
        """Keep an answer for as long as its TTL says; one of zero is not kept."""
        if answer.ttl <= 0 or not self._max_entries:
            return
        if key in self._entries:
            self._remove(key)
        cost = _OVERHEAD + len(answer.records) + len(key.name) + 100 * (len(answer.chain) + len(answer.addresses))
        self._entries[key] = Entry(answer, now, now + answer.ttl, cost)
        self._octets += cost
        while len(self._entries) > self._max_entries or self._octets > self._max_octets:
            _, old = self._entries.popitem(last=False)
            self._octets -= old.cost

    def _remove(self, key: Key) -> None:
        self._octets -= self._entries.pop(key).cost
