"""The resolving core: from a question to an answer that this client may have.

The order is the guarantee: the client's query is decided first, then local data, cache and upstreams are asked, then
the answer is decided for this client, however it came about. Listeners use `answer_now` and `answer_later`; the proxy
uses `lookup`, which shares records, forward zones, cache and upstreams but no DNS policy: it has its own stages.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gateway.addresses import IPAddress, parse_address, unmap
from gateway.decision import Decision, Reason
from gateway.dns.answers import EDE_INVALID, EDE_NETWORK, EDE_UNREACHABLE, Block, flawed, servfail
from gateway.dns.bailiwick import select
from gateway.dns.cache import Cache, Key
from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.hot import MAX_PACKET, HotAnswer, HotAnswers, HotBlock, hot_key
from gateway.dns.judge import Judge, RuntimeJudge
from gateway.dns.local import is_meta, local_answer, special_answer, zone_of
from gateway.dns.message import STREAM_SIZE, Answer, encode_name, head_of, opt_of, render, udp_limit
from gateway.dns.upstream import Pool, Question
from gateway.dns.wire import CD, HEADER, Query, Rcode, Type, WireError, read_query
from gateway.request import Client, DnsAnswer, DnsQuery, Flaw

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)

MAX_OUTSTANDING = 4096
"""Different questions on their way to upstreams; each holds a socket."""
MAX_PER_CLIENT = 512
"""Queries of one client that wait for an upstream."""
_CLIENTS_KEPT = 8192

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


class _Known(NamedTuple):
    client: Client
    view: bytes


class Resolver:
    """Answers clients of the resolver, and resolves names for the proxy."""

    @classmethod
    def from_runtime(cls, runtime: "Runtime") -> "Resolver":
        """Return a resolving core for a process. It follows the runtime from state to state by itself."""
        return cls(RuntimeJudge(runtime))

    def __init__(self, judge: Judge, clock: Callable[[], float] = time.monotonic) -> None:
        self._judge = judge
        self._clock = clock
        self._outstanding: dict[Key, asyncio.Task[Answer]] = {}
        self._per_client: Counter[IPAddress] = Counter()
        self._clients: dict[str, _Known] = {}
        self._views: dict[object, bytes] = {}
        self._hot = HotAnswers()
        self._adopt()

    def _adopt(self) -> None:
        """Take over a new generation. The cache stays, unless the resolver's own configuration has changed."""
        self._generation = self._judge.generation
        self._clients.clear()
        self._views.clear()
        settings = self._judge.settings
        if getattr(self, "_settings", None) == settings:
            return
        self._settings = settings
        self._cache = Cache(settings.cache_entries)
        self._pool = Pool(settings.upstreams, settings.strategy, settings.timing)
        self._forward = {
            zone: Pool(servers, settings.strategy, settings.timing) for zone, servers in settings.forward.items()
        }
        # Answers on their way come from the old upstreams: whoever waits for them gets them, nobody else does.
        self._outstanding = {}

    # -- for listeners -----------------------------------------------------------------------------------------

    def answer_now(self, peer: str, data: bytes, *, stream: bool = False) -> bytes | Miss | None:
        """Answer a packet at once if that can be done without an upstream; None means silence.

        `peer` is the client's address as the socket names it. Never raises: what goes wrong is answered SERVFAIL.
        """
        try:
            if self._judge.generation is not self._generation:
                self._adopt()
            known = self._clients.get(peer) or self._client(peer)
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
        client, query, _ = miss
        try:
            if self._per_client[client.address] >= MAX_PER_CLIENT:
                return self._refuse(miss, Flaw(Reason.RATE_LIMIT, "too many queries of this client are waiting"))
            self._per_client[client.address] += 1
            try:
                answer = await self._fetch(_key_of(query))
            finally:
                self._per_client[client.address] -= 1
                if not self._per_client[client.address]:
                    del self._per_client[client.address]
            if self._judge.generation is not self._generation:
                self._adopt()
            reply, _ = self._finish(client, query, answer, 0, _limit(query, miss.stream))
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
        known = self._clients[peer] = _Known(client, self._views[view])
        return known

    def _answer(self, known: _Known, data: bytes, name_end: int, stream: bool) -> bytes | Miss | None:
        client = known.client
        try:
            query = read_query(data)
        except WireError as error:
            return self._flawed(client, data, error)
        if is_meta(query.qtype):
            unfit = WireError(f"type {query.qtype} is not for resolvers", Rcode.REFUSED, query)
            return self._flawed(client, data, unfit)
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
            return block.render(data[:2], query.question, ident)
        now = self._clock()
        answer, stored = self._at_hand(query, now)
        if answer is None:
            return Miss(client, query, stream)
        limit = _limit(query, stream)
        reply, plain = self._finish(client, query, answer, int(now - stored), limit)
        if keep and plain and not ident and reply is not None and not reply[2] & 2:
            self._hot.put(
                hot_key(known.view, data, name_end),
                HotAnswer(
                    self._generation, answer, stored, stored + answer.ttl, head_of(query, answer), opt_of(query)
                ),
            )
        return reply

    def _at_hand(self, query: Query, now: float) -> tuple[Answer | None, float]:
        """Return the answer from local data or the cache, and when it was put there."""
        local = local_answer(query.name, query.qtype, self._settings.records)
        if local is None:
            entry = self._cache.get(_key_of(query), now)
            if entry is not None:
                return entry.answer, entry.stored
            if zone_of(query.name, self._forward) is None:
                local = special_answer(query.name)
        return local, now

    def _finish(
        self, client: Client, query: Query, answer: Answer, age: int, limit: int
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
            return self._block(query, decision).render(query.id.to_bytes(2, "big"), query.question, ident), False
        if self._settings.record_allowed:
            self._judge.record(request, decision)
            ident = "recorded"
        return render(query, answer, age=age, limit=limit), not ident

    def _block(self, query: Query, decision: Decision, ede: int | None = None) -> Block:
        return Block(query, decision, self._settings.block_answer, self._settings.block_ttl, ede=ede)

    def _refuse(self, miss: Miss, flaw: Flaw, ede: int | None = None) -> bytes | None:
        """Answer SERVFAIL for a cause of our own, and record it."""
        query = miss.query
        request = DnsQuery(client=miss.client, name=query.name, qtype=query.qtype, flaw=flaw)
        try:
            decision, ident = self._judge.judge(request)
            return self._block(query, decision, ede).render(query.id.to_bytes(2, "big"), query.question, ident)
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
        answer = local_answer(host, qtype, self._settings.records)
        if answer is not None:
            return answer
        key = Key(host, qtype, False, False)
        entry = self._cache.get(key, self._clock())
        if entry is not None:
            return entry.answer
        if zone_of(host, self._forward) is None:
            if "." not in host:
                raise ResolutionError(f"{host} is a single label, and there is no search list")
            answer = special_answer(host)
        return answer or await self._fetch(key)

    async def _fetch(self, key: Key) -> Answer:
        """Ask an upstream, together with everybody else who has the same question.

        Raises:
            UpstreamError: there is no usable answer.
        """
        task = self._outstanding.get(key)
        if task is None:
            if len(self._outstanding) >= MAX_OUTSTANDING:
                raise UpstreamError(Failure.NONE_LEFT, "too many queries are waiting for upstreams")
            # Not a child of the first client's task: others wait for it too, and that one may go away.
            task = asyncio.get_running_loop().create_task(self._ask(key, self._cache))
            self._outstanding[key] = task
            task.add_done_callback(lambda done: self._arrived(key, done))
        return await asyncio.shield(task)

    def _arrived(self, key: Key, task: asyncio.Task[Answer]) -> None:
        if self._outstanding.get(key) is task:
            del self._outstanding[key]
        if not task.cancelled():
            task.exception()  # if all who waited are gone, nobody else looks at it

    async def _ask(self, key: Key, cache: Cache) -> Answer:
        zone = zone_of(key.name, self._forward)
        name = encode_name(key.name)
        question = Question(name, key.qtype, key.dnssec_ok, key.checking_disabled)
        response = await (self._pool if zone is None else zone).ask(question)
        try:
            answer = select(response, name, key.qtype, self._settings.limits, trusted=zone is not None)
        except WireError as error:
            raise UpstreamError(Failure.MALFORMED, f"the answer is malformed: {error}") from None
        cache.put(key, answer, self._clock())
        return answer

    async def close(self) -> None:
        """Give up what is on its way."""
        tasks = list(self._outstanding.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _key_of(query: Query) -> Key:
    return Key(query.name, query.qtype, query.edns is not None and query.edns.dnssec_ok, bool(query.flags & CD))


def _limit(query: Query, stream: bool) -> int:
    return STREAM_SIZE if stream else udp_limit(query.edns)
