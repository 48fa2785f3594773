"""Queries that wait for an upstream: whether they may leave, how many may wait, and how they go on.

Callbacks all the way, from the client's datagram to the one that answers it: a task and a future for every query cost
more than asking the upstream.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from gateway.decision import Decision, Reason
from gateway.dns.answers import (
    EDE_INVALID,
    EDE_NETWORK,
    EDE_STALE,
    EDE_STALE_ABSENCE,
    EDE_UNREACHABLE,
    ede_option,
)
from gateway.dns.cache import Key
from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.forwarder import Forwarder
from gateway.dns.judge import Judge
from gateway.dns.leakage import Leakage
from gateway.dns.local import absent, zone_of
from gateway.dns.message import Answer
from gateway.dns.replies import Miss, Replies
from gateway.dns.tally import Source
from gateway.dns.wire import CD, Query, Rcode
from gateway.request import Client, DnsQuery, Flaw

_LOG = logging.getLogger(__name__)

MAX_PER_CLIENT = 512
"""Queries of one client that wait for an upstream."""
MAX_WAITING = 8192
"""Queries of all clients that wait for an upstream: whoever forges senders is as many clients as it likes."""

_EDE_OF: dict[Failure, int] = {Failure.NETWORK: EDE_NETWORK, Failure.MALFORMED: EDE_INVALID}

type Done = Callable[[bytes | None], None]
"""Takes the reply; None for silence."""


class Misses:
    """Answers queries with the help of upstreams."""

    def __init__(
        self,
        judge: Judge,
        leakage: Leakage,
        replies: Replies,
        forwarder: Callable[[], Forwarder],
        close: Callable[[Client], None],
    ) -> None:
        """`forwarder` returns that of the configuration in force; `close` is called when a client was found to tell
        a zone too much.
        """
        self._judge = judge
        self._leakage = leakage
        self._replies = replies
        self._forwarder = forwarder
        self._close = close
        self._waiting = 0
        self._per_source: dict[bytes, int] = {}

    @property
    def waiting(self) -> int:
        """Queries that wait."""
        return self._waiting

    def begin(self, miss: Miss, done: Done) -> None:
        """Answer a query that nothing here could answer. `done` is called once, maybe before this returns, and not
        at all when the forwarder is closed before.
        """
        try:
            settled = self._settle(miss)
        except Exception as error:
            settled = Settled(self._failed(miss, error))
        if settled is not None:
            done(settled.reply)
            return
        waiting, query = _Waiting(self, miss, done), miss.query
        source, per_source = miss.known.source, self._per_source
        per_source[source] = per_source.get(source, 0) + 1
        self._waiting += 1
        try:
            self._forwarder().ask(miss.key, waiting.arrived, query.question[:-4].lower())
        except Exception as error:
            waiting.arrived(error, stale=False)

    def _settle(self, miss: Miss) -> "Settled | None":
        """Answer what nobody may be asked about."""
        known, query = miss.known, miss.query
        if self._per_source.get(known.source, 0) >= MAX_PER_CLIENT:
            return self._refused(miss, Flaw(Reason.RATE_LIMIT, "too many queries of this client are waiting"))
        if self._waiting >= MAX_WAITING:
            return self._refused(miss, Flaw(Reason.RATE_LIMIT, "too many queries are waiting"))
        leak = self._leakage.query(known.client.address, known.groups, query.name, query.qtype)
        if leak is not None and (settled := self.leaked(miss, leak)) is not None:
            return settled
        if self.stays(query.name):
            kept = absent(query.name, query.name.rpartition(".")[2], self._forwarder().above)
            return Settled(self._replies.finish(known.client, query, kept, 0, miss.limit, miss.options)[0])
        return None

    def finish(self, miss: Miss, result: Answer | Exception, *, stale: bool) -> bytes | None:
        """Return the reply to a query for which an upstream was asked. Never raises."""
        self._waiting -= 1
        known = miss.known
        left = self._per_source[known.source] - 1
        if left > 0:
            self._per_source[known.source] = left
        else:
            del self._per_source[known.source]
        if not isinstance(result, Answer):
            return self._failed(miss, result)
        try:
            self._forwarder()  # takes over what is in force by now
            client, query, options = known.client, miss.query, miss.options
            leak = self._leakage.response(client.address, known.groups, query.name, query.qtype, result)
            if leak is not None and (settled := self.leaked(miss, leak)) is not None:
                return settled.reply
            source = Source.UPSTREAM
            if stale:
                options += stale_option(result)
                source = Source.STALE
            return self._replies.finish(client, query, result, 0, miss.limit, options, source)[0]
        except Exception as error:
            return self._failed(miss, error)

    def leaked(self, miss: Miss, decision: Decision) -> "Settled | None":
        """Record that a query or its answer would tell too much. Returns the refusal, unless it is only reported."""
        query = miss.query
        request = DnsQuery(client=miss.known.client, name=query.name, qtype=query.qtype)
        ident = self._judge.record(request, decision)
        if not decision.denied:
            return None
        self._close(miss.known.client)
        return Settled(self._replies.block(query, decision, ident, miss.options))

    def _failed(self, miss: Miss, error: Exception) -> bytes | None:
        if isinstance(error, UpstreamError):
            ede = _EDE_OF.get(error.failure, EDE_UNREACHABLE)
            return self._refused(miss, Flaw(Reason.UPSTREAM_FAILURE, str(error)), ede).reply
        _LOG.error("a query failed inside the resolver", exc_info=error)
        return self._refused(miss, Flaw(Reason.INTERNAL_ERROR, type(error).__name__)).reply

    def _refused(self, miss: Miss, flaw: Flaw, ede: int | None = None) -> "Settled":
        return Settled(self._replies.refuse(miss.known.client, miss.query, flaw, miss.options, ede=ede))

    def stays(self, name: str) -> bool:
        """Say whether nobody is asked for a name."""
        if not self._leakage.keeps(name):
            return False
        settings = self._judge.settings
        return name not in settings.records and zone_of(name, settings.forward) is None


class Settled(NamedTuple):
    """A query that is answered. The reply is None where blocks are silent."""

    reply: bytes | None


class _Waiting:
    """One query that waits."""

    __slots__ = ("_done", "_miss", "_misses")

    def __init__(self, misses: Misses, miss: Miss, done: Done) -> None:
        self._misses = misses
        self._miss = miss
        self._done: Done | None = done

    def arrived(self, result: Answer | Exception, stale: bool) -> None:
        """Take what the forwarder found, once."""
        done, self._done = self._done, None
        if done is not None:
            done(self._misses.finish(self._miss, result, stale=stale))


def key_of(query: Query) -> Key:
    """Return what the answer to a query is kept under."""
    _, flags, name, _, qtype, _, edns = query
    return _make(Key, (name, qtype, edns is not None and edns.dnssec_ok, flags & CD != 0))


_make = tuple.__new__  # as Key() does, in half the time


def stale_option(answer: Answer) -> bytes:
    """Return the extended error of an answer that has expired (RFC 8914 sections 4.4 and 4.20)."""
    return ede_option(EDE_STALE_ABSENCE if answer.rcode == Rcode.NXDOMAIN else EDE_STALE, b"")
