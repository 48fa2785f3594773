"""What one client is sent: decisions and answers rendered for it.

The last look at every answer is here: whatever it came from, it is decided for this client before it is rendered.
"""

import logging
from collections.abc import Hashable
from typing import NamedTuple

from gateway.decision import Decision, Reason
from gateway.dns.answers import Block, servfail
from gateway.dns.cache import Key
from gateway.dns.hot import View
from gateway.dns.judge import Judge
from gateway.dns.message import STREAM_SIZE, Answer, render, udp_limit
from gateway.dns.settings import Settings
from gateway.dns.tally import Source, Tally
from gateway.dns.wire import CD, RD, Edns, Query
from gateway.memo import Memo
from gateway.request import Client, DnsAnswer, DnsQuery, Flaw

_LOG = logging.getLogger(__name__)
_BLOCKS_KEPT = 4096
_AT_HAND = 1024
_FAILURES = (Reason.UPSTREAM_FAILURE, Reason.INTERNAL_ERROR)


class Known:
    """A client, and what is looked up for it with each packet."""

    __slots__ = ("client", "closed", "credit", "groups", "limited", "most", "own", "share", "source", "view")

    def __init__(
        self, client: Client, groups: tuple[str, ...], view: View, own: View, limited: str, most: int
    ) -> None:
        self.client = client
        self.groups = groups
        """Its client groups."""
        self.view = view
        """Answers given before to clients of its view under this generation."""
        self.own = own
        """Denials that others of its view were told as well: they are recorded and counted by client."""
        self.limited = limited
        """Whose rate limit counts: an IPv6 client may use all addresses of its network."""
        self.source = client.address.packed[: 4 if client.address.version == 4 else 8]
        """The same, in octets, which are hashed far quicker."""
        self.share = 1
        """Queries taken from the rate limit the next time: twice as many each time, so that a client that is looked
        up anew loses no more than it has used."""
        self.most = most
        """And no more than these."""
        self.credit: float = 0
        """Datagrams that are paid for; infinitely many without a rate limit."""
        self.closed = False
        """Zones are closed to it: its view is its own then, so that the hot table never knows it."""


class Miss(NamedTuple):
    """A query that may be answered, once an upstream has been asked."""

    known: Known
    query: Query
    key: Key
    """What its answer is kept under."""
    stream: bool
    options: bytes = b""
    """EDNS options that the answer carries."""

    @property
    def limit(self) -> int:
        """How long the reply may be."""
        return STREAM_SIZE if self.stream else udp_limit(self.query.edns)


class Replies:
    """Renders decisions and answers, under one configuration after another."""

    def __init__(self, judge: Judge, settings: Settings, tally: Tally | None = None) -> None:
        self._judge = judge
        self._tally = tally or Tally()
        self._settings = settings
        self._blocks = Memo[Hashable, Block](_BLOCKS_KEPT)
        self._at_hand = Memo[tuple[int, int, int, Edns | None], tuple[Decision, Block, Source]](_AT_HAND)
        """The same by the ids of decisions: most often, the decision is the very object that it was for another name.
        """

    def use(self, settings: Settings) -> None:
        """Go on with another configuration."""
        self._settings = settings
        self._blocks.clear()
        self._at_hand.clear()

    def finish(
        self,
        client: Client,
        query: Query,
        answer: Answer,
        age: int,
        limit: int,
        options: bytes = b"",
        source: Source = Source.LOCAL,
    ) -> tuple[bytes | None, bool]:
        """Decide on an answer and render it. Returns it, and whether nothing had to be recorded."""
        name, qtype, addresses, judge = query.name, query.qtype, answer.addresses, self._judge
        ident = ""
        if answer.chain or self._settings.record_allowed or not judge.passes(client, name, qtype, addresses):
            request = DnsAnswer(
                client=client,
                name=name,
                qtype=qtype,
                chain=answer.chain,
                addresses=addresses,
                trusted=answer.trusted,
            )
            decision, ident = judge.judge(request)
            if decision.denied:
                return self.block(query, decision, ident, options), False
            if self._settings.record_allowed:
                judge.record(request, decision)
                ident = "recorded"
        self._tally.answers[source] += 1
        return render(query, answer, age=age, limit=limit, options=options), not ident

    def block(
        self, query: Query, decision: Decision, ident: str, options: bytes = b"", *, ede: int | None = None
    ) -> bytes | None:
        """Return what a denial is answered with; None for silence. `ident` is that of its record."""
        ident_of_query, flags, _, question, qtype, _, edns = query
        place = id(decision), flags, qtype, edns
        known = self._at_hand.get(place)
        if known is None or known[0] is not decision or ede is not None:
            source = Source.FAILED if decision.reason in _FAILURES else Source.BLOCKED
            known = decision, self._block(query, decision, ede), source
            if ede is None:
                self._at_hand.keep(place, known)
        _, block, source = known
        self._tally.answers[source] += 1
        return block.render(ident_of_query.to_bytes(2, "big"), question, ident, options)

    def _block(self, query: Query, decision: Decision, ede: int | None) -> Block:
        """Return what has been prepared of an answer."""
        # All that a block answer depends on; the name is none of it.
        edns, matched = query.edns, decision.matched
        key = (
            query.flags & (RD | CD),
            edns and edns.dnssec_ok,
            query.qtype,
            decision.reason,
            decision.rule,
            matched and matched.list,
            ede,
        )
        block = self._blocks.get(key)
        if block is None:
            block = Block(query, decision, self._settings.block_answer, self._settings.block_ttl, ede=ede)
            self._blocks.keep(key, block)
        return block

    def refuse(
        self, client: Client, query: Query, flaw: Flaw, options: bytes = b"", *, ede: int | None = None
    ) -> bytes | None:
        """Answer SERVFAIL for a cause of our own, and record it. Never raises."""
        request = DnsQuery(client=client, name=query.name, qtype=query.qtype, flaw=flaw)
        try:
            decision, ident = self._judge.judge(request)
            return self.block(query, decision, ident, options, ede=ede)
        except Exception:
            _LOG.exception("a failed query could not even be recorded")
            self._tally.answers[Source.FAILED] += 1
            return servfail(query)
