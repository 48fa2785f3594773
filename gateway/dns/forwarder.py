"""From a question to an answer that an upstream or the configuration gives, whoever asks.

Local records and special names, the cache, forward zones and upstreams, in that order; questions asked by many are
asked once, failures are kept for a moment, expired answers help out, and hot ones are renewed early. It knows no
policy and no client: `gateway.dns.resolver` decides before and after, the proxy has stages of its own.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from gateway.addresses import IPAddress
from gateway.decision import Reason
from gateway.dns.bailiwick import Trust, leads_out, select
from gateway.dns.cache import RECHECK, Cache, Entry, Key, Terms
from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.local import local_answer, local_data, names_above, special_answer, zone_of
from gateway.dns.message import Answer, encode_name, make_answer, soa_record, with_ttl
from gateway.dns.plain import plain_answer
from gateway.dns.records import MAX_ALIASES, TTL, LocalData, aliases, of_type, targets
from gateway.dns.settings import Endpoint, Settings
from gateway.dns.tally import Tally
from gateway.dns.upstream import Pool, Result
from gateway.dns.wire import Rcode, Record, Response, Type, WireError
from gateway.tunnelling.zones import exists

MAX_OUTSTANDING = 4096
"""Different questions on their way to upstreams; each holds a socket."""
MAX_PREFETCH = 256
"""Queries on their way beyond which no answer is renewed before its time."""
STALE_TTL = 30
"""What an expired answer says, in seconds (RFC 8767 section 4)."""
_FAILURE = 1.0
"""Seconds that a failure of all upstreams is kept for a question, at first; doubled each time (RFC 9520)."""
_LONGEST_FAILURE = 30.0
_FAILURES_KEPT = 4096


class ResolutionError(Exception):
    """A name has no address that could be used; the text says why."""

    reason: Reason = Reason.NAME_UNRESOLVABLE
    """What a denial for it says."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name stands for."""

    addresses: tuple[IPAddress, ...]
    """IPv4 before IPv6, in the order of the answer."""
    chain: tuple[str, ...] = ()
    """Names met on the way (CNAME)."""
    trusted: bool = False
    """From the configuration or a forward zone: private addresses are expected."""


class Found(NamedTuple):
    """An answer at hand."""

    answer: Answer
    stored: float
    fresh_until: float
    """Until when it may be given without a look at the cache."""
    stale: bool = False
    local: bool = False
    """From the configuration, or a special name."""


type Waiter = Callable[[Answer | Exception, bool], None]
"""Takes the outcome, and whether it is an expired answer. It is called once, and must not raise."""


class _Failed(NamedTuple):
    failure: Failure
    detail: str
    """What the error said, and not the error, which keeps the frames that it came through."""
    wait: float
    until: float


class Forwarder:
    """Finds answers for one configuration (`Settings.for_answers`). Another configuration is another forwarder."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        terms: Callable[[str], Terms] = lambda _: Terms(),
        tally: Tally | None = None,
    ) -> None:
        """`terms` says on what terms answers for a name are kept that come from the outside."""
        self._terms = terms
        self._tally = tally or Tally()
        self._settings = settings
        self._limits, self._trust_ad = settings.limits, settings.trust_ad
        self._clock = clock
        self._cache = Cache(settings.cache_entries, settings.cache_memory, settings.serve_stale)
        self._pool = self._make_pool(settings.upstreams)
        self._forward = {zone: self._make_pool(servers) for zone, servers in settings.forward.items()}
        self.above = names_above((*settings.records, *settings.forward))
        """Names that have local records or forward zones below them."""
        self._outstanding: dict[Key, _Wanted] = {}
        self._failures: dict[Key, _Failed] = {}
        self._retired = False
        self._closing: set[asyncio.Task[None]] = set()
        self._awaited: set[asyncio.Future[tuple[Answer, bool]]] = set()

    def _make_pool(self, servers: Sequence[Endpoint]) -> Pool:
        settings = self._settings

        def trust() -> ssl.SSLContext:
            return ssl.create_default_context(cadata=settings.upstream_ca or None)

        return Pool(servers, settings.strategy, settings.timing, trust, self._tally)

    def at_hand(self, key: Key, now: float) -> Found | None:
        """Return the answer from local data or the cache."""
        local = local_answer(key.name, key.qtype, self._settings.records)
        if local is not None:
            return Found(local, now, now + local.ttl, local=True)
        is_kept = self._cache.has(key)
        entry = self._cache.get(key, now) if is_kept else None
        if entry is not None:
            if not self._settings.prefetch:
                return Found(entry.answer, entry.stored, entry.expires)
            if entry.wants_renewal(now) and len(self._outstanding) < MAX_PREFETCH:
                entry.renewed = True
                self._begin(key)
            # While a new answer is on its way, the old one is not kept elsewhere: that would outlive its successor.
            return Found(entry.answer, entry.stored, now if key in self._outstanding else entry.ageing)
        if zone_of(key.name, self._forward) is None:
            local = special_answer(key.name, key.qtype, self.above)
            if local is not None:
                return Found(local, now, now + local.ttl, local=True)
        stale = self._cache.get_stale(key, now) if is_kept else None
        if stale is not None and now < stale.recheck:
            return Found(with_ttl(stale.answer, STALE_TTL), now, now, stale=True)
        return None

    async def lookup(self, host: str, *, families: Iterable[int] = (4, 6)) -> Resolution:
        """Return the addresses of a name in normal form, for a caller that the policy has already let through.

        Raises:
            ResolutionError: there is none, or it could not be found out.
        """
        types = [Type.A if family == 4 else Type.AAAA for family in families]
        found = await asyncio.gather(*(self._find(host, qtype) for qtype in types), return_exceptions=True)
        return self.resolution(host, found)

    def all_at_hand(self, host: str, families: Iterable[int]) -> list[Found] | None:
        """Return the answers for all kinds of addresses; None if one of them is not in local data or the cache."""
        now, kept = self._clock(), []
        for family in families:
            found = self.at_hand(Key(host, Type.A if family == 4 else Type.AAAA, False, False), now)
            if found is None:
                return None
            kept.append(found)
        return kept

    def resolution(self, host: str, found: Iterable[Answer | BaseException]) -> Resolution:
        """Return the addresses in answers.

        Raises:
            ResolutionError: there is none, or it could not be found out.
        """
        answers: list[Answer] = []
        failure: BaseException | None = None
        for result in found:
            if isinstance(result, Answer):
                answers.append(result)
            else:
                failure = failure or result
        # Told apart by their octets: upstreams choose addresses, and can give them all the same hash.
        distinct = {address.packed: address for answer in answers for address in answer.addresses}
        addresses = tuple(distinct.values())
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
        found = self.at_hand(key, self._clock())
        if found is not None:
            return found.answer
        # A local name leads on by a CNAME, or it would have been found.
        if "." not in host and host not in self._settings.records and zone_of(host, self._forward) is None:
            raise ResolutionError(f"{host} is a single label, and there is no search list")
        answer, _ = await self.fetch(key)
        return answer

    async def fetch(self, key: Key) -> tuple[Answer, bool]:
        """Ask as `ask` does, and wait for it. Returns the answer, and whether it has expired.

        Raises:
            UpstreamError: there is no usable answer, and no expired one.
        """
        found: asyncio.Future[tuple[Answer, bool]] = asyncio.get_running_loop().create_future()
        self._awaited.add(found)
        try:
            self.ask(key, partial(_tell, found))
            return await found
        finally:
            self._awaited.discard(found)
            del found  # an error refers to this frame, and would so refer to itself

    def ask(self, key: Key, done: Waiter, name: bytes = b"") -> None:
        """Ask an upstream, together with everybody else who has the same question; if none answers, or not soon
        enough, an expired answer has to do (RFC 8767). `done` is called once, maybe before this returns, and not at
        all after `close`.

        `name` is that of the key in wire form and lower case, from those who have it at hand.
        """
        now = self._clock()
        stale = self._cache.get_stale(key, now) if self._cache.has(key) else None
        if stale is not None:
            done = _Impatient(stale, done, self._clock, self._settings.timing.stale).done
        failed = self._failures.get(key) if self._failures else None
        if failed is not None and now < failed.until:
            done(UpstreamError(failed.failure, f"{failed.detail} (moments ago)"), False)
            return
        try:
            wanted = self._begin(key, name)
        except UpstreamError as error:
            done(error, False)
            return
        if wanted.result is None:
            wanted.waiters.append(done)
        else:
            done(wanted.result, False)

    def _begin(self, key: Key, name: bytes = b"") -> "_Wanted":
        wanted = self._outstanding.get(key)
        if wanted is None:
            if len(self._outstanding) >= MAX_OUTSTANDING:
                raise UpstreamError(Failure.NONE_LEFT, "too many queries are waiting for upstreams")
            wanted = self._outstanding[key] = _Wanted(self, key)
            try:
                self._send(wanted, name)
            except Exception as error:
                self._deliver(wanted, error)
        return wanted

    def _send(self, wanted: "_Wanted", name: bytes) -> None:
        key, records = wanted.key, self._settings.records
        if key.name in records and not wanted.chain:
            wanted.chain, wanted.end = aliases(key.name, key.qtype, records)
        chain, end = wanted.chain, wanted.end
        entries = local_data(end, key.qtype, records) if chain else None
        if entries is not None:
            answer = self._from_here(wanted, entries)
            self._cache.put(key, answer, self._clock())
            self._deliver(wanted, answer)
            return
        zone = self._zone_for(end, key.qtype) if self._forward else None
        if chain and zone is None and special_answer(end, key.qtype) is not None:
            soa = soa_record(encode_name(end), TTL)
            answer = make_answer(chain[0].owner, chain, [soa], rcode=Rcode.NXDOMAIN, ttl=TTL, chain=targets(chain))
            self._cache.put(key, answer, self._clock())
            self._deliver(wanted, answer)
            return
        wanted.name = name if name and not chain else encode_name(end)
        if zone is None:
            self._pool.begin(wanted, wanted.done)
            return
        wanted.in_zone = True
        wanted.deadline = wanted.deadline or asyncio.get_running_loop().time() + self._settings.timing.total
        zone.begin(wanted, wanted.done, wanted.deadline)

    def _zone_for(self, name: str, qtype: int) -> Pool | None:
        """Return the servers of the forward zone that answers for a name. Whether a zone is signed is a question to
        the one above (RFC 4035 section 3.1.4.1), unless that is nowhere, or empty and served here.
        """
        if qtype == Type.DS and name in self._forward:
            above = name.partition(".")[2]
            if exists(name.rpartition(".")[2]) and special_answer(name, qtype) is None:
                name = above
        return zone_of(name, self._forward)

    def _from_here(self, wanted: "_Wanted", entries: Sequence[IPAddress | LocalData]) -> Answer:
        """Return the answer to an alias that leads to a name which has its records here."""
        owner, qtype = encode_name(wanted.end), wanted.qtype
        found = tuple(of_type(owner, qtype, entries))
        absence = () if found else (soa_record(owner, TTL),)
        response = Response(0, 0, Rcode.NOERROR, b"", found, absence, edns=False)
        return select(response, owner, qtype, self._settings.limits, Trust(zone=True), aliases=wanted.chain)

    def _plain(self, wanted: "_Wanted", data: bytes) -> Answer | None:
        """Read a reply of the commonest kind."""
        in_zone = wanted.in_zone
        answer = plain_answer(data, wanted.name, wanted.qtype, self._limits, ad=self._trust_ad, trusted=in_zone)
        return answer if answer is None or in_zone else self._on_terms(answer, wanted.end)

    def _select(self, wanted: "_Wanted", response: Response) -> Answer:
        """Take the answer out of any other reply. Raises WireError."""
        settings, in_zone = self._settings, wanted.in_zone
        trust = Trust(in_zone, settings.trust_ad, settings.strip_ech)
        answer = select(response, wanted.name, wanted.qtype, settings.limits, trust, aliases=wanted.chain)
        if not in_zone:
            return self._on_terms(answer, wanted.end)
        if answer.chain and not answer.addresses:
            wanted.further = leads_out(response, wanted.name, wanted.qtype)
        return answer

    def _lead_on(self, wanted: "_Wanted") -> bool:
        """Ask for the name to which a server of a forward zone leads without asking for it: it may know its own zones
        and nothing else. Say whether that was done: not where it leads outside.
        """
        key, qtype, records = wanted.key, wanted.qtype, self._settings.records
        ours, end = aliases(targets(wanted.further)[-1], qtype, records)
        chain = (*wanted.chain, *wanted.further, *ours)
        names = targets(chain)
        if len(names) > MAX_ALIASES or len({key.name, *names}) <= len(names):
            return False  # in a circle
        here = local_data(end, qtype, records) is not None or special_answer(end, qtype) is not None
        if not here and zone_of(end, self._forward) is None:
            # Outside, a name tells its zone what it is made of, and this one has been neither judged nor counted for
            # anybody. Clients learn it, and may ask for it as for any other.
            return False
        if self._outstanding.get(key) is not wanted:
            return False
        onward = self._outstanding[key] = _Wanted(self, key)
        onward.chain, onward.end, onward.deadline = chain, end, wanted.deadline
        onward.waiters = wanted.waiters
        try:
            self._send(onward, b"")
        except Exception as error:
            self._deliver(onward, error)
        return True

    def _on_terms(self, answer: Answer, name: str) -> Answer:
        least, metered = self._terms(name)
        if answer.ttl < least:
            answer = with_ttl(answer, least)
        return replace(answer, metered=True) if metered else answer

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
            waiter(result, False)
        wanted.waiters.clear()
        if self._retired and not self._outstanding:
            self._close_pools()

    def _note_failure(self, key: Key, error: UpstreamError) -> None:
        """Keep a failure for a while, longer each time, so that nobody's retries hammer the upstreams (RFC 9520)."""
        before = self._failures.get(key)
        wait = min(before.wait * 2, _LONGEST_FAILURE) if before else _FAILURE
        if before is None and len(self._failures) >= _FAILURES_KEPT:
            del self._failures[next(iter(self._failures))]
        self._failures[key] = _Failed(error.failure, str(error), wait, self._clock() + wait)

    def retire(self) -> None:
        """Close the connections to upstreams once nobody waits for an answer any more; later callers are served."""
        self._retired = True
        if not self._outstanding:
            self._close_pools()

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits, or connections are being closed."""
        return bool(self._outstanding or self._closing)

    @property
    def connections(self) -> int:
        """Connections to upstreams that are open, and queries on their way in datagrams."""
        return sum(pool.connections for pool in self._pools())

    def resting(self, now: float) -> Iterator[str]:
        """Yield the upstreams that are passed over at present."""
        for pool in self._pools():
            yield from (str(one.endpoint) for one in pool.upstreams if one.rests_until > now)

    @property
    def kept(self) -> tuple[int, int]:
        """Answers in the cache, and the octets that they take."""
        return len(self._cache), self._cache.octets

    def _pools(self) -> tuple[Pool, ...]:
        return (self._pool, *self._forward.values())

    def _close_pools(self) -> None:
        async def close() -> None:
            for pool in self._pools():
                if self._outstanding:
                    return  # asked by one who had begun before, and closed once that is answered
                await pool.close()

        # The last answer may have come by one of the tasks that are ended there.
        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Give up what is on its way."""
        await asyncio.gather(*self._closing)
        for waiter in self._awaited:
            waiter.cancel()
        self._outstanding.clear()
        for pool in self._pools():
            await pool.close()


class _Wanted:
    """A question on its way to upstreams, with all who wait for the answer."""

    __slots__ = (
        "_forwarder",
        "_outcome",
        "chain",
        "checking_disabled",
        "deadline",
        "dnssec_ok",
        "end",
        "further",
        "in_zone",
        "key",
        "name",
        "qtype",
        "result",
        "waiters",
    )

    def __init__(self, forwarder: Forwarder, key: Key) -> None:
        self._forwarder = forwarder
        self.key = key
        _, self.qtype, self.dnssec_ok, self.checking_disabled = key
        self.chain: Sequence[Record] = ()
        """Aliases of our own that led to what is asked for."""
        self.end = key.name
        """What is asked for."""
        self.name = b""
        """The same, in wire form."""
        self.in_zone = False
        """A forward zone's servers are asked."""
        self.deadline = 0.0
        """Until when they and those of other zones to which they lead have to be done, on the loop's clock."""
        self.further: Sequence[Record] = ()
        """What their answer says of the way to another name; nothing where it is complete."""
        self.waiters: list[Waiter] = []
        self._outcome: Answer | Exception = _UNREAD
        self.result: Answer | Exception | None = None

    def plain(self, data: bytes) -> bool:
        """Read a reply of the commonest kind; say whether it was one."""
        if self.chain:
            return False
        try:
            answer = self._forwarder._plain(self, data)
        except Exception as error:
            self._outcome = error
            return True
        if answer is None:
            return False
        self._outcome = answer
        return True

    def check(self, response: Response) -> None:
        """Read any other. Here, and not when it is all over: if this upstream talks nonsense, the next one may not.

        Raises:
            WireError: it does.
        """
        try:
            self._outcome = self._forwarder._select(self, response)
        except WireError:
            raise
        except Exception as error:
            self._outcome = error

    def done(self, result: Result) -> None:
        """Take what the pool found: the reply that was read last."""
        forwarder, outcome = self._forwarder, result if isinstance(result, UpstreamError) else self._outcome
        if isinstance(outcome, Answer):
            if self.further and forwarder._lead_on(self):
                return
            forwarder._cache.put(self.key, outcome, forwarder._clock())
        forwarder._deliver(self, outcome)


_UNREAD = TypeError("an answer that nobody has looked at")


class _Impatient:
    """Who has an expired answer waits for a new one, but not for long. Who has waited may go on to wait; who comes
    later is served at once for a while.
    """

    def __init__(self, entry: Entry, done: Waiter, clock: Callable[[], float], patience: float) -> None:
        self._entry = entry
        self._done = done
        self._clock = clock
        self._over = False
        self._timer = asyncio.get_running_loop().call_later(patience, self._late)

    def done(self, result: Answer | Exception, _: bool) -> None:
        """Take the outcome."""
        if self._over:
            return
        if isinstance(result, UpstreamError):
            self._late()
            return
        self._end()
        self._done(result, False)

    def _late(self) -> None:
        self._end()
        self._entry.recheck = self._clock() + RECHECK
        self._done(with_ttl(self._entry.answer, STALE_TTL), True)

    def _end(self) -> None:
        self._over = True
        self._timer.cancel()


def _tell(found: "asyncio.Future[tuple[Answer, bool]]", result: Answer | Exception, stale: bool) -> None:
    if found.done():
        return  # whoever waited has gone away
    if isinstance(result, Answer):
        found.set_result((result, stale))
    else:
        found.set_exception(result)
