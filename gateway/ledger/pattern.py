"""Lines of DNS blocks and of tunnels, made from patterns: what is the same in all lines of a kind is encoded once.

Pure: no I/O, no clock. `gateway.ledger.event` alone says what a line holds. A pattern is its encoded event, cut where
lines of the kind differ; filling that in costs 2 us where building and encoding the whole event costs 20. The line of
a DNS block is not filled in before it is written: until then, and for its repeats after that, what differs is enough.
"""

from collections.abc import Hashable
from dataclasses import replace
from json.encoder import encode_basestring_ascii as quoted
from typing import NamedTuple

from gateway.addresses import IPAddress
from gateway.decision import Decision, Match, Verdict
from gateway.ledger.event import Event, Outcome, encode, event
from gateway.ledger.losses import Loss, Span
from gateway.ledger.tally import Denial, denials_of
from gateway.ledger.text import LONGEST, timestamp, visible, without_userinfo
from gateway.memo import Memo
from gateway.request import DnsAnswer, DnsQuery, TlsHello

_LIMIT = 4096
"""Patterns kept: query types times rules and lists, as far as they meet. Some 2 KB each."""
_MARKS: Event = {
    "@timestamp": "<1 time>",
    "event.id": "<2 id>",
    "source.ip": "<3 client>",
    "dns.question.name": "<4 name>",
    "gateway.detail": "<5 detail>",
    "gateway.list.line": "<6 line>",
    "gateway.list.entry": "<7 entry>",
}
"""What differs, in the order in which it stands in a line."""

_COUNTS: Event = {
    "@timestamp": "<1 time>",
    "event.id": "<2 id>",
    "event.duration": 3_141_592_653_589_793_238,
    "source.bytes": 3_141_592_653_589_793_239,
    "destination.bytes": 3_141_592_653_589_793_240,
}
"""What differs in lines about the end of a tunnel."""
_LONGEST_TEXT = 256
_FEW = 1024
_LONGEST = 1e6  # seconds of a tunnel
_END = "}\n"  # of each line

_id = id  # the ids of lines are called so as well

type _Pattern = tuple[str, ...]
"""What stands between the marks. Empty: there is no pattern."""


class Blocks(NamedTuple):
    """DNS blocks that differ in client, name and entry alone."""

    kind: str
    """See `kind_of`."""
    pattern: _Pattern
    denials: tuple[Denial, ...]
    """What each of them counts as."""


class BlockLine(NamedTuple):
    """The line of a DNS block, not filled in yet. A tuple: one is made for each, and tuples are made fastest."""

    alike: Blocks
    """What it has in common with others; that has a pattern."""
    address: str
    """The client's, as it stands in a line."""
    name: str
    detail: str | None
    """That of the decision; None for that of the entry."""
    matched: Match | None
    id: str
    now: float

    def encode(self) -> bytes:
        """Return the line, as `encode(event(...))` makes it."""
        return self._filled_in(self.id, self.now).encode("ascii")

    def rolled_up(self, *, id: str, now: float, span: Span) -> bytes:
        """Return the line that stands for its repeats, as `encode(notice.rolled_up(...))` makes it."""
        counted = f'"gateway.rollup":"{self.id}","gateway.count":{span.count}'
        when = f'"gateway.first":"{timestamp(span.first)}","gateway.last":"{timestamp(span.last)}"'
        return f"{self._filled_in(id, now)[: -len(_END)]},{counted},{when}{_END}".encode("ascii")

    def unreadable(self, span: Span) -> Loss:
        """Return what it, or its repeats, are counted as where no line can be made."""
        reason, enforced = self.alike.denials[0]
        return Loss(verdict=Verdict.DENY.value, enforced=enforced, reason=reason, rule="", client="", span=span)

    def _filled_in(self, id: str, now: float) -> str:
        (_, pattern, _), address, name, detail, matched, _, _ = self
        if matched is None:
            line, entry = "", ""
        else:
            line, entry = str(matched.line), _text(matched.entry)
            if detail is None:
                detail = matched.told
        detail = _text(without_userinfo(detail) if "@" in detail else detail) if detail else ""
        a, b, c, d, e, f, g, h = pattern
        return f'{a}"{timestamp(now)}"{b}"{id}"{c}{address}{d}{_text(name or ".")}{e}{detail}{f}{line}{g}{entry}{h}'


type Line = Event | bytes | BlockLine
"""A line to write: an event, or its encoding, or what that is made of."""


class Patterns:
    """The patterns of one ledger's lines."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._blocks = Memo[Hashable, Blocks](_LIMIT)
        self._at_hand = Memo[tuple[int, int, int], tuple[Decision, Blocks]](_LIMIT)
        self._ends = Memo[Hashable, tuple[Decision, str]](_FEW)
        self._again = Memo[int, tuple[TlsHello, Decision, IPAddress | None, int | None, int, str]](_FEW)
        """The same by the ids of requests: whoever connects again asks with the very object."""

    def blocks(
        self, request: DnsQuery, decision: Decision, detail: str | None, matched: Match | None, generation: int
    ) -> Blocks:
        """Return what a block has in common with others, by a client of which only the address is known.

        Args:
            detail: that of the decision; or None where it has a blank for that of `matched`.
        """
        # Most often, the decision is the very object that it was for another name.
        place = id(decision), request.qtype, generation
        known = self._at_hand.get(place)
        if known is not None and known[0] is decision:
            return known[1]
        if detail is None:
            detail = "" if matched is None else matched.told
        key = (
            request.qtype,
            decision.rule,
            decision.reason,
            decision.technique,
            decision.verdict,
            decision.enforced,
            decision.tls,
            decision.reported,
            generation,
            not detail,
            None if matched is None else (matched.list, matched.version, matched.categories),
        )
        found = self._blocks.get(key)
        if found is None:
            whole = replace(decision, detail=detail, matched=matched)
            made = event(request, whole, id="", now=0.0, role=self._role, generation=generation)
            kind = kind_of(request, decision, generation)
            found = self._blocks.keep(key, Blocks(kind, _pattern(made, _MARKS), tuple(denials_of(decision))))
        self._at_hand.keep(place, (decision, found))
        return found

    def end(
        self, request: TlsHello, decision: Decision, outcome: Outcome, *, id: str, now: float, generation: int
    ) -> bytes | None:
        """Return the line of a tunnel that was allowed and ended well, as `encode(event(...))` makes it.

        None for others, which are not alike.
        """
        if not 0 <= outcome.seconds < _LONGEST:
            return None
        again = self._again.get(_id(request))
        if (
            again is not None
            and again[0] is request  # an id is used again once its object is gone
            and again[1] is decision
            and again[2] is outcome.address
            and again[3] == outcome.status
            and again[4] == generation
            and not outcome.error
        ):
            pattern = again[5]
        else:
            found = self._end_pattern(request, decision, outcome, id=id, now=now, generation=generation)
            if not isinstance(found, str):
                return found
            pattern = found
        moved = timestamp(now), id, round(outcome.seconds * 1e9), outcome.octets_out, outcome.octets_in
        return (pattern % moved).encode("ascii")

    def _end_pattern(
        self, request: TlsHello, decision: Decision, outcome: Outcome, *, id: str, now: float, generation: int
    ) -> str | bytes | None:
        """Return a text to fill in; the whole line where there is none; None for what ended otherwise."""
        address = outcome.address
        if (
            decision.verdict is not Verdict.ALLOW
            or decision.reported
            or outcome.error
            or address is None
            or len(request.tunnel.user_agent) > _LONGEST_TEXT
            or len(request.alpn) > 4
            or len(request.server_names) != 1
        ):
            return None
        key = (request, address.packed, outcome.status, generation)
        kept = self._ends.get(key)
        if kept is None or kept[0] is not decision:
            made = event(request, decision, id=id, now=now, role=self._role, outcome=outcome, generation=generation)
            pieces = _pattern(made, _COUNTS)
            if not pieces:
                return encode(made)
            texts = [piece.replace("%", "%%") for piece in pieces]
            kept = decision, '{}"%s"{}"%s"{}%d{}%d{}%d{}'.format(*texts)
            self._ends.keep(key, kept)
        self._again.keep(_id(request), (request, decision, address, outcome.status, generation, kept[1]))
        return kept[1]


def kind_of(request: DnsQuery | DnsAnswer, decision: Decision, generation: int) -> str:
    """Return what two DNS blocks must have in common, besides client and name, to be told by one line."""
    told = request.qtype, decision.reason.value, decision.rule, decision.enforced, generation
    tried = (decision.verdict.value, *(each.rule for each in decision.reported)) if decision.reported else ()
    return repr(told + tried)


def _text(value: str) -> str:
    """Return a value as it stands in a line: as `quoted(visible(value))` does, but quicker."""
    text = quoted(value)
    # Nothing that prints was to be escaped, so nothing in it does not print.
    return text if len(text) == len(value) + 2 <= LONGEST else quoted(visible(value))


def _pattern(made: Event, known: Event) -> _Pattern:
    """Return an event's encoding, cut where it differs from others; nothing is before a mark whose field it lacks."""
    marks = {key: mark for key, mark in known.items() if key in made}
    rest = encode({**made, **marks}).decode("ascii")
    pieces: list[str] = []
    for key, mark in known.items():
        text = quoted(mark) if isinstance(mark, str) else str(mark)
        before = ""
        if key in made:
            if rest.count(text) != 1:
                return ()  # something recorded looks like a mark
            before, _, rest = rest.partition(text)
        pieces.append(before)
    return (*pieces, rest)
