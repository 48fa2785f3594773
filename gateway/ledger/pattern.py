"""Lines of DNS blocks and of tunnels, made from patterns: what is the same in all lines of a kind is encoded once.

Pure: no I/O, no clock. `gateway.ledger.event` alone says what a line holds. A pattern is its encoded event with marks
where lines of the kind differ; filling them in costs 3 us where building and encoding the whole event costs 20.
"""

from collections.abc import Hashable
from json.encoder import encode_basestring_ascii as quoted

from gateway.addresses import IPAddress
from gateway.decision import Decision, Verdict
from gateway.ledger.event import Event, Outcome, encode, event
from gateway.ledger.text import timestamp, visible, without_userinfo
from gateway.memo import Memo
from gateway.request import DnsQuery, TlsHello

_LIMIT = 4096
"""Patterns kept: clients times rules and lists, as far as they meet. Some 2 KB each."""
_MARKS: Event = {
    "@timestamp": "<1 time>",
    "event.id": "<2 id>",
    "dns.question.name": "<3 name>",
    "gateway.detail": "<4 detail>",
    "gateway.list.line": "<5 line>",
    "gateway.list.entry": "<6 entry>",
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

_id = id  # the ids of lines are called so as well

type _Pattern = tuple[str, ...]


class Patterns:
    """The patterns of one ledger's lines."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._kept = Memo[Hashable, _Pattern](_LIMIT)
        self._ends = Memo[Hashable, tuple[Decision, str]](_FEW)
        self._again = Memo[int, tuple[TlsHello, Decision, IPAddress | None, int | None, int, str]](_FEW)
        """The same by the ids of requests: whoever connects again asks with the very object."""

    def line(
        self, kind: Hashable, request: DnsQuery, decision: Decision, *, id: str, now: float, generation: int
    ) -> bytes:
        """Return the line of a decision, as `encode(event(...))` makes it.

        Args:
            kind: the client: everything of it that is recorded.
        """
        matched = decision.matched
        key = (
            kind,
            request.qtype,
            decision.rule,
            decision.reason,
            decision.technique,
            decision.verdict,
            decision.enforced,
            decision.tls,
            decision.reported,
            generation,
            not decision.detail,
            None if matched is None else (matched.list, matched.version, matched.categories),
        )
        pattern = self._kept.get(key)
        if pattern is None:
            made = event(request, decision, id=id, now=now, role=self._role, generation=generation)
            pattern = _pattern(made)
            if not pattern:
                return encode(made)
            self._kept.keep(key, pattern)
        values = [quoted(timestamp(now)), quoted(id), quoted(visible(request.name) or ".")]
        if decision.detail:
            values.append(quoted(visible(without_userinfo(decision.detail))))
        if matched is not None:
            values.append(str(matched.line))
            values.append(quoted(visible(matched.entry)))
        pieces = [*pattern]
        pieces[1::2] = values
        return "".join(pieces).encode("ascii")

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
            texts = [piece.replace("%", "%%") for piece in pieces[::2]]
            kept = decision, '{}"%s"{}"%s"{}%d{}%d{}%d{}'.format(*texts)
            self._ends.keep(key, kept)
        self._again.keep(_id(request), (request, decision, address, outcome.status, generation, kept[1]))
        return kept[1]


def _pattern(made: Event, known: Event = _MARKS) -> _Pattern:
    """Return an event's encoding, cut where lines differ: every second piece is a mark. Empty: it has their text."""
    marks = {key: mark for key, mark in known.items() if key in made}
    rest = encode({**made, **marks}).decode("ascii")
    pieces: list[str] = []
    for mark in marks.values():
        text = str(mark) if isinstance(mark, int) else quoted(str(mark))
        if rest.count(text) != 1:
            return ()
        before, _, rest = rest.partition(text)
        pieces += (before, text)
    return (*pieces, rest)
