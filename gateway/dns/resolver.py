"""The resolving core: from a question to an answer that this client may have.

The order is the guarantee: the client's query is decided first, then local data, cache and upstreams are asked, then
the answer is decided for this client, however it came about. Listeners use `answer_now` and `answer_later`; the proxy
uses `lookup`, which shares records, forward zones, cache and upstreams but no DNS policy: it has its own stages.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gateway.addresses import IPAddress, parse_address, unmap
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
)
from gateway.dns.bailiwick import Trust, select
from gateway.dns.cache import RECHECK, Cache, Key
from gateway.dns.cookies import Cookies, cookie_in
from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.hot import MAX_PACKET, HotAnswer, HotAnswers, HotBlock, hot_key
from gateway.dns.judge import Judge, RuntimeJudge
from gateway.dns.local import is_meta, local_answer, special_answer, zone_of
from gateway.dns.message import (
    STREAM_SIZE,
    Answer,
    encode_name,
    head_of,
    make_answer,
    opt_of,
    render,
    soa_record,
    udp_limit,
    with_ttl,
)
from gateway.dns.ratelimit import Excess, RateLimit
from gateway.dns.records import TTL, aliases
from gateway.dns.upstream import Pool, Question
from gateway.dns.wire import CD, HEADER, RD, Query, Rcode, Response, Type, WireError, name_text, read_query
from gateway.request import Client, DnsAnswer, DnsQuery, Flaw

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)

MAX_OUTSTANDING = 4096
"""Different questions on their way to upstreams; each holds a socket."""
MAX_PER_CLIENT = 512
"""Queries of one client that wait for an upstream."""
MAX_PREFETCH = 256
"""Queries on their way beyond which no answer is renewed before its time."""
STALE_TTL = 30
"""What an expired answer says, in seconds (RFC 8767 section 4)."""
_CLIENTS_KEPT = 8192
_BLOCKS_KEPT = 4096
_FAILURE = 1.0
"""Seconds that a failure of all upstreams is kept for a question, at first; doubled each time (RFC 9520)."""
_LONGEST_FAILURE = 30.0
_FAILURES_KEPT = 4096

_EDE_OF: dict[Failure, int] = {Failure.NETWORK: EDE_NETWORK, Failure.MALFORMED: EDE_INVALID}


class ResolutionError(Exception):
    """A name has no address that could be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name stands for."""

    addresses: tuple[IPAddress, ...]
    """IPv4 before IPv6, in the order of the answer."""
    chain: tuple[str, ...] = ()
    """Names met on the way (CNAME)."""
    trusted: bool = False
    """From the configuration or a forward zone: private addresses are expected."""


class Miss(NamedTuple):
    """A query that may be answered, once an upstream has been asked."""

    client: Client
    query: Query
    stream: bool
    options: bytes = b""
    """EDNS options that the answer carries."""


@dataclass(slots=True, eq=False)
class _Wanted:
    """A question on its way to upstreams, with all who wait for the answer."""

    key: Key
    cache: Cache
    waiters: list[asyncio.Future[Answer]] = field(default_factory=list)
    result: Answer | Exception | None = None


class _Failed(NamedTuple):
    error: UpstreamError
    wait: float
    until: float


class _Known(NamedTuple):
    client: Client
    view: bytes
    limited: str
    """Whose rate limit counts: an IPv6 client may use all addresses of its network."""


class _Found(NamedTuple):
    """An answer at hand."""

    answer: Answer
    stored: float
    fresh_until: float
    """Until when it may be given without a look at the cache."""
    stale: bool = False


class Resolver:
    """Answers clients of the resolver, and resolves names for the proxy."""

    @classmethod
    def from_runtime(cls, runtime: "Runtime") -> "Resolver":
        """Return a resolving core for a process. It follows the runtime from state to state by itself."""
        return cls(RuntimeJudge(runtime))

    def __init__(self, judge: Judge, clock: Callable[[], float] = time.monotonic) -> None:
        self._judge = judge
        self._clock = clock
        self._outstanding: dict[Key, _Wanted] = {}
        self._per_client: Counter[bytes] = Counter()  # by packed address, which is hashed far quicker
        self._clients: dict[str, _Known] = {}
        self._views: dict[object, bytes] = {}
        self._blocks: dict[Hashable, Block] = {}
        self._hot = HotAnswers()
        self._cookies = Cookies(clock())
        self._adopt()

    def _adopt(self) -> None:
        """Take over a new generation. The cache stays, unless the resolver's own configuration has changed."""
        self._generation = self._judge.generation
        self._clients.clear()
        self._views.clear()
        self._blocks.clear()
        settings = self._judge.settings
        if getattr(self, "_settings", None) == settings:
            return
        self._settings = settings
        self._cache = Cache(settings.cache_entries, stale=settings.serve_stale)
        self._limit = RateLimit(*settings.rate_limit) if settings.rate_limit else None
        self._pool = Pool(settings.upstreams, settings.strategy, settings.timing)
        self._forward = {
            zone: Pool(servers, settings.strategy, settings.timing) for zone, servers in settings.forward.items()
        }
        # Answers on their way come from the old upstreams: whoever waits for them gets them, nobody else does.
        self._outstanding = {}
        self._failures: dict[Key, _Failed] = {}

    # -- for listeners -----------------------------------------------------------------------------------------

    def answer_now(self, peer: str, data: bytes, *, stream: bool = False) -> bytes | Miss | None:
        """Answer a packet at once if that can be done without an upstream; None means silence.

        `peer` is the client's address as the socket names it. Never raises: what goes wrong is answered SERVFAIL.
        """
        try:
            if self._judge.generation is not self._generation:
                self._adopt()
            known = self._clients.get(peer) or self._client(peer)
            if self._limit is not None:
                excess = self._limit.check("tcp " + known.limited if stream else known.limited, self._clock())
                if excess is not None:
                    return self._over_limit(known.client, data, excess, stream=stream)
            name_end = data.find(0, HEADER)
            if not stream and name_end > 0 and len(data) <= MAX_PACKET:
                found = self._hot.get(hot_key(known.view, data, name_end))
                if found is not None and found.generation is self._generation:
                    end = name_end + 5
                    if isinstance(found, HotAnswer):
                        now = self._clock()
                        if now < found.expires:
                            return found.render(data, end, now)
                    else:
                        request = DnsQuery(client=known.client, name=found.name, qtype=found.qtype)
                        ident = self._judge.record(request, found.decision)
                        return found.block.render(data[:2], data[HEADER:end], ident)
            return self._answer(known, data, name_end, stream)
        except Exception as error:
            return self._broken(peer, data, error)

    async def answer_later(self, miss: Miss) -> bytes | None:
        """Answer a query that `answer_now` could not. Never raises, unless cancelled."""
        client, query = miss.client, miss.query
        try:
            source = client.address.packed
            if self._per_client[source] >= MAX_PER_CLIENT:
                return self._refuse(miss, Flaw(Reason.RATE_LIMIT, "too many queries of this client are waiting"))
            self._per_client[source] += 1
            try:
                answer, stale = await self._fetch_or_stale(_key_of(query))
            finally:
                self._per_client[source] -= 1
                if not self._per_client[source]:
                    del self._per_client[source]
            if self._judge.generation is not self._generation:
                self._adopt()
            options = miss.options + (_stale_option(answer) if stale else b"")
            reply, _ = self._finish(client, query, answer, 0, _limit(query, miss.stream), options)
            return reply
        except UpstreamError as error:
            ede = _EDE_OF.get(error.failure, EDE_UNREACHABLE)
            return self._refuse(miss, Flaw(Reason.UPSTREAM_FAILURE, str(error)), ede)
        except Exception as error:
            _LOG.exception("a query failed inside the resolver")
            return self._refuse(miss, Flaw(Reason.INTERNAL_ERROR, type(error).__name__))

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
            self._views[view] = len(self._views).to_bytes(4, "big")
        if len(self._clients) >= _CLIENTS_KEPT:
            self._clients.clear()
        source = client.address
        limited = str(source) if source.version == 4 else source.packed[:8].hex()
        known = self._clients[peer] = _Known(client, self._views[view], limited)
        return known

    def _over_limit(self, client: Client, data: bytes, excess: Excess, *, stream: bool) -> bytes | None:
        """Turn a query away unread. The first of a window is recorded."""
        if excess is Excess.FIRST:
            rate, burst = self._settings.rate_limit or (0, 0)
            flaw = Flaw(Reason.RATE_LIMIT, f"more than {rate:g} queries a second, and {burst} at once")
            self._judge.judge(DnsQuery(client=client, name="", qtype=0, flaw=flaw))
        if not stream:
            return over_limit(data) if excess is not Excess.SILENCE else None
        try:
            return servfail(read_query(data))
        except WireError as error:
            return flawed(data, error)

    def _answer(self, known: _Known, data: bytes, name_end: int, stream: bool) -> bytes | Miss | None:
        client = known.client
        try:
            query = read_query(data)
        except WireError as error:
            return self._flawed(client, data, error)
        if is_meta(query.qtype):
            unfit = WireError(f"type {query.qtype} is not for resolvers", Rcode.REFUSED, query)
            return self._flawed(client, data, unfit)
        now = self._clock()
        options = b""
        if query.edns is not None and query.edns.options:
            try:
                cookie = cookie_in(data, query)
            except WireError as error:
                return self._flawed(client, data, error)
            if cookie:
                options = self._cookies.reply(cookie, client.address, now)
        request = DnsQuery(client=client, name=query.name, qtype=query.qtype)
        decision, ident = self._judge.judge(request)
        keep = (
            not stream
            and len(data) <= MAX_PACKET
            and name_end + 5 == HEADER + len(query.question)
            and not (query.edns and query.edns.options)  # a cookie or padding: this packet never comes again
        )
        if decision.denied:
            block = self._block(query, decision)
            if keep and not decision.reported:
                entry = HotBlock(self._generation, query.name, query.qtype, decision, block)
                self._hot.put(hot_key(known.view, data, name_end), entry)
            return block.render(data[:2], query.question, ident, options)
        if not query.flags & RD:
            # Nobody is told what others have asked for, and nobody is asked: such a query is for servers that have
            # zones of their own (RFC 1034 section 4.3.1). What is denied is denied to it too, above.
            local = local_answer(query.name, query.qtype, self._settings.records)
            if local is None:
                unfit = WireError("recursion is not desired, and there is nothing else here", Rcode.REFUSED, query)
                return self._flawed(client, data, unfit)
            reply, _ = self._finish(client, query, local, 0, _limit(query, stream), options)
            return reply
        found = self._at_hand(_key_of(query), now)
        if found is None:
            return Miss(client, query, stream, options)
        answer, stored, fresh_until, stale = found
        if stale:
            options += _stale_option(answer)
        reply, plain = self._finish(client, query, answer, int(now - stored), _limit(query, stream), options)
        if keep and plain and now < fresh_until and not ident and reply is not None and not reply[2] & 2:
            self._hot.put(
                hot_key(known.view, data, name_end),
                HotAnswer(self._generation, answer, stored, fresh_until, head_of(query, answer), opt_of(query)),
            )
        return reply

    def _at_hand(self, key: Key, now: float) -> _Found | None:
        """Return the answer from local data or the cache."""
        local = local_answer(key.name, key.qtype, self._settings.records)
        if local is not None:
            return _Found(local, now, now + local.ttl)
        entry = self._cache.get(key, now)
        if entry is not None:
            if not self._settings.prefetch:
                return _Found(entry.answer, entry.stored, entry.expires)
            if entry.wants_renewal(now) and len(self._outstanding) < MAX_PREFETCH:
                entry.renewed = True
                self._begin(key)
            return _Found(entry.answer, entry.stored, entry.ageing)
        if zone_of(key.name, self._forward) is None:
            local = special_answer(key.name, key.qtype)
            if local is not None:
                return _Found(local, now, now + local.ttl)
        stale = self._cache.get_stale(key, now)
        if stale is not None and now < stale.recheck:
            return _Found(with_ttl(stale.answer, STALE_TTL), now, now, stale=True)
        return None

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
        if error.rcode is not None and error.rcode != Rcode.BADVERS:  # that one is a negotiation
            reason = Reason.MALFORMED if error.rcode == Rcode.FORMERR else Reason.PROTOCOL
            name, qtype = (error.query.name, error.query.qtype) if error.query else ("", 0)
            self._judge.judge(DnsQuery(client=client, name=name, qtype=qtype, flaw=Flaw(reason, str(error))))
        return flawed(data, error)

    def _broken(self, peer: str, data: bytes, error: Exception) -> bytes | None:
        """Fail closed: whatever went wrong, the answer is no."""
        _LOG.error("a query failed inside the resolver", exc_info=error)
        try:
            query = read_query(data)
            address = parse_address(peer.partition("%")[0])
            if address is None:
                return servfail(query)
            flaw = Flaw(Reason.INTERNAL_ERROR, type(error).__name__)
            return self._refuse(Miss(Client(address=unmap(address)), query, True), flaw)
        except WireError as flaw_found:
            return flawed(data, flaw_found)
        except Exception:
            _LOG.exception("and so did the answer to it")
            return None

    # -- for everybody -----------------------------------------------------------------------------------------

    async def lookup(self, host: str, *, families: Iterable[int] = (4, 6)) -> Resolution:
        """Return the addresses of a name in normal form, for a caller that the policy has already let through.

        Raises:
            ResolutionError: there is none, or it could not be found out.
        """
        if self._judge.generation is not self._generation:
            self._adopt()
        types = [Type.A if family == 4 else Type.AAAA for family in families]
        found = await asyncio.gather(*(self._find(host, qtype) for qtype in types), return_exceptions=True)
        answers: list[Answer] = []
        failure: BaseException | None = None
        for result in found:
            if isinstance(result, Answer):
                answers.append(result)
            else:
                failure = failure or result
        addresses = tuple(dict.fromkeys(address for answer in answers for address in answer.addresses))
        if addresses:
            chain = tuple(dict.fromkeys(name for answer in answers for name in answer.chain))
            return Resolution(addresses, chain, all(answer.trusted for answer in answers))
        if failure is not None:
            if not isinstance(failure, UpstreamError | ResolutionError):
                raise failure
            raise ResolutionError(str(failure)) from failure
        if any(answer.rcode == Rcode.NXDOMAIN for answer in answers):
            raise ResolutionError(f"{host} does not exist")
        raise ResolutionError(f"{host} has no address")

    async def _find(self, host: str, qtype: int) -> Answer:
        key = Key(host, qtype, False, False)
        found = self._at_hand(key, self._clock())
        if found is not None:
            return found.answer
        # A local name leads on by a CNAME, or it would have been found.
        if "." not in host and host not in self._settings.records and zone_of(host, self._forward) is None:
            raise ResolutionError(f"{host} is a single label, and there is no search list")
        answer, _ = await self._fetch_or_stale(key)
        return answer

    async def _fetch_or_stale(self, key: Key) -> tuple[Answer, bool]:
        """Ask an upstream; if none answers, or not soon enough, an expired answer has to do (RFC 8767).

        Raises:
            UpstreamError: there is no usable answer, and no expired one.
        """
        stale = self._cache.get_stale(key, self._clock())
        if stale is None:
            return await self._fetch(key), False
        try:
            async with asyncio.timeout(self._settings.timing.stale):
                return await self._fetch(key), False
        except (TimeoutError, UpstreamError):
            # Who has waited for it may go on to wait; who comes later is served at once for a while.
            now = self._clock()
            stale.recheck = now + RECHECK
            return with_ttl(stale.answer, STALE_TTL), True

    async def _fetch(self, key: Key) -> Answer:
        """Ask an upstream, together with everybody else who has the same question.

        Raises:
            UpstreamError: there is no usable answer.
        """
        failed = self._failures.get(key)
        if failed is not None and self._clock() < failed.until:
            raise UpstreamError(failed.error.failure, f"{failed.error} (moments ago)")
        wanted = self._begin(key)
        if wanted.result is None:
            waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            wanted.waiters.append(waiter)
            return await waiter
        if isinstance(wanted.result, Answer):
            return wanted.result
        raise wanted.result

    def _begin(self, key: Key) -> "_Wanted":
        wanted = self._outstanding.get(key)
        if wanted is None:
            if len(self._outstanding) >= MAX_OUTSTANDING:
                raise UpstreamError(Failure.NONE_LEFT, "too many queries are waiting for upstreams")
            wanted = self._outstanding[key] = _Wanted(key, self._cache)
            try:
                self._ask(wanted)
            except Exception as error:
                self._deliver(wanted, error)
        return wanted

    def _ask(self, wanted: "_Wanted") -> None:
        key, settings = wanted.key, self._settings
        chain, end = aliases(key.name, key.qtype, settings.records)
        zone = zone_of(end, self._forward)
        if chain and zone is None and special_answer(end, key.qtype) is not None:
            soa = soa_record(encode_name(end), TTL)
            names = tuple(name_text(record.rdata) for record in chain)
            answer = make_answer(chain[0].owner, chain, [soa], rcode=Rcode.NXDOMAIN, ttl=TTL, chain=names)
            self._deliver(wanted, answer)
            return
        name = encode_name(end)
        trust = Trust(zone is not None, settings.trust_ad, settings.strip_ech)

        def done(result: Response | UpstreamError) -> None:
            if not isinstance(result, Response):
                self._deliver(wanted, result)
                return
            try:
                answer = select(result, name, key.qtype, settings.limits, trust, aliases=chain)
                wanted.cache.put(key, answer, self._clock())
            except WireError as error:
                self._deliver(wanted, UpstreamError(Failure.MALFORMED, f"the answer is malformed: {error}"))
            except Exception as error:
                self._deliver(wanted, error)
            else:
                self._deliver(wanted, answer)

        question = Question(name, key.qtype, key.dnssec_ok, key.checking_disabled)
        (self._pool if zone is None else zone).begin(question, done)

    def _deliver(self, wanted: "_Wanted", result: Answer | Exception) -> None:
        """Give the outcome to all who wait; some may have gone away."""
        key = wanted.key
        wanted.result = result
        if self._outstanding.get(key) is wanted:
            del self._outstanding[key]
            if isinstance(result, Answer):
                if self._failures:
                    self._failures.pop(key, None)
            elif isinstance(result, UpstreamError) and result.failure is not Failure.NONE_LEFT:
                self._note_failure(key, result)
        for waiter in wanted.waiters:
            if waiter.done():
                continue
            if isinstance(result, Answer):
                waiter.set_result(result)
            else:
                waiter.set_exception(result)

    def _note_failure(self, key: Key, error: UpstreamError) -> None:
        """Keep a failure for a while, longer each time, so that nobody's retries hammer the upstreams (RFC 9520)."""
        before = self._failures.get(key)
        wait = min(before.wait * 2, _LONGEST_FAILURE) if before else _FAILURE
        if before is None and len(self._failures) >= _FAILURES_KEPT:
            del self._failures[next(iter(self._failures))]
        self._failures[key] = _Failed(error, wait, self._clock() + wait)

    async def close(self) -> None:
        """Give up what is on its way."""
        for wanted in self._outstanding.values():
            for waiter in wanted.waiters:
                waiter.cancel()
        self._outstanding.clear()
        for pool in (self._pool, *self._forward.values()):
            await pool.close()


def _stale_option(answer: Answer) -> bytes:
    return ede_option(EDE_STALE_ABSENCE if answer.rcode == Rcode.NXDOMAIN else EDE_STALE, b"")


def _key_of(query: Query) -> Key:
    return Key(query.name, query.qtype, query.edns is not None and query.edns.dnssec_ok, bool(query.flags & CD))


def _limit(query: Query, stream: bool) -> int:
    return STREAM_SIZE if stream else udp_limit(query.edns)
