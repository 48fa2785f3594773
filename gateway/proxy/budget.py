"""How much was uploaded, by client and destination, over a sliding window: a table of fixed size in shared memory.

Pure: no I/O, no clock. The table is a buffer that several processes may have in common; who uses it holds a lock.

A window is cut into `_PARTS` parts, and the sum is taken over one part more. Every span of the window's length lies
within those, so it never holds more than the cap: the sum errs on the side of counting too long.
"""

from dataclasses import dataclass
from hashlib import blake2b

from gateway.addresses import IPAddress
from gateway.decision import Budget
from gateway.names import registered_domain
from gateway.request import Host
from gateway.units import render_duration, render_size

_PARTS = 8
_REGIONS = 64
_SLOTS = 1024
_KEY = 16
_WORDS = 2 + _PARTS + 1  # the newest part's number, a part's length in ms, octets of each part
_COUNT = _REGIONS * _SLOTS
SIZE = _COUNT * (_KEY + 8 * _WORDS)
"""Octets of the table: 6.5 MiB, most of them never touched."""


@dataclass(frozen=True, slots=True)
class Account:
    """One client's account for one destination."""

    region: int
    """A client has a region to itself or with few others: who uploads to ever new domains fills only that."""
    key: bytes
    budget: Budget
    destination: str

    def __str__(self) -> str:
        budget = f"{render_size(self.budget.octets)} in {render_duration(self.budget.seconds)}"
        return f"the upload budget for {self.destination} ({budget}) is used up"


def account_of(client: IPAddress, host: Host, budget: Budget) -> Account:
    """Return the account that uploads of a client to a host are counted in.

    An IPv6 client is its /64, as in the resolver: a host can pick any address in there. Rules with the same window
    count together.
    """
    who = int(client) >> 64 if client.version == 6 else int(client)
    destination = (registered_domain(host) or host) if isinstance(host, str) else str(host)
    person = f"{client.version} {who:x}".encode()
    region = int.from_bytes(blake2b(person, digest_size=2).digest()) % _REGIONS
    text = b"%s %d %s" % (person, budget.seconds, destination.encode("ascii", "backslashreplace"))
    return Account(region, blake2b(text, digest_size=_KEY).digest(), budget, destination)


@dataclass(frozen=True, slots=True)
class Grant:
    """Octets that were charged in advance."""

    octets: int
    until: float
    """When what is left has to be given back: it is charged to a part of the window that then ends."""
    part: int
    slot: int


class BudgetTable:
    """The accounts of all clients, over a buffer of `SIZE` octets that was zero at first."""

    def __init__(self, buffer: memoryview) -> None:
        self._keys = buffer[: _COUNT * _KEY]
        self._words = buffer[_COUNT * _KEY :].cast("Q")

    def release(self) -> None:
        """Let go of the buffer."""
        self._words.release()
        self._keys.release()

    def take(self, account: Account, wanted: int, least: int, now: float) -> Grant | None:
        """Charge up to `wanted` octets, `least` at least; None when not even those are left.

        A full region grants nothing either: to forget an account would be to refill it.
        """
        length = _length(account)
        slot = self._find(account, now)
        if slot is None:
            return None
        part = self._advance(slot, length, now)
        first = slot * _WORDS + 2
        room = account.budget.octets - sum(self._words[first : first + _PARTS + 1])
        if room < least:
            return None
        octets = min(room, max(wanted, least))
        self._words[first + part % (_PARTS + 1)] += octets
        return Grant(octets, (part + 1) * length / 1000, part, slot)

    def give_back(self, account: Account, grant: Grant, octets: int, now: float) -> None:
        """Return what was charged and not used."""
        at = slice(grant.slot * _KEY, (grant.slot + 1) * _KEY)
        if octets and self._keys[at] == account.key:
            newest = self._words[grant.slot * _WORDS]
            if newest - grant.part <= _PARTS:
                place = grant.slot * _WORDS + 2 + grant.part % (_PARTS + 1)
                self._words[place] = max(0, self._words[place] - octets)

    def room(self, account: Account, now: float) -> int:
        """Return how much is left."""
        slot = self._find(account, now)
        if slot is None:
            return 0
        self._advance(slot, _length(account), now)
        first = slot * _WORDS + 2
        return max(0, account.budget.octets - sum(self._words[first : first + _PARTS + 1]))

    def _find(self, account: Account, now: float) -> int | None:
        """Return the slot of an account; a free one, begun anew, when it has none; None when all are in use."""
        begin = account.region * _SLOTS
        keys = bytes(self._keys[begin * _KEY : (begin + _SLOTS) * _KEY])
        at = keys.find(account.key)
        while at >= 0 and at % _KEY:
            at = keys.find(account.key, at + 1)
        if at >= 0:
            return begin + at // _KEY
        words, millis = self._words, int(now * 1000)
        for slot in range(begin, begin + _SLOTS):
            part, length = words[slot * _WORDS : slot * _WORDS + 2]
            if (part + _PARTS + 1) * length <= millis:  # never used, or not within its window
                words[slot * _WORDS : (slot + 1) * _WORDS] = memoryview(bytes(8 * _WORDS)).cast("Q")
                words[slot * _WORDS + 1] = _length(account)
                self._keys[slot * _KEY : (slot + 1) * _KEY] = account.key
                return slot
        return None

    def _advance(self, slot: int, length: int, now: float) -> int:
        """Drop the parts that have left the window. Returns the number of the newest part."""
        words, at = self._words, slot * _WORDS
        newest, part = words[at], int(now * 1000) // length
        if part <= newest:  # a clock that was set back makes nothing free
            return newest
        for gone in range(newest + 1, min(part, newest + _PARTS + 1) + 1):
            words[at + 2 + gone % (_PARTS + 1)] = 0
        words[at] = part
        return part


def _length(account: Account) -> int:
    return -(-account.budget.seconds * 1000 // _PARTS)
