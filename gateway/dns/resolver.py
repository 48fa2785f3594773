"""The resolving core: from a question to an answer that this client may have.

The order is the guarantee: the client's query is decided first, then the forwarder looks into local data, cache and
upstreams, then the answer is decided for this client, however it came about. Listeners use `answer_now` and
`answer_later`; the proxy uses `lookup`, which shares the forwarder but no DNS policy: it has its own stages.
"""

import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway.addresses import parse_address, unmap
from gateway.decision import Decision, Reason
from gateway.dns.answers import (
    EDE_INVALID,
    EDE_NETWORK,
    EDE_STALE,
    EDE_STALE_ABSENCE,
    EDE_UNREACHABLE,
    Block,
    ede_option,
    flawed,
    over_limit,
    servfail,
    why,
)
from gateway.dns.cache import Key
from gateway.dns.cookies import Cookies, cookie_in
from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.forwarder import Forwarder, Resolution, ResolutionError
from gateway.dns.hot import MAX_PACKET, Hot, HotAnswer, HotAnswers, hot_key
from gateway.dns.judge import Judge, RuntimeJudge
from gateway.dns.leakage import Leakage, client_key
from gateway.dns.local import absent, is_meta, local_answer, zone_of
from gateway.dns.message import STREAM_SIZE, Answer, head_of, opt_of, render, udp_limit
from gateway.dns.ratelimit import Excess, RateLimit
from gateway.dns.settings import Settings
from gateway.dns.wire import CD, HEADER, RD, Query, Rcode, Type, WireError, read_query
from gateway.request import Client, DnsAnswer, DnsQuery, Flaw

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)

MAX_PER_CLIENT = 512
"""Queries of one client that wait for an upstream."""
MAX_WAITING = 8192
"""Queries of all clients that wait for an upstream: whoever forges senders is as many clients as it likes."""
_CLIENTS_KEPT = 8192
_PREFIX = 6
"""Octets that stand for generation and view in keys of the hot table."""
_BLOCKS_KEPT = 4096

_EDE_OF: dict[Failure, int] = {Failure.NETWORK: EDE_NETWORK, Failure.MALFORMED: EDE_INVALID}


class Miss(NamedTuple):
    """A query that may be answered, once an upstream has been asked."""

    client: Client
    query: Query
    stream: bool
    options: bytes = b""
    """EDNS options that the answer carries."""


class LeakError(ResolutionError):
    """A name that would tell its zone too much was not looked up."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.detail)
        self.reason = decision.reason


class _Refused(NamedTuple):
    """A query that was turned away. The reply is None where blocks are silent."""

    reply: bytes | None


class _Known:
    """A client, and what is looked up for it with each packet."""

    __slots__ = ("client", "closed", "credit", "limited", "share", "view")

    def __init__(self, client: Client, view: bytes, limited: str, share: int) -> None:
        self.client = client
        self.view = view
        """Generation and view, as a prefix of keys of the hot table."""
        self.limited = limited
        """Whose rate limit counts: an IPv6 client may use all addresses of its network."""
        self.share = share
        """Queries taken from the rate limit at a time."""
        self.credit = 0
        """Datagrams that are paid for."""
        self.closed = False
        """Zones are closed to it: its view is its own then, so that the hot table never knows it."""


type Reply = bytes | Miss | None
"""The answer to a packet; what has to be waited for; or silence."""


class Resolver:
    """Answers clients of the resolver, and resolves names for the proxy."""

    @classmethod
    def from_runtime(cls, runtime: "Runtime", secret: bytes = b"") -> "Resolver":
        """Return a resolving core for a process. It follows the runtime from state to state by itself.

        `secret` is for cookies: the same for all processes that share a port. Without it, the process has its own.
        """
        resolver = cls(RuntimeJudge(runtime), secret=secret, state_dir=runtime.state.config.state_dir)
        resolver.leakage.prepare()
        return resolver

    def __init__(
        self,
        judge: Judge,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        *,
        secret: bytes = b"",
        state_dir: Path | None = None,
    ) -> None:
        self._judge = judge
        self._clock = clock
        self._wall = wall
        self._now = self._date = 0.0
        self._numbers = count(1)
        self._per_client: Counter[bytes] = Counter()  # by packed address, which is hashed far quicker
        self._clients: dict[str, _Known] = {}
        self._views: dict[object, bytes] = {}
        self._blocks: dict[Hashable, Block] = {}
        self._hot = HotAnswers()
        self._find_hot = self._hot.get
        self._cookies = Cookies(secret or secrets.token_bytes(32))
        self._waiting = 0
        self._excesses: dict[str, tuple[Decision, str]] = {}
        self._retired: list[Forwarder] = []
        self._settings = judge.settings
        self._limit = _limit_of(self._settings)
        self.leakage = Leakage(self._settings.tunnelling, wall, state_dir)
        """What clients told the outside."""
        self._closures = 0
        self._forwarder = Forwarder(self._settings, clock, self.leakage.terms)
        self._adopt()

    def _adopt(self) -> None:
        """Take over a new generation. The cache stays, unless what answers depend on has changed."""
        self._generation = self._judge.generation
        self._clients.clear()
        self._views.clear()
        self._blocks.clear()
        self._excesses.clear()
        before, settings = self._settings, self._judge.settings
        self._settings = settings
        if settings.rate_limit != before.rate_limit:
            self._limit = _limit_of(settings)
        self.leakage.use(settings.tunnelling)
        if settings.for_answers != before.for_answers:
            # Answers on their way come from the old upstreams: whoever waits for them gets them, nobody else does.
            self._forwarder.retire()
            self._retired = [one for one in (*self._retired, self._forwarder) if one.is_busy]
            self._forwarder = Forwarder(settings, self._clock, self.leakage.terms)

    # -- for listeners -----------------------------------------------------------------------------------------

    def burst(self) -> Callable[[str, bytes], Reply]:
        """Return the function that answers a datagram at once. It is good until the event loop goes on: neither the
        policy nor, as far as anybody could tell, the time changes before.

        It takes the client's address as the socket names it, and the datagram. It never raises: what goes wrong is
        answered SERVFAIL.
        """
        if self._judge.generation is not self._generation:
            self._adopt()
        if self._closures != self.leakage.closures:
            self._closures = self.leakage.closures
            self._clients.clear()  # another worker may have closed a zone to one of them
        self._now, self._date = self._clock(), self._wall()
        return self._datagram

    def answer_now(self, peer: str, data: bytes, *, stream: bool = False) -> Reply:
        """Answer a packet at once if that can be done without an upstream; see `burst`."""
        try:
            answer = self.burst()
            return self._message(peer, data) if stream else answer(peer, data)
        except Exception as error:
            return self._broken(peer, data, error)

    def _datagram(self, peer: str, data: bytes) -> Reply:
        try:
            known = self._clients.get(peer) or self._client(peer)
            if known.credit:
                known.credit -= 1
            elif self._limit is not None:
                excess = self._limit.check(known.limited, self._now, known.share)
                if excess is not None:
                    return self._over_limit(known, data, excess, stream=False)
                known.credit = known.share - 1
            found = self._find_hot(known.view + data[2:])
            if found is not None and (self._now < found.until or found.renew(self._now)):
                repeats = found.repeats
                if repeats is None or repeats.open:
                    found.used = True
                    if repeats is not None:
                        repeats.again(self._date)
                    tail = found.tail
                    return None if tail is None else data[:2] + tail
            return self._packet(known, data, stream=False)
        except Exception as error:
            return self._broken(peer, data, error)

    def _message(self, peer: str, data: bytes) -> Reply:
        known = self._clients.get(peer) or self._client(peer)
        if self._limit is not None:
            excess = self._limit.check("tcp " + known.limited, self._now)
            if excess is not None:
                return self._over_limit(known, data, excess, stream=True)
        return self._packet(known, data, stream=True)

    def _packet(self, known: _Known, data: bytes, *, stream: bool) -> Reply:
        """Look for an answer given before to the question in other letters; else read the packet."""
        name_end = data.find(0, HEADER)
        if name_end < 0 or len(data) > MAX_PACKET:
            return self._answer(known, data, b"", stream)
        key = hot_key(known.view, data, name_end)
        found = self._find_hot(key)
        if found is not None and (self._now < found.until or found.renew(self._now)):
            repeats = found.repeats
            if repeats is None or repeats.open:
                found.used = True
                if repeats is not None:
                    repeats.again(self._date)
                tail, end = found.tail, name_end + 5
                return None if tail is None else data[:2] + tail[: HEADER - 2] + data[HEADER:end] + tail[end - 2 :]
        return self._answer(known, data, key, stream)

    async def answer_later(self, miss: Miss) -> bytes | None:
        """Answer a query that `answer_now` could not. Never raises, unless cancelled."""
        client, query = miss.client, miss.query
        try:
            source = client.address.packed[: 4 if client.address.version == 4 else 8]  # as for the rate limit
            if self._per_client[source] >= MAX_PER_CLIENT:
                return self._refuse(miss, Flaw(Reason.RATE_LIMIT, "too many queries of this client are waiting"))
            if self._waiting >= MAX_WAITING:
                return self._refuse(miss, Flaw(Reason.RATE_LIMIT, "too many queries are waiting"))
            groups = self._judge.groups(client)
            leak = self.leakage.query(client.address, groups, query.name, query.qtype)
            if leak is not None and (found := self._leaked(miss, leak)) is not None:
                return found.reply
            if self._stays(query.name):
                kept = absent(query.name, query.name.rpartition(".")[2])
                return self._finish(client, query, kept, 0, _limit(query, miss.stream), miss.options)[0]
            self._waiting += 1
            self._per_client[source] += 1
            try:
                answer, stale = await self._forwarder.fetch(_key_of(query))
            finally:
                self._waiting -= 1
                self._per_client[source] -= 1
                if not self._per_client[source]:
                    del self._per_client[source]
            if self._judge.generation is not self._generation:
                self._adopt()
            leak = self.leakage.response(client.address, groups, query.name, query.qtype, answer)
            if leak is not None and (found := self._leaked(miss, leak)) is not None:
                return found.reply
            options = miss.options + (_stale_option(answer) if stale else b"")
            reply, _ = self._finish(client, query, answer, 0, _limit(query, miss.stream), options)
            return reply
        except UpstreamError as error:
            ede = _EDE_OF.get(error.failure, EDE_UNREACHABLE)
            return self._refuse(miss, Flaw(Reason.UPSTREAM_FAILURE, str(error)), ede)
        except Exception as error:
            _LOG.exception("a query failed inside the resolver")
            return self._refuse(miss, Flaw(Reason.INTERNAL_ERROR, type(error).__name__))

    def _leaked(self, miss: Miss, decision: Decision) -> "_Refused | None":
        """Record that a query or its answer would tell too much. Returns the refusal, unless it is only reported."""
        ident = self._judge.record(_request(miss), decision)
        if not decision.denied:
            return None
        self._close(miss.client)
        return _Refused(self._blocked(miss, decision, ident))

    def _blocked(self, miss: Miss, decision: Decision, ident: str) -> bytes | None:
        query = miss.query
        return self._block(query, decision).render(query.id.to_bytes(2, "big"), query.question, ident, miss.options)

    async def answer(self, peer: str, data: bytes, *, stream: bool = False) -> bytes | None:
        """Answer a packet, however long it takes."""
        reply = self.answer_now(peer, data, stream=stream)
        return await self.answer_later(reply) if isinstance(reply, Miss) else reply

    def _client(self, peer: str) -> _Known:
        address = parse_address(peer.partition("%")[0])
        if address is None:
            raise ValueError("a client without an address")
        client = Client(address=unmap(address))
        view = self._judge.view(client)
        if view not in self._views:
            # Never used again, so that what was kept for an earlier generation is never found again.
            self._views[view] = self._new_view()
        if len(self._clients) >= _CLIENTS_KEPT:
            self._clients.clear()
        source = client.address
        limited = str(source) if source.version == 4 else source.packed[:8].hex()
        share = self._limit.share if self._limit is not None and source.version == 4 else 1
        known = self._clients[peer] = _Known(client, self._views[view], limited, share)
        if self.leakage.closed_to(source):
            known.closed, known.view = True, self._new_view()
        return known

    def _new_view(self) -> bytes:
        return next(self._numbers).to_bytes(_PREFIX, "big")

    def _close(self, client: Client) -> None:
        """Ask from now on about everything that a client wants, since a zone has been closed to it."""
        if self.leakage.closed_to(client.address):
            key = client_key(client.address)
            for known in self._clients.values():
                if known.limited == key and not known.closed:
                    known.closed, known.view = True, self._new_view()

    def _over_limit(self, known: _Known, data: bytes, excess: Excess, *, stream: bool) -> Reply:
        """Turn a query away. The first of a window is recorded, and the others refer to that record.

        Over UDP the sender may be forged, so that others can use up a client's bucket. A good cookie proves that it
        is not, as TCP does, and counts in the same bucket as TCP. A cookie that is not good is answered BADCOOKIE
        with one that is (RFC 7873 sections 5.2.3, 5.2.4), who knows no cookies is told to come over TCP; after a
        moment neither is told anything.
        """
        query = None
        try:
            if stream or b"\0\x0a\0" in data:  # not read unless there may be a cookie in it
                query = read_query(data)
            cookie = cookie_in(data, query) if query is not None else b""
        except WireError as error:
            if stream:
                return flawed(data, error)
            cookie = b""
        address, now = known.client.address, self._clock()
        options = self._cookies.reply(cookie, address, now) if cookie else b""
        if stream and query is not None:
            decision, ident = self._note_excess(known, "tcp " + known.limited, excess)
            return self._block(query, decision).render(data[:2], query.question, ident, options)
        if excess is Excess.FIRST:
            self._note_excess(known, known.limited, excess)
        if cookie and self._limit is not None and self._cookies.is_valid(cookie, address, now):
            proven = self._limit.check("tcp " + known.limited, now)
            if proven is None:
                return self._answer(known, data, b"", stream)
            if proven is Excess.FIRST:
                self._note_excess(known, "tcp " + known.limited, proven)
        elif cookie and excess is not Excess.SILENCE:
            return flawed(data, WireError("no good cookie", Rcode.BADCOOKIE, query), options)
        return over_limit(data, options) if excess is not Excess.SILENCE else None

    def _note_excess(self, known: _Known, bucket: str, excess: Excess) -> tuple[Decision, str]:
        """Record that a bucket is empty, once in a window. Returns the decision and its id."""
        noted = self._excesses.get(bucket)
        if excess is not Excess.FIRST and noted is not None:
            return noted
        rate, burst = self._settings.rate_limit or (0, 0)
        flaw = Flaw(Reason.RATE_LIMIT, f"more than {rate:g} queries a second, and {burst} at once")
        noted = self._judge.judge(DnsQuery(client=known.client, name="", qtype=0, flaw=flaw))
        if len(self._excesses) >= _CLIENTS_KEPT:
            self._excesses.clear()
        self._excesses[bucket] = noted
        return noted

    def _answer(self, known: _Known, data: bytes, key: bytes, stream: bool) -> Reply:
        client = known.client
        try:
            query = read_query(data)
        except WireError as error:
            return self._flawed(client, data, error)
        if is_meta(query.qtype):
            unfit = WireError(f"type {query.qtype} is not for resolvers", Rcode.REFUSED, query)
            return self._flawed(client, data, unfit)
        now = self._now
        options = b""
        if query.edns is not None and query.edns.options:
            try:
                cookie = cookie_in(data, query)
            except WireError as error:
                return self._flawed(client, data, error)
            if cookie:
                options = self._cookies.reply(cookie, client.address, now)
        request = DnsQuery(client=client, name=query.name, qtype=query.qtype)
        decision, receipt = self._judge.judge_query(request)
        # The question as it stands in the key, in lower case; not if its name holds a zero octet, which the key takes
        # for its end. And a packet with a cookie or padding never comes again.
        question = key[_PREFIX + HEADER - 2 : _PREFIX + HEADER - 2 + len(query.question)]
        if question.find(0) != len(question) - 5 or (query.edns is not None and query.edns.options):
            key = b""
        if decision.denied:
            reply = self._block(query, decision).render(data[:2], query.question, receipt.id, options)
            if key and not decision.reported and receipt.repeats is not None:
                tail = None if reply is None else reply[2:HEADER] + question + reply[HEADER + len(question) :]
                self._hot.put(key, Hot(tail, math.inf, receipt.repeats))
            return reply
        if known.closed:
            key = b""
            leak = self.leakage.again(client.address, self._judge.groups(client), query.name)
            if leak is not None:
                return self._blocked(Miss(client, query, stream, options), leak, self._judge.record(request, leak))
        limit = udp_limit(query.edns)
        if not query.flags & RD:
            # Nobody is told what others have asked for, and nobody is asked: such a query is for servers that have
            # zones of their own (RFC 1034 section 4.3.1). What is denied is denied to it too, above.
            local = local_answer(query.name, query.qtype, self._settings.records)
            if local is None:
                unfit = WireError("recursion is not desired, and there is nothing else here", Rcode.REFUSED, query)
                return self._flawed(client, data, unfit)
            reply, _ = self._finish(client, query, local, 0, STREAM_SIZE if stream else limit, options)
            return reply
        found = self._forwarder.at_hand(_key_of(query), now)
        if found is None:
            return Miss(client, query, stream, options)
        answer, stored, fresh_until, stale = found
        if answer.metered:
            # Only until the hot table knows it: what was counted once is not counted again.
            miss, groups = Miss(client, query, stream, options), self._judge.groups(client)
            leak = self.leakage.response(client.address, groups, query.name, query.qtype, answer)
            if leak is not None and (refused := self._leaked(miss, leak)) is not None:
                return refused.reply
        if stale:
            options += _stale_option(answer)
        reply, plain = self._finish(
            client, query, answer, int(now - stored), STREAM_SIZE if stream else limit, options
        )
        if key and plain and now < fresh_until and not receipt.id and reply is not None and len(reply) <= limit:
            if reply[2] & 2:
                return reply  # cut short: whoever comes over TCP gets all of it
            head = head_of(query, answer) + question
            self._hot.put(key, HotAnswer(answer, stored, fresh_until, head, opt_of(query), now))
        return reply

    def _finish(
        self, client: Client, query: Query, answer: Answer, age: int, limit: int, options: bytes = b""
    ) -> tuple[bytes | None, bool]:
        """Decide on an answer and render it. Returns it, and whether nothing had to be recorded."""
        request = DnsAnswer(
            client=client,
            name=query.name,
            qtype=query.qtype,
            chain=answer.chain,
            addresses=answer.addresses,
            trusted=answer.trusted,
        )
        decision, ident = self._judge.judge(request)
        if decision.denied:
            block = self._block(query, decision)
            return block.render(query.id.to_bytes(2, "big"), query.question, ident, options), False
        if self._settings.record_allowed:
            self._judge.record(request, decision)
            ident = "recorded"
        return render(query, answer, age=age, limit=limit, options=options), not ident

    def _block(self, query: Query, decision: Decision, ede: int | None = None) -> Block:
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
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.clear()
            block = Block(query, decision, self._settings.block_answer, self._settings.block_ttl, ede=ede)
            self._blocks[key] = block
        return block

    def _refuse(self, miss: Miss, flaw: Flaw, ede: int | None = None) -> bytes | None:
        """Answer SERVFAIL for a cause of our own, and record it."""
        query = miss.query
        request = DnsQuery(client=miss.client, name=query.name, qtype=query.qtype, flaw=flaw)
        try:
            decision, ident = self._judge.judge(request)
            block = self._block(query, decision, ede)
            return block.render(query.id.to_bytes(2, "big"), query.question, ident, miss.options)
        except Exception:
            _LOG.exception("a failed query could not even be recorded")
            return servfail(query)

    def _flawed(self, client: Client, data: bytes, error: WireError) -> bytes | None:
        options = b""
        if error.rcode is not None and error.rcode != Rcode.BADVERS:  # that one is a negotiation
            reason = Reason.MALFORMED if error.rcode == Rcode.FORMERR else Reason.PROTOCOL
            name, qtype = (error.query.name, error.query.qtype) if error.query else ("", 0)
            request = DnsQuery(client=client, name=name, qtype=qtype, flaw=Flaw(reason, str(error)))
            options = why(*self._judge.judge(request))
        return flawed(data, error, options + self._cookie_back(client, data, error.query))

    def _cookie_back(self, client: Client, data: bytes, query: Query | None) -> bytes:
        """Return the option that answers a cookie, if there is one (RFC 7873 section 5.2: whatever the rcode)."""
        try:
            cookie = cookie_in(data, query) if query is not None else b""
        except WireError:
            return b""
        return self._cookies.reply(cookie, client.address, self._clock()) if cookie else b""

    def _broken(self, peer: str, data: bytes, error: Exception) -> bytes | None:
        """Fail closed: whatever went wrong, the answer is no."""
        _LOG.error("a query failed inside the resolver", exc_info=error)
        try:
            query = read_query(data)
            address = parse_address(peer.partition("%")[0])
            if address is None:
                return servfail(query)
            flaw = Flaw(Reason.INTERNAL_ERROR, type(error).__name__)
            client = Client(address=unmap(address))
            return self._refuse(Miss(client, query, True, self._cookie_back(client, data, query)), flaw)
        except WireError as flaw_found:
            return flawed(data, flaw_found)
        except Exception:
            _LOG.exception("and so did the answer to it")
            return None

    # -- for everybody -----------------------------------------------------------------------------------------

    async def lookup(
        self, host: str, client: Client | None = None, *, families: Iterable[int] = (4, 6)
    ) -> Resolution:
        """Return the addresses of a name in normal form, for a caller that the policy has already let through. The
        name is accounted for as one that the client has told the outside; without a client, it is one of our own.

        Raises:
            ResolutionError: there is none, it could not be found out, or the client told the zone too much.
        """
        if self._judge.generation is not self._generation:
            self._adopt()
        families = tuple(families)
        if client is not None:
            self._account_for(host, client, families)
        return await self._forwarder.lookup(host, families=families)

    def _account_for(self, host: str, client: Client, families: tuple[int, ...]) -> None:
        groups, now = self._judge.groups(client), self._clock()
        leak = self.leakage.again(client.address, groups, host)
        for qtype in (Type.A if family == 4 else Type.AAAA for family in families):
            if leak is None and self._forwarder.at_hand(Key(host, qtype, False, False), now) is None:
                leak = self.leakage.query(client.address, groups, host, qtype)
                if leak is not None and not leak.denied:
                    self._judge.record(DnsQuery(client=client, name=host, qtype=qtype), leak)
                    leak = None
        if leak is not None:
            self._close(client)
            raise LeakError(leak)
        if self._stays(host):
            raise ResolutionError(f"{host} does not exist")

    def _stays(self, name: str) -> bool:
        """Say whether nobody is asked for a name."""
        settings = self._settings
        return self.leakage.keeps(name) and name not in settings.records and zone_of(name, settings.forward) is None

    async def close(self) -> None:
        """Give up what is on its way."""
        for forwarder in (self._forwarder, *self._retired):
            await forwarder.close()


def _request(miss: Miss) -> DnsQuery:
    return DnsQuery(client=miss.client, name=miss.query.name, qtype=miss.query.qtype)


def _stale_option(answer: Answer) -> bytes:
    return ede_option(EDE_STALE_ABSENCE if answer.rcode == Rcode.NXDOMAIN else EDE_STALE, b"")


def _limit_of(settings: Settings) -> RateLimit | None:
    return RateLimit(*settings.rate_limit) if settings.rate_limit else None


def _key_of(query: Query) -> Key:
    return Key(query.name, query.qtype, query.edns is not None and query.edns.dnssec_ok, bool(query.flags & CD))


def _limit(query: Query, stream: bool) -> int:
    return STREAM_SIZE if stream else udp_limit(query.edns)
