"""The resolving core: from a question to an answer that this client may have.

The order is the guarantee: the client's query is decided first, then the forwarder looks into local data, cache and
upstreams, then the answer is decided for this client, however it came about. Listeners use `answer_now` and
`begin` (or `answer_later`); the proxy uses `lookup`, which shares the forwarder but no DNS policy: it has its own
stages.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway.addresses import IPAddress, client_key, parse_address, unmap
from gateway.decision import Decision, Reason
from gateway.dns.answers import (
    flawed,
    over_limit,
    why,
)
from gateway.dns.cache import Key
from gateway.dns.cookies import Cookies, cookie_in
from gateway.dns.forwarder import Forwarder, Found, Resolution, ResolutionError
from gateway.dns.hot import MAX_PACKET, Aging, HotAnswers, View, as_of, hot_key, is_good
from gateway.dns.hot import Block as HotBlock
from gateway.dns.judge import Judge, RuntimeJudge
from gateway.dns.leakage import Leakage
from gateway.dns.local import is_meta, local_answer
from gateway.dns.message import STREAM_SIZE, head_of, opt_of, udp_limit
from gateway.dns.misses import Done, Misses, key_of, stale_option
from gateway.dns.ratelimit import Excess, RateLimit
from gateway.dns.replies import Known, Miss, Replies
from gateway.dns.settings import Settings
from gateway.dns.tally import Source, Tally
from gateway.dns.transfer import Transfers
from gateway.dns.wire import HEADER, RD, Query, Rcode, Type, WireError, read_query
from gateway.memo import Memo
from gateway.request import Client, DnsQuery, Flaw

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)

_make = tuple.__new__
_CLIENTS_KEPT = 8192
_RESOLVED = 1024  # names that were resolved for clients moments ago,
_MOMENTS = 1.0  # seconds: no longer, so that the cache knows which answers are wanted
_BOTH = 4, 6  # families of addresses


class LeakError(ResolutionError):
    """A name that would tell its zone too much was not looked up."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.detail)
        self.reason = decision.reason


type Reply = bytes | Miss | None
"""The answer to a packet; what has to be waited for; or silence."""

type Peer = str | bytes
"""A client's address: as a socket names it, or packed."""


class Burst(NamedTuple):
    """What answers the datagrams of one wake-up. It is good until the event loop goes on: neither the policy nor, as
    far as anybody could tell, the time changes before.
    """

    known: Callable[[bytes], Known | None]
    """Who asks, by packed address."""
    hot: HotAnswers
    """Makes anew what is found in `Known.view`, by the octets after the id. A denial found there may be somebody
    else's: `Block.own` tells."""
    pays: Callable[[Known], bool]
    """Takes credit for a client that has none from its rate limit. If there is none to be had, `answer` tells it."""
    now: float
    date: float
    answer: Callable[[Peer, bytes, bool], Reply]
    """Answers whatever is not found so; told that nothing at all was found, it does not look for the same again. It
    never raises: what goes wrong is answered SERVFAIL."""


class Standing(NamedTuple):
    """What a resolving core holds at a moment."""

    cached: int
    cached_octets: int
    hot: int
    hot_octets: int
    waiting: int
    """Queries that wait for an upstream."""
    clients: int
    """Of which the detector of tunnels remembers something."""
    zones: int
    closures: int
    """Changes when any worker has closed a zone to a client."""
    resting: tuple[str, ...]
    """Upstreams that are passed over."""


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
        self._transfers: Transfers | None = None
        self._zones: Transfers | None = None
        self._clock = clock
        self._wall = wall
        self._now = self._date = 0.0
        self._clients = Memo[Peer, Known](_CLIENTS_KEPT)
        self._find_known = self._clients.get
        self._views: dict[object, View] = {}
        self._hot = HotAnswers()
        self._cookies = Cookies(secret or secrets.token_bytes(32))
        self._awaited: set[asyncio.Future[bytes | None]] = set()
        self._excesses = Memo[str, tuple[Decision, str]](_CLIENTS_KEPT)
        self._resolved = Memo[tuple[Client | None, str, tuple[int, ...]], tuple[float, Resolution]](_RESOLVED)
        self._retired: list[Forwarder] = []
        self._settings = judge.settings
        self.tally = Tally()
        """What was asked and answered."""
        self._limit = _limit_of(self._settings)
        self.leakage = Leakage(self._settings.tunnelling, wall, state_dir)
        """What clients told the outside."""
        self._closures = 0
        self._forwarder = Forwarder(self._settings, clock, self.leakage.terms, self.tally)
        self._replies = Replies(judge, self._settings, self.tally)
        self._misses = Misses(judge, self.leakage, self._replies, self._in_force, self._close)
        self._adopt()

    def _in_force(self) -> Forwarder:
        if self._judge.generation is not self._generation:
            self._adopt()
        return self._forwarder

    def _adopt(self) -> None:
        """Take over a new generation. The cache stays, unless what answers depend on has changed."""
        self._generation = self._judge.generation
        self._clients.clear()
        self._views.clear()
        self._excesses.clear()
        self._resolved.clear()
        before, settings = self._settings, self._judge.settings
        self._settings = settings
        self._zones = self._transfers if self._transfers is not None and self._transfers.has_zones else None
        self._replies.use(settings)
        if settings.rate_limit != before.rate_limit:
            self._limit = _limit_of(settings)
        self.leakage.use(settings.tunnelling)
        if settings.for_answers != before.for_answers:
            # Answers on their way come from the old upstreams: whoever waits for them gets them, nobody else does.
            self._forwarder.retire()
            self._retired = [one for one in (*self._retired, self._forwarder) if one.is_busy]
            self._forwarder = Forwarder(settings, self._clock, self.leakage.terms, self.tally)

    def serve_zones(self, transfers: Transfers) -> None:
        """Answer what concerns zones of lists, too."""
        self._transfers = transfers
        self._adopt()

    def _notice_closures(self) -> None:
        """Forget what was found out about clients: another worker may have closed a zone to one of them."""
        self._closures = self.leakage.closures
        self._clients.clear()
        self._resolved.clear()

    # -- for listeners -----------------------------------------------------------------------------------------

    def burst(self) -> Burst:
        """Return what answers the datagrams that wait now."""
        self._begin()
        return Burst(self._find_known, self._hot, self._pays, self._now, self._date, self._datagram)

    def _begin(self) -> None:
        """Look at policy, closures and time, all of which then stay as they are until the event loop goes on."""
        if self._judge.generation is not self._generation:
            self._adopt()
        if self._closures != self.leakage.closures:
            self._notice_closures()
        self._now, self._date = self._clock(), self._wall()

    def answer_now(self, peer: Peer, data: bytes, *, stream: bool = False) -> Reply:
        """Answer a packet at once if that can be done without an upstream."""
        try:
            self._begin()
            if not stream:
                return self._datagram(peer, data)
            found = self._message(peer, data)
            return next(found, None) if isinstance(found, Iterator) else found
        except Exception as error:
            return self._broken(peer, data, error)

    def answer_stream(self, peer: Peer, data: bytes) -> Reply | Iterator[bytes]:
        """Answer a message over TCP as `answer_now` does; who may have all of a zone gets it in many messages, which
        are read from files as they are taken.
        """
        try:
            self._begin()
            return self._message(peer, data, whole=True)
        except Exception as error:
            return self._broken(peer, data, error)

    def _datagram(self, peer: Peer, data: bytes, unseen: bool = False) -> Reply:
        try:
            known = self._clients.get(peer) or self._client(peer)
            if self._limit is not None:
                if not known.credit and not self._pays(known):
                    return self._over_limit(known, data, self._limit.excess(known.limited, self._now), stream=False)
                known.credit -= 1
            return self._packet(known, data, stream=False, unseen=unseen)
        except Exception as error:
            return self._broken(peer, data, error)

    def _pays(self, known: Known) -> bool:
        """Pay for some datagrams of a client in advance: the bucket is far away, the credit at hand."""
        if self._limit is None or not self._limit.pays(known.limited, self._now, known.share):
            return False
        known.credit = known.share
        if known.share < known.most:
            known.share = min(2 * known.share, known.most)
        return True

    def _message(self, peer: Peer, data: bytes, *, whole: bool = False) -> Reply | Iterator[bytes]:
        known = self._clients.get(peer) or self._client(peer)
        if self._limit is not None:
            excess = self._limit.check("tcp " + known.limited, self._now)
            if excess is not None:
                return self._over_limit(known, data, excess, stream=True)
        if self._zones is not None and self._zones.concerns(data):
            return self._zone(self._zones, known, data, whole=whole)
        return self._packet(known, data, stream=True)

    def _zone(self, zones: Transfers, known: Known, data: bytes, *, whole: bool = False) -> Iterator[bytes]:
        """Answer a query for a zone, and record who may not have it."""
        given = zones.answer(known.client.address, data, whole=whole)
        if given.flaw is not None:
            self._judge.judge(DnsQuery(known.client, given.zone, given.qtype, given.flaw))
        self.tally.answers[Source.LOCAL if given.flaw is None else Source.REFUSED] += 1
        return given.messages

    def _packet(self, known: Known, data: bytes, *, stream: bool, unseen: bool = False) -> Reply:
        """Look for an answer given before to the question in other letters, or in these unless there is none; else
        read the packet.
        """
        name_end = data.find(0, HEADER)
        if name_end < 0 or len(data) > MAX_PACKET:
            return self._answer(known, data, 0, stream)
        if unseen and (name := data[HEADER:name_end]) == name.lower():
            return self._answer(known, data, name_end, stream)
        key = hot_key(data, name_end)
        found = known.view.get(key)
        if isinstance(found, HotBlock) and found.own is not known.own:
            found = known.own.get(key)
        if type(found) is bytes and not is_good(found, self._now):
            found = self._hot.renew(known.view, key, self._now)
        if type(found) is bytes:
            tail = as_of(found, self._now)
            self.tally.answers[Source.HOT] += 1
        elif isinstance(found, HotBlock) and found.repeats.open:
            found.used = True
            found.repeats.again(self._date)
            self.tally.answers[Source.BLOCKED] += 1
            if not found.tail:
                return None
            tail = found.tail
        else:
            return self._answer(known, data, name_end, stream, again=found is not None)
        end = name_end + 5
        return data[:2] + tail[: HEADER - 2] + data[HEADER:end] + tail[end - 2 :]

    def begin(self, miss: Miss, done: Done) -> None:
        """Answer a query that `answer_now` could not. `done` is called once with the reply, maybe before this
        returns, unless the resolver is closed before. It must not raise.
        """
        self._misses.begin(miss, done)

    async def answer_later(self, miss: Miss) -> bytes | None:
        """Answer a query that `answer_now` could not. Never raises, unless cancelled."""
        answered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def done(reply: bytes | None) -> None:
            if not answered.done():  # the client may have gone
                answered.set_result(reply)

        self._awaited.add(answered)
        try:
            self._misses.begin(miss, done)
            return await answered
        finally:
            self._awaited.discard(answered)

    async def answer(self, peer: Peer, data: bytes, *, stream: bool = False) -> bytes | None:
        """Answer a packet, however long it takes."""
        reply = self.answer_now(peer, data, stream=stream)
        return await self.answer_later(reply) if isinstance(reply, Miss) else reply

    def _client(self, peer: Peer) -> Known:
        client = Client(address=_address(peer))
        view = self._judge.view(client)
        if view not in self._views:
            self._views[view] = View()
        source = client.address
        limited = client_key(source)
        most = self._limit.share if self._limit is not None and source.version == 4 else 1
        groups = self._judge.groups(client)
        known = Known(client, groups, self._views[view], View(), limited, most)
        self._clients.keep(peer, known)
        if self._limit is None:
            known.credit = math.inf
        if self.leakage.closed_to(source):
            known.closed, known.view = True, View()
        return known

    def _close(self, client: Client) -> None:
        """Ask from now on about everything that a client wants, since a zone has been closed to it."""
        if self.leakage.closed_to(client.address):
            key = client_key(client.address)
            for known in self._clients.values():
                if known.limited == key and not known.closed:
                    known.closed, known.view = True, View()

    def _over_limit(self, known: Known, data: bytes, excess: Excess, *, stream: bool) -> Reply:
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
                self.tally.answers[Source.REFUSED] += 1
                return flawed(data, error)
            cookie = b""
        address, now = known.client.address, self._clock()
        options = self._cookies.reply(cookie, address, now) if cookie else b""
        if stream and query is not None:
            decision, ident = self._note_excess(known, "tcp " + known.limited, excess)
            return self._replies.block(query, decision, ident, options)
        if excess is Excess.FIRST:
            self._note_excess(known, known.limited, excess)
        if cookie and self._limit is not None and self._cookies.is_valid(cookie, address, now):
            proven = self._limit.check("tcp " + known.limited, now)
            if proven is None:
                return self._answer(known, data, 0, stream)
            if proven is Excess.FIRST:
                self._note_excess(known, "tcp " + known.limited, proven)
        elif cookie and excess is not Excess.SILENCE:
            self.tally.answers[Source.REFUSED] += 1
            return flawed(data, WireError("no good cookie", Rcode.BADCOOKIE, query), options)
        self.tally.answers[Source.REFUSED] += 1
        return over_limit(data, options) if excess is not Excess.SILENCE else None

    def _note_excess(self, known: Known, bucket: str, excess: Excess) -> tuple[Decision, str]:
        """Record that a bucket is empty, once in a window. Returns the decision and its id."""
        noted = self._excesses.get(bucket)
        if excess is not Excess.FIRST and noted is not None:
            return noted
        rate, burst = self._settings.rate_limit or (0, 0)
        flaw = Flaw(Reason.RATE_LIMIT, f"more than {rate:g} queries a second, and {burst} at once")
        noted = self._judge.judge(DnsQuery(client=known.client, name="", qtype=0, flaw=flaw))
        return self._excesses.keep(bucket, noted)

    def _answer(self, known: Known, data: bytes, name_end: int, stream: bool, *, again: bool = False) -> Reply:
        """Read a packet, decide on it, and answer it from what is here. `name_end` is where the name ends in a packet
        whose answer may be kept in the hot table, else 0; `again` if one was kept there that is good no more.
        """
        client = known.client
        if self._zones is not None and self._zones.concerns(data):
            return next(self._zone(self._zones, known, data), None)
        try:
            query = read_query(data)
        except WireError as error:
            return self._flawed(client, data, error)
        if is_meta(query.qtype):
            unfit = WireError(f"type {query.qtype} is not for resolvers", Rcode.REFUSED, query)
            return self._flawed(client, data, unfit)
        now = self._now
        _, flags, name, question, qtype, _, edns = query
        options = b""
        extended = edns is not None and bool(edns.options)
        if extended:
            try:
                cookie = cookie_in(data, query)
            except WireError as error:
                return self._flawed(client, data, error)
            if cookie:
                options = self._cookies.reply(cookie, client.address, now)
        request = _make(DnsQuery, (client, name, qtype, None))  # as DnsQuery() does, in half the time
        decision, recorded = self._judge.judge_query(request)
        # Not if its name holds a zero octet, which the key takes for its end. And a packet with a cookie or padding
        # never comes again.
        keeps = len(question) == name_end + 5 - HEADER and not extended
        if decision.denied:
            reply = self._replies.block(query, decision, recorded.id, options)
            # Not when it comes for the first time: most never come again, and would push out answers that do.
            if keeps and (recorded.count or again) and recorded.open and not decision.reported:
                question = _in_lower_case(question)
                tail = b"" if reply is None else reply[2:HEADER] + question + reply[HEADER + len(question) :]
                self._hot.block(known.view, hot_key(data, name_end), HotBlock(known.own, tail, recorded))
            return reply
        if known.closed:
            keeps = False
            leak = self.leakage.again(client.address, known.groups, name)
            if leak is not None:
                return self._replies.block(query, leak, self._judge.record(request, leak), options)
        limit = udp_limit(edns)
        if not flags & RD:
            # Nobody is told what others have asked for, and nobody is asked: such a query is for servers that have
            # zones of their own (RFC 1034 section 4.3.1). What is denied is denied to it too, above.
            local = local_answer(query.name, query.qtype, self._settings.records)
            if local is None:
                unfit = WireError("recursion is not desired, and there is nothing else here", Rcode.REFUSED, query)
                return self._flawed(client, data, unfit)
            reply, _ = self._replies.finish(client, query, local, 0, STREAM_SIZE if stream else limit, options)
            return reply
        place = key_of(query)
        found = self._forwarder.at_hand(place, now)
        if found is None:
            return Miss(known, query, place, stream, options)
        answer, stored, fresh_until, stale, at_home = found
        if answer.metered:
            # Only until the hot table knows it: what was counted once is not counted again.
            leak = self.leakage.response(client.address, known.groups, query.name, query.qtype, answer)
            miss = Miss(known, query, place, stream, options)
            if leak is not None and (settled := self._misses.leaked(miss, leak)) is not None:
                return settled.reply
        if stale:
            options += stale_option(answer)
        reply, plain = self._replies.finish(
            client,
            query,
            answer,
            int(now) - int(stored),
            STREAM_SIZE if stream else limit,
            options,
            Source.LOCAL if at_home else Source.STALE if stale else Source.CACHE,
        )
        if keeps and plain and now < fresh_until and not recorded.id and reply is not None and len(reply) <= limit:
            if reply[2] & 2:
                return reply  # cut short: whoever comes over TCP gets all of it
            head = head_of(query, answer) + _in_lower_case(query.question)
            key = hot_key(data, name_end)
            if at_home:
                answer = replace(answer, ttls=())  # it does not age, here no more than without the table
            self._hot.keep(known.view, key, Aging(answer, stored, fresh_until, head, opt_of(query)), now)
        return reply

    def _flawed(self, client: Client, data: bytes, error: WireError) -> bytes | None:
        options = b""
        if error.rcode is not None and error.rcode != Rcode.BADVERS:  # that one is a negotiation
            reason = Reason.MALFORMED if error.rcode == Rcode.FORMERR else Reason.PROTOCOL
            name, qtype = (error.query.name, error.query.qtype) if error.query else ("", 0)
            request = DnsQuery(client=client, name=name, qtype=qtype, flaw=Flaw(reason, str(error)))
            options = why(*self._judge.judge(request))
        self.tally.answers[Source.REFUSED] += 1
        return flawed(data, error, options + self._cookie_back(client, data, error.query))

    def _cookie_back(self, client: Client, data: bytes, query: Query | None) -> bytes:
        """Return the option that answers a cookie, if there is one (RFC 7873 section 5.2: whatever the rcode)."""
        try:
            cookie = cookie_in(data, query) if query is not None else b""
        except WireError:
            return b""
        return self._cookies.reply(cookie, client.address, self._clock()) if cookie else b""

    def _broken(self, peer: Peer, data: bytes, error: Exception) -> bytes | None:
        """Fail closed: whatever went wrong, the answer is no."""
        _LOG.error("a query failed inside the resolver", exc_info=error)
        try:
            query = read_query(data)
            flaw = Flaw(Reason.INTERNAL_ERROR, type(error).__name__)
            client = Client(address=_address(peer))
            return self._replies.refuse(client, query, flaw, self._cookie_back(client, data, query))
        except WireError as flaw_found:
            self.tally.answers[Source.REFUSED] += 1
            return flawed(data, flaw_found)
        except Exception:
            _LOG.exception("and so did the answer to it")
            self.tally.answers[Source.FAILED] += 1
            return None

    # -- for everybody -----------------------------------------------------------------------------------------

    def recall(self, host: str, client: Client) -> Resolution | None:
        """Return what `lookup` would return, where it was asked for a moment ago; None where it has to be asked."""
        if self._judge.generation is not self._generation or self._closures != self.leakage.closures:
            return None
        known = self._resolved.get((client, host, _BOTH))
        return known[1] if known is not None and self._clock() < known[0] else None

    async def lookup(self, host: str, client: Client | None = None, *, families: Iterable[int] = _BOTH) -> Resolution:
        """Return the addresses of a name in normal form, for a caller that the policy has already let through. The
        name is accounted for as one that the client has told the outside; without a client, it is one of our own.

        Raises:
            ResolutionError: there is none, it could not be found out, or the client told the zone too much.
        """
        if self._judge.generation is not self._generation:
            self._adopt()
        if self._closures != self.leakage.closures:
            self._notice_closures()
        families = tuple(families)
        known = self._resolved.get((client, host, families))
        if known is not None and self._clock() < known[0]:
            return known[1]
        if client is not None:
            kept = self._account_for(host, client, families)
        else:
            kept = self._forwarder.all_at_hand(host, families)
        if kept is None:
            return await self._forwarder.lookup(host, families=families)
        # No tasks where there is nobody to wait for; and nothing to do where all was done a moment ago.
        resolution = self._forwarder.resolution(host, [found.answer for found in kept])
        if client is None or not self.leakage.closed_to(client.address):
            until = min(self._clock() + _MOMENTS, *(found.fresh_until for found in kept))
            self._resolved.keep((client, host, families), (until, resolution))
        return resolution

    def _account_for(self, host: str, client: Client, families: tuple[int, ...]) -> list[Found] | None:
        """Return the answers if they are at hand, else make sure that the queries may leave."""
        groups, now = self._judge.groups(client), self._clock()
        leak = self.leakage.again(client.address, groups, host)
        kept = self._forwarder.all_at_hand(host, families) if leak is None else None
        for qtype in () if kept else (Type.A if family == 4 else Type.AAAA for family in families):
            if leak is None and self._forwarder.at_hand(Key(host, qtype, False, False), now) is None:
                leak = self.leakage.query(client.address, groups, host, qtype)
                if leak is not None and not leak.denied:
                    self._judge.record(DnsQuery(client=client, name=host, qtype=qtype), leak)
                    leak = None
        if leak is not None:
            self._close(client)
            raise LeakError(leak)
        if self._misses.stays(host):
            raise ResolutionError(f"{host} does not exist")
        return kept

    def standing(self) -> Standing:
        """Return how much is kept, and how much waits."""
        cached, octets = self._forwarder.kept
        leakage = self.leakage
        return Standing(
            cached,
            octets,
            len(self._hot),
            self._hot.octets,
            self._misses.waiting,
            *leakage.tracked,
            leakage.closures,
            tuple(self._forwarder.resting(asyncio.get_running_loop().time())),
        )

    async def close(self) -> None:
        """Give up what is on its way."""
        for answered in self._awaited:
            answered.cancel()
        for forwarder in (self._forwarder, *self._retired):
            await forwarder.close()


def _address(peer: Peer) -> IPAddress:
    if isinstance(peer, bytes):
        return unmap(ip_address(peer))
    address = parse_address(peer.partition("%")[0])
    if address is None:
        raise ValueError("a client without an address")
    return unmap(address)


def _in_lower_case(question: bytes) -> bytes:
    """Return a question section with its name in lower case: type and class are no letters."""
    return question[:-4].lower() + question[-4:]


def _limit_of(settings: Settings) -> RateLimit | None:
    return RateLimit(*settings.rate_limit) if settings.rate_limit else None
