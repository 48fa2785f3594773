"""What clients have told zones: all accounts and known names, in a table of fixed size that workers share.

Pure: no I/O, no clock. The table is a buffer that several processes have mapped, or one has for itself; who reads an
account to change it holds the lock. Nothing in it is ever more lenient than the truth: octets are rounded up, a
window is cut into parts and summed over one part more, an account that has to make room leaves its sums to the floor
of its set, and a name that was forgotten is new again.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from math import ceil
from struct import Struct
from typing import NamedTuple

KEY = 16
"""Octets of the key for hashes, at the beginning of the table: equal names have equal hashes in all workers."""
LAYOUT = b"accounts 3\n"
"""What follows the key, so that a file of another layout is not taken for one."""
_PARTS = 8
_RING = _PARTS + 1
_WAYS = 8
_CLOSURES = 8  # in words, behind key and layout
_NAMES = 64


class Kind(NamedTuple):
    """Accounts of one kind have sets of their own: opening one never gives up one of another kind."""

    first: int
    sets: int


class Room(NamedTuple):
    """How many sets of eight a table has."""

    names: int = 131_072
    pairs: int = 8192
    """Accounts of a client with a zone."""
    zones: int = 3072
    """Of a zone, all clients together."""
    clients: int = 1024
    """Of a client, all unknown zones together."""

    @property
    def sets(self) -> int:
        """Sets of accounts."""
        return self.pairs + self.zones + self.clients


GRAIN = 64
"""Parts of an octet that are counted."""
MOST = 2**31
"""Of these parts: 32 MB. A limit beyond counts as that, since sums go round at twice as much."""
_ROUND = 2**32 - 1
_DAY = 86400.0

# An account begins with its hash (Q), until when it is closed and since when it is (I, seconds), all that it has
# spent (I, going round), names with news, heavy ones, mark, all that came in answers (I, going round), and of a zone
# the last day and the number of days in one (I), of a client with a zone when it was closed. For each window follow
# the number of the part that is now, and what all was when the window began (I): what was spent is a difference. Then
# who was seen of the clients of a zone (8H), and for each window what all was when each of its parts began (9I). To
# spend changes one place, however many windows there are.
_UNTIL, _SINCE, _TOTAL, _NEW, _HEAVY, _MARK, _ANSWERS, _DAYS = 2, 3, 4, 5, 6, 7, 8, 9  # in words
_FACTS = 40
_SPEND = Struct("=II")
_BASES = 5  # among what is read at a glance
_SEEN = Struct("=8H")
_MARKS = Struct(f"={_RING}I")
_SUMS = Struct("=I12xI")
_eight_from = Struct("=8Q").unpack_from


class Facts(NamedTuple):
    """What an account holds beside what was spent."""

    until: int
    """Until when it is closed."""
    since: int
    """When the first octets were spent."""
    new: int
    """Names with something new in them."""
    heavy: int
    """Those of them that carry much."""
    mark: int
    """For a client and a zone, why it is closed; for a zone, 1 when the domain itself was asked for."""
    days: int
    """Of a zone: on how many days it was asked for."""
    clients: int
    """Of a zone: how many clients asked for it, up to eight."""


def size(spans: int, room: Room = Room()) -> int:  # noqa: B008 -- immutable
    """Return the octets of a table for so many windows: 27 MB for two and one for answers."""
    return _NAMES + room.names * _WAYS * 8 + room.sets * _WAYS * (8 + _cell(spans))


def _cell(spans: int) -> int:
    octets = _FACTS + spans * 8 + _SEEN.size + spans * _RING * 4
    return octets + -octets % 64  # so that what is read most often is one line of the processor's cache


def paired(limits: Sequence[int], others: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Return the limits of a client with a zone and of that zone, a pair for each window, as `charge` takes them."""
    return tuple((_BASES + span, *pair) for span, pair in enumerate(zip(limits, others, strict=True)))


def grains(octets: float) -> int:
    """Return octets as they are counted, rounded up."""
    return -int(octets * -GRAIN // 1)


class SharedTable:
    """The table. An account is named by a hash, and reached by where it lies, for as long as the lock is held."""

    def __init__(
        self,
        buffer: memoryview,
        seconds: Sequence[float],
        lock: AbstractContextManager[object] | None = None,
        room: Room = Room(),  # noqa: B008 -- immutable
    ) -> None:
        """`buffer` has `size` octets that were zero at first but for key and layout; `seconds` are the lengths of the
        windows, the same for all who share the table: those for names, the shortest first, then the one for answers.
        """
        self.seconds = tuple(seconds)
        self.lock: AbstractContextManager[object] = lock or nullcontext()
        self.key = bytes(buffer[:KEY])
        self.pairs = Kind(0, room.pairs)
        self.zones = Kind(room.pairs, room.zones)
        self.clients = Kind(room.pairs + room.zones, room.clients)
        self._room, self._names = room, room.names
        self._tags = _NAMES + room.names * _WAYS * 8
        self._cells = self._tags + room.sets * _WAYS * 8
        spans = len(self.seconds)
        self._buffer = buffer
        self._words = buffer.cast("I")
        self._longs = buffer.cast("Q")
        self._cell = _cell(spans)
        self._head = Struct(f"=Q8I{2 * spans}I")
        # Of it: hash, until when it is closed, all that it has spent, names with news, parts, all when they began.
        self._glance = Struct(f"=QI4xII16x{4 * spans}s{spans}I").unpack_from
        self._part_struct = Struct(f"={spans}I")
        self._parts_at, self._bases_at = _FACTS, _FACTS + 4 * spans
        self._seen_at = _FACTS + 8 * spans
        self._rings_at = self._seen_at + _SEEN.size
        self._state = Struct(f"={2 * spans}I")
        self._spans = range(spans)
        self._parts: tuple[int, ...] = ()
        self._part_octets = b""
        self._part_since = self._part_until = 0.0

    @classmethod
    def private(cls, seconds: Sequence[float], key: bytes, room: Room = Room()) -> "SharedTable":  # noqa: B008
        """Return an empty table that nobody else has."""
        buffer = bytearray(size(len(seconds), room))
        buffer[:KEY] = key[:KEY].ljust(KEY, b"\0")
        buffer[KEY : KEY + len(LAYOUT)] = LAYOUT
        return cls(memoryview(buffer), seconds, room=room)

    # -- names -------------------------------------------------------------------------------------------------

    def knows(self, value: int) -> bool:
        """Say whether any worker was asked for a name."""
        return value in _eight_from(self._buffer, _NAMES + value % self._names * 64)

    def place(self, value: int) -> int:
        """Return where a name is to be remembered, -1 when it is known. Where there is no room, one that is there
        will be forgotten.
        """
        at = value % self._names * _WAYS + _NAMES // 8
        if not self._longs[at]:
            return at
        there = _eight_from(self._buffer, at * 8)
        if value in there:
            return -1
        return at + (value // self._names % _WAYS if there[-1] else there.index(0))

    def learn(self, places: Mapping[int, int]) -> None:
        """Remember names, at the places that were found for them."""
        longs = self._longs
        for value, place in places.items():
            if longs[place]:  # by another one meanwhile, or there is no room
                place = self.place(value)
            if place >= 0:
                longs[place] = value

    # -- accounts ----------------------------------------------------------------------------------------------

    def find(self, kind: Kind, value: int) -> int:
        """Return where the account of a hash lies, with its windows as they were left; 0 when there is none."""
        first = (kind[0] + value % kind[1]) * _WAYS
        value |= 2
        tags = _eight_from(self._buffer, self._tags + first * 8)
        return self._cells + (first + tags.index(value)) * self._cell if value in tags else 0

    def open(self, now: float, kind: Kind, value: int) -> int:
        """Return where the account of a hash lies, with its windows as of now. Where there is none and no room,
        another is given up: the one that has spent least. What it had spent counts for all accounts of the set that
        begin later.
        """
        if not self._part_since <= now < self._part_until:
            self._turn(now)
        first = (kind[0] + value % kind[1]) * _WAYS
        value |= 2  # 0 and 1 say that there is none
        tags = _eight_from(self._buffer, self._tags + first * 8)
        if value in tags:
            at = self._cells + (first + tags.index(value)) * self._cell
            if self._part_struct.unpack_from(self._buffer, at + _FACTS) != self._parts:
                self._roll(at)
            return at
        return self._begin(now, first, tags, value)

    def charge(
        self,
        now: float,
        pair: int,
        zone: int,
        spent: int,
        limits: Iterable[tuple[int, int, int]],
        site: int,
    ) -> tuple[int, int]:
        """Count a light name for a client with a zone, and for the zone, unless one of them is closed or would exceed
        a limit. Returns what the client had spent in the shortest window, -1 when nothing was counted; and where the
        account of the zone lies: `site` is where it lay the last time. `limits` are those of `paired`.

        What `open`, `until`, `exceeds` and `spend` do, with one reading of each account and one writing.
        """
        if not self._part_since <= now < self._part_until:
            self._turn(now)
        buffer, glance, parts = self._buffer, self._glance, self._part_octets
        # Most often it is the first of its set.
        own = self._cells + (pair % self.pairs[1] * _WAYS + 1) * self._cell
        mine = glance(buffer, own)
        if mine[0] != pair | 2 or mine[4] != parts:
            own = self.open(now, self.pairs, pair)
            mine = glance(buffer, own)
        its = glance(buffer, site)
        if its[0] != zone | 2 or its[4] != parts:
            site = self.open(now, self.zones, zone)
            its = glance(buffer, site)
        if now < mine[1] or now < its[1]:
            return -1, site
        mine_all, its_all = mine[2], its[2]
        for base, limit, most in limits:
            if (mine_all - mine[base] & _ROUND) + spent > limit or (its_all - its[base] & _ROUND) + spent > most:
                return -1, site
        _SPEND.pack_into(buffer, own + 16, mine_all + spent & _ROUND, mine[3] + 1)
        _SPEND.pack_into(buffer, site + 16, its_all + spent & _ROUND, its[3] + 1)
        return mine_all - mine[_BASES] & _ROUND, site

    def _begin(self, now: float, first: int, tags: tuple[int, ...], value: int) -> int:
        way = self._evict(now, first) if tags[-1] else tags.index(0, 1)
        at = self._cells + (first + way) * self._cell
        if tags[0] or tags[-1]:
            floor = self._cells + first * self._cell
            self._roll(floor)
            self._buffer[at : at + self._cell] = self._buffer[floor : floor + self._cell]
        else:
            self._part_struct.pack_into(self._buffer, at + _FACTS, *self._parts)
        self._words[at // 4 + _SINCE] = int(now) if 0 <= now < _ROUND else 0
        self._longs[at // 8] = self._longs[self._tags // 8 + first + way] = value
        return at

    def _turn(self, now: float) -> None:
        """Work out the numbers of the parts that hold from now on, and until when."""
        self._parts = tuple(int(now * _PARTS // seconds) & _ROUND for seconds in self.seconds)
        self._part_octets = self._part_struct.pack(*self._parts)
        self._part_since = now
        self._part_until = min(
            (part + 1) * seconds / _PARTS for part, seconds in zip(self._parts, self.seconds, strict=True)
        )

    def _all(self, at: int, span: int) -> int:
        """Return all that an account has spent, of what a window is about."""
        return self._words[at // 4 + (_ANSWERS if span == len(self.seconds) - 1 else _TOTAL)]

    def _roll(self, at: int) -> None:
        """Let go of what has left the windows of an account."""
        buffer, longest = self._buffer, len(self.seconds)
        state = [*self._state.unpack_from(buffer, at + _FACTS)]  # a part for each window, then a mark for each
        spent, answers = _SUMS.unpack_from(buffer, at + 4 * _TOTAL)
        ring = at + self._rings_at
        for span, part in enumerate(self._parts):
            before, mark = state[span], state[longest + span]
            gone = part - before
            if not -_PARTS <= gone <= 0:  # also when the clock was set back: that makes nothing free
                total = spent if span < longest - 1 else answers
                if mark == total:
                    pass  # nothing is in the window: all its marks are the same
                elif gone < 0:
                    # Spent at a time that is far off: by a clock that was wrong. It counts as spent now.
                    _MARKS.pack_into(buffer, ring, *(mark,) * _RING)
                elif gone >= _RING:
                    _MARKS.pack_into(buffer, ring, *(total,) * _RING)
                    state[longest + span] = total
                else:
                    words, first = self._words, ring // 4
                    for each in range(before + 1, part + 1):
                        words[first + each % _RING] = total
                    state[longest + span] = words[first + (part + 1) % _RING]
                state[span] = part
            ring += _MARKS.size
        self._state.pack_into(buffer, at + _FACTS, *state)

    def _spendings(self, at: int, span: int) -> list[int]:
        """Return what was spent in each part of a window, the oldest first, as it is counted."""
        words, base, ring = self._words, at // 4, (at + self._rings_at) // 4 + span * _RING
        part = words[base + self._parts_at // 4 + span]
        marks = [words[ring + each % _RING] for each in range(part + 1, part + 1 + _RING)]
        return [later - sooner & _ROUND for sooner, later in pairwise([*marks, self._all(at, span)])]

    def _put(self, at: int, spendings: Sequence[Sequence[int]]) -> None:
        """Let an account have spent so much in each part of each window; its parts are those of now."""
        words, base = self._words, at // 4
        total = max(sum(each) for each in spendings[:-1])
        words[base + _TOTAL], words[base + _ANSWERS] = total, sum(spendings[-1])
        for span, spent in enumerate(spendings):
            ring, part = (at + self._rings_at) // 4 + span * _RING, self._parts[span]
            mark = self._all(at, span) - sum(spent)
            words[base + self._bases_at // 4 + span] = mark & _ROUND
            for age, each in enumerate(spent):
                words[ring + (part + 1 + age) % _RING] = mark & _ROUND
                mark += each
            words[base + self._parts_at // 4 + span] = part

    def _evict(self, now: float, first: int) -> int:
        """Return the place of the account of a set that can best be done without, empty, and leave what it had spent
        to the floor.
        """
        # By what it spent when it was last used, whether or not that is over by now.
        ways = []
        for way in range(1, _WAYS):
            at = self._cells + (first + way) * self._cell
            head = self._head.unpack_from(self._buffer, at)
            ways.append((head[1] > now, (head[3] - head[-2] & _ROUND) + (head[7] - head[-1] & _ROUND), way))
        way = min(ways)[2]
        gone, floor = self._cells + (first + way) * self._cell, self._cells + first * self._cell
        self._roll(gone)
        self._roll(floor)
        highest = [
            [max(pair) for pair in zip(self._spendings(floor, span), self._spendings(gone, span), strict=True)]
            for span in self._spans
        ]
        self._put(floor, highest)
        self._longs[self._tags // 8 + first] = 1
        self._longs[self._tags // 8 + first + way] = 0
        self._buffer[gone : gone + self._cell] = bytes(self._cell)
        return way

    def _base(self, at: int, span: int) -> int:
        return self._words[(at + self._bases_at) // 4 + span]

    def facts(self, at: int) -> Facts:
        """Return what an account holds beside what was spent."""
        _, until, since, _, new, heavy, mark, _, days, *_ = self._head.unpack_from(self._buffer, at)
        seen = _SEEN.unpack_from(self._buffer, at + self._seen_at)
        return Facts(until, since, new, heavy, mark, days & 0xFFFF, 8 - seen.count(0))

    @property
    def closures(self) -> int:
        """Counts what workers have closed, going round: so that each of them sees that there is something new."""
        return self._words[_CLOSURES]

    def closed_at(self, at: int) -> int:
        """Return when the account of a client with a zone was closed the last time."""
        return self._words[at // 4 + _DAYS]

    def until(self, at: int) -> int:
        """Return until when an account is closed."""
        return self._words[at // 4 + _UNTIL]

    def close(self, at: int, until: float, mark: int | None = None, now: float = 0) -> None:
        """Close an account, and mark why and when."""
        place = at // 4 + _UNTIL
        self._words[place] = max(self._words[place], min(_ROUND, ceil(until)))
        if mark is not None:
            self._words[at // 4 + _MARK] = mark
            self._words[at // 4 + _DAYS] = max(0, min(_ROUND, int(now)))
            self._words[_CLOSURES] = self._words[_CLOSURES] + 1 & _ROUND

    def exceeds(self, at: int, spent: int, limits: Sequence[int]) -> int:
        """Return which is the first limit that spending so much now would exceed; -1: none. All as it is counted."""
        for span, limit in enumerate(limits):
            if (self._all(at, span) - self._base(at, span) & _ROUND) + spent > limit:
                return span
        return -1

    def exceeds_answers(self, at: int, spent: int, limit: int) -> bool:
        """Say whether so much more in answers would exceed a limit."""
        span = len(self.seconds) - 1
        return (self._all(at, span) - self._base(at, span) & _ROUND) + spent > limit

    def spent(self, at: int, span: int) -> float:
        """Return at least what was spent in a window, octets. The last window is that of answers."""
        span %= len(self.seconds)
        return (self._all(at, span) - self._base(at, span) & _ROUND) / GRAIN

    def spend(self, at: int, spent: int, *, heavy: bool = False) -> None:
        """Count a name with news in it."""
        words, base = self._words, at // 4
        words[base + _TOTAL] = words[base + _TOTAL] + spent & _ROUND
        words[base + _NEW] += 1
        words[base + _HEAVY] += heavy

    def spend_answer(self, at: int, spent: int) -> None:
        """Count an answer."""
        words, base = self._words, at // 4
        words[base + _ANSWERS] = words[base + _ANSWERS] + spent & _ROUND

    def visit(self, now: float, at: int, client: int, *, apex: bool) -> tuple[int, int]:
        """Note that a client, by its hash, asked for a zone. Returns on how many days and by how many clients it was
        asked for, up to eight.
        """
        words, base = self._words, at // 4
        day, noted = int(now // _DAY) & 0xFFFF, words[base + _DAYS]
        if noted >> 16 != day:
            noted = words[base + _DAYS] = day << 16 | min(0xFFFF, (noted & 0xFFFF) + 1)
        if apex:
            words[base + _MARK] = 1
        seen, tag = _SEEN.unpack_from(self._buffer, at + self._seen_at), (client & 0xFFFF) or 1
        if tag not in seen and 0 in seen:
            seen = (tag, *seen[:-1])
            _SEEN.pack_into(self._buffer, at + self._seen_at, *seen)
        return noted & 0xFFFF, 8 - seen.count(0)

    def curve(self, at: int) -> list[tuple[float, float]]:
        """Return when about how much was spent, oldest first: by parts of the shortest window, and what is older by
        parts of the longest.
        """
        recent, longest = self._history(at, 0), self._history(at, len(self.seconds) - 2)
        later, older = sum(octets for _, octets in recent), []
        for when, octets in reversed(longest if len(self.seconds) > 2 else []):
            older.append((min(when, recent[0][0]) if recent else when, max(0.0, octets - later)))
            later = max(0.0, later - octets)
        return [*((when, octets) for when, octets in reversed(older) if octets), *recent]

    def _history(self, at: int, span: int) -> list[tuple[float, float]]:
        length = self.seconds[span] / _PARTS
        first = self._words[(at + self._parts_at) // 4 + span] - _PARTS
        spent = enumerate(self._spendings(at, span), first)
        return [(part * length, each / GRAIN) for part, each in spent if each]

    def forget(self, kind: Kind, value: int) -> None:
        """Let an account begin anew, if there is one."""
        if at := self.find(kind, value):
            self._buffer[at + 8 : at + self._cell] = bytes(self._cell - 8)

    def adopt(self, now: float, other: "SharedTable") -> None:
        """Take over what another table holds, which has the same key and room: with other windows, what was spent in
        the next longer of its windows, or in its longest, counts as spent now.
        """
        self._buffer[_NAMES : self._cells] = other._buffer[_NAMES : other._cells]
        self._turn(now)
        answers = len(other.seconds) - 1
        spans = [
            next((old for old in range(answers) if other.seconds[old] >= seconds), answers - 1)
            for seconds in self.seconds[:-1]
        ]
        for way in range(self._room.sets * _WAYS):
            mine, its = self._cells + way * self._cell, other._cells + way * other._cell
            if not self._longs[self._tags // 8 + way]:
                continue
            self._buffer[mine : mine + _FACTS] = other._buffer[its : its + _FACTS]
            seen = other._buffer[its + other._seen_at : its + other._seen_at + _SEEN.size]
            self._buffer[mine + self._seen_at : mine + self._seen_at + _SEEN.size] = seen
            spent = [other._all(its, old) - other._base(its, old) & _ROUND for old in (*spans, answers)]
            self._put(mine, [(0,) * _PARTS + (each,) for each in spent])
