"""Answers given before, found again by the octets of the question.

Pure: no I/O; the time is an argument. A decision is a function of policy generation, client view, name and type, so
what was decided for the same four once holds until one of them changes. Generation and view are part of the key; the
policy is thereby asked first here as well, only not again.

What has to be recorded each time (a denial) is kept by client instead, says where that client's line is, and is
counted where the ledger rolls the client's repeats up; allowed answers that have to be recorded, or that a rule on
trial would have denied, are never kept here.

What a hit costs is not what it computes but what it has to fetch from memory: with 25,000 answers in use 1.3 us
instead of 0.4 with 64. So an allowed answer is nothing but octets, with the time that it is good for at their end.
"""

from collections import OrderedDict

from gateway.dns.message import Answer, aged
from gateway.dns.wire import HEADER
from gateway.ledger.rollup import Repeats

MAX_PACKET = 300
"""Longer questions are asked too seldom to be kept."""
STAMP = 6
"""Octets at the end of an allowed answer that say until when it is good; see `stamp`."""
_ROOM = 65536
"""Entries."""
_OCTETS = 48 << 20
"""Of memory: entries of the usual 0.5 KB are bounded by their number, long answers by this."""
_OVERHEAD = 340
"""Octets that a denial takes besides its key and its reply, as measured with CPython 3.13."""
_AGING = 130
"""And an allowed answer more than that, with all that it is made anew from."""
_LOOKS = 8
"""Entries in use that are passed over to find one that may go: bounds the time that a put can take."""


def stamp(now: float) -> bytes:
    """Return a time as octets that sort as times do: milliseconds."""
    return int(now * 1000).to_bytes(STAMP)


class Aging:
    """How an allowed answer is made, whose TTLs count down second by second."""

    __slots__ = ("_after", "_answer", "_before", "_expires", "_stored", "_ttl", "used")

    def __init__(self, answer: Answer, stored: float, expires: float, before: bytes, opt: bytes) -> None:
        """Keep an answer; `before` is its header without the id and its question, `opt` what follows the records."""
        self._stored = stored
        self._expires = expires
        self._answer: Answer | None = answer
        self._before = before
        self._after = opt
        self._ttl = 0
        if len(answer.ttls) == 1:  # most answers have one record, and making them anew is what hits cost most
            (at,) = answer.ttls
            self._answer = None
            self._ttl = int.from_bytes(answer.records[at : at + 4], "big")
            self._before += answer.records[:at]
            self._after = answer.records[at + 4 :] + opt
        self.used = False
        """Made anew, as it is when it is given, since the table last looked."""

    def at(self, now: float) -> bytes | None:
        """Return the reply as it is now, without the id, and with its stamp; None if it must not be given."""
        expires = self._expires
        if now >= expires:
            return None
        age = int(now - self._stored)
        until = self._stored + age + 1
        good = stamp(until if until < expires else expires)
        if self._answer is not None:
            return self._before + aged(self._answer.records, self._answer.ttls, age) + self._after + good
        ttl = self._ttl - age if age < self._ttl else 0
        return b"%b%b%b%b" % (self._before, ttl.to_bytes(4), self._after, good)


class Block:
    """A denial as octets, good as long as its key is."""

    __slots__ = ("repeats", "tail", "used")

    def __init__(self, tail: bytes, repeats: Repeats) -> None:
        self.tail = tail
        """The reply without the id, and with the question in lower case; empty for silence."""
        self.repeats = repeats
        """Where it is counted. Once that is closed, the denial has to be recorded anew."""
        self.used = False
        """Given since the table last looked."""


class HotAnswers:
    """The table, bounded by number and by octets. When it is full the oldest goes, but for those given since it last
    was their turn (CLOCK, Corbato 1968): they go to the end of the queue.
    """

    def __init__(self, room: int = _ROOM, octets: int = _OCTETS) -> None:
        self._room = room
        self._left = self._most = octets
        self._entries: OrderedDict[bytes, bytes | Block] = OrderedDict()
        self._agings: dict[bytes, Aging] = {}
        self.get = self._entries.get
        """Return the entry of a key, or None: octets, good while their last `STAMP` are above the `stamp` of now, and
        otherwise to be made anew by `renew`; or a denial."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """Memory taken, estimated."""
        return self._most - self._left

    def renew(self, key: bytes, now: float) -> bytes | None:
        """Make an answer anew and return it, if it can still be given."""
        aging = self._agings[key]
        made = aging.at(now)
        if made is not None:
            aging.used = True
            dict.__setitem__(self._entries, key, made)  # past the queue, where its place stays
        return made

    def keep(self, key: bytes, aging: Aging, now: float) -> None:
        """Keep an allowed answer."""
        if (made := aging.at(now)) is not None:
            self._put(key, made)
            self._agings[key] = aging

    def block(self, key: bytes, block: Block) -> None:
        """Keep a denial."""
        self._put(key, block)

    def _put(self, key: bytes, entry: bytes | Block) -> None:
        entries, looks = self._entries, _LOOKS
        if (previous := entries.pop(key, None)) is not None:
            self._drop(key, previous)
        self._left -= _cost(key, entry)
        while entries and (len(entries) >= self._room or self._left < 0):
            oldest, old = entries.popitem(last=False)
            use = old if isinstance(old, Block) else self._agings[oldest]
            if looks and use.used:
                looks -= 1
                use.used = False
                entries[oldest] = old
            else:
                self._drop(oldest, old)
        entries[key] = entry

    def _drop(self, key: bytes, entry: bytes | Block) -> None:
        self._left += _cost(key, entry)
        self._agings.pop(key, None)


def _cost(key: bytes, entry: bytes | Block) -> int:
    # The length of neither ever changes; an answer is there twice, as it is and as what it is made of.
    if isinstance(entry, bytes):
        return _OVERHEAD + _AGING + len(key) + 2 * len(entry)
    return _OVERHEAD + len(key) + len(entry.tail)


def hot_key(view: bytes, data: bytes, name_end: int) -> bytes:
    """Return the key of a packet: all of it but its id, with the name, whose last octet is at `name_end`, in lower
    case.

    Lower-casing leaves the lengths of labels alone, since they are below the letters; so packets with equal keys have
    equal questions, and only packets that were read and found good ever get a key into the table.
    """
    return view + data[2:HEADER] + data[HEADER:name_end].lower() + data[name_end:]
