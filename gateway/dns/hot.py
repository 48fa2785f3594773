"""Answers given before, found again by the octets of the question.

Pure: no I/O; the time is an argument. A decision is a function of policy generation, client view, name and type, so
what was decided for the same four once holds until one of them changes. Generation and view are part of the key; the
policy is thereby asked first here as well, only not again.

What has to be recorded each time (a denial) is counted where the ledger rolls repeats up; allowed answers that have
to be recorded, or that a rule on trial would have denied, are never kept here.
"""

from collections import OrderedDict
from typing import Any

from gateway.dns.message import Answer, aged
from gateway.dns.wire import HEADER
from gateway.ledger.rollup import Repeats

MAX_PACKET = 300
"""Longer questions are asked too seldom to be kept."""
_ROOM = 65536
"""Entries."""
_OCTETS = 48 << 20
"""Of memory: entries of the usual 0.5 KB are bounded by their number, long answers by this."""
_OVERHEAD = 300
"""Octets that an entry takes besides its key and its reply, as measured with CPython 3.13."""


class Aging:
    """How to make an allowed answer anew, whose TTLs count down second by second."""

    __slots__ = ("_after", "_answer", "_before", "_expires", "_stored", "_ttl")

    def __init__(self, answer: Answer, stored: float, expires: float, before: bytes, opt: bytes) -> None:
        """Keep an answer; `before` is its header without the id and its question, `opt` what follows the records."""
        self._stored = stored
        self._expires = expires
        self._answer = answer
        self._before = before
        self._after = opt
        self._ttl = -1
        if len(answer.ttls) == 1:  # most answers have one record, and renewing is what hits cost most
            (at,) = answer.ttls
            self._ttl = int.from_bytes(answer.records[at : at + 4], "big")
            self._before += answer.records[:at]
            self._after = answer.records[at + 4 :] + opt

    def at(self, now: float) -> tuple[bytes, float] | None:
        """Return the reply as it is now, without the id, and until when it is; None if it must not be given."""
        if now >= self._expires:
            return None
        age = int(now - self._stored)
        if self._ttl >= 0:
            middle = max(self._ttl - age, 0).to_bytes(4, "big")
        else:
            middle = aged(self._answer.records, self._answer.ttls, age)
        return self._before + middle + self._after, min(self._stored + age + 1, self._expires)


class Hot:
    """An answer as octets. Everything a packet needs to be answered is in these slots, and nothing is called.

    One class for all of them: the interpreter reads attributes of one class a few times faster than of several.
    """

    __slots__ = ("aging", "repeats", "tail", "until", "used")

    def __init__(
        self, tail: bytes | None, until: float, repeats: Repeats[Any] | None = None, aging: Aging | None = None
    ) -> None:
        self.tail = tail
        """The reply without the id, and with the question in lower case; None for silence."""
        self.until = until
        """When the reply has to be made anew."""
        self.repeats = repeats
        """Where a denial is counted."""
        self.aging = aging
        """What makes it anew."""
        self.used = False
        """Given since the table last looked."""

    def renew(self, now: float) -> bool:
        """Make the reply anew, if it can still be given. `until` has passed."""
        made = None if self.aging is None else self.aging.at(now)
        if made is None:
            return False
        self.tail, self.until = made
        return True


class HotAnswers:
    """The table, bounded by number and by octets. When it is full the oldest goes, but for those given since it last
    was their turn (CLOCK, Corbato 1968): they go to the end of the queue.
    """

    def __init__(self, room: int = _ROOM, octets: int = _OCTETS) -> None:
        self._room = room
        self._left = octets
        self._entries: OrderedDict[bytes, Hot] = OrderedDict()
        self.get = self._entries.get
        """Return the entry of a key, or None."""

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: bytes, entry: Hot) -> None:
        """Keep an entry."""
        entries, looks = self._entries, _LOOKS
        if (previous := entries.pop(key, None)) is not None:
            self._left += _cost(key, previous)
        self._left -= _cost(key, entry)
        while entries and (len(entries) >= self._room or self._left < 0):
            oldest, old = entries.popitem(last=False)
            if old.used and looks:
                looks -= 1
                old.used = False
                entries[oldest] = old
            else:
                self._left += _cost(oldest, old)
        entries[key] = entry


def _cost(key: bytes, entry: Hot) -> int:
    tail = entry.tail  # which never changes its length
    return _OVERHEAD + len(key) + (len(tail) if tail is not None else 0)


_LOOKS = 8
"""Entries in use that are passed over to find one that may go: bounds the time that a put can take."""


def hot_key(view: bytes, data: bytes, name_end: int) -> bytes:
    """Return the key of a packet: all of it but its id, with the name, whose last octet is at `name_end`, in lower
    case.

    Lower-casing leaves the lengths of labels alone, since they are below the letters; so packets with equal keys have
    equal questions, and only packets that were read and found good ever get a key into the table.
    """
    return view + data[2:HEADER] + data[HEADER:name_end].lower() + data[name_end:]
