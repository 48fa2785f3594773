"""Upstream resolvers: which one to ask, for how long, and whom to ask next.

An upstream that does not answer, refuses, fails or lies is passed over for the next one, and rested for longer each
time. What is learnt about one (its speed, whether it repeats letter case, whether it knows EDNS) stays with it.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from gateway.dns.channel import Channel, Messages
from gateway.dns.exchange import (
    Datagrams,
    Failure,
    Fit,
    Sending,
    Target,
    UpstreamError,
    fit,
    random_id,
    random_question,
    target_of,
)
from gateway.dns.https import Requests
from gateway.dns.message import encode_query
from gateway.dns.settings import Endpoint, Timing
from gateway.dns.tally import Tally, UpstreamTally
from gateway.dns.wire import AA, IN, RA, Rcode, Response, Type, WireError, read_response

_LOG = logging.getLogger(__name__)

_USABLE = (Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.YXDOMAIN)
_CLASS = IN.to_bytes(2, "big")
_PATIENCE = 3
"""Failures in a row before an upstream is rested."""
_ABOUT_NAMES = (Failure.RCODE, Failure.MALFORMED)
"""Failures that whoever holds the name asked for can bring about: an upstream passes on what it is told."""
_REFUSALS = 10
"""Such failures in a row; more are about the upstream, and count like all others."""
_LONGEST_REST = 60.0
_TELL_AGAIN = 60.0
"""Seconds for which the log has one line at most about an upstream that rests: clients ask, and ask again, for names
that nobody answers for.
"""
_EXPLORE = 1 / 32
"""How often the fastest upstream is passed over for another one, to see whether that is faster by now."""
_CASE_REST = 3600.0
"""How long an upstream that does not repeat letter case is asked in lower case."""
_EDNS_REST = 3600.0
"""How long one that knows no EDNS is asked without."""


class Asked(Protocol):
    """What an upstream is asked, and how what it says is read."""

    @property
    def name(self) -> bytes:
        """Wire form, lower case."""

    @property
    def qtype(self) -> int:
        """The type."""

    @property
    def dnssec_ok(self) -> bool:
        """DO."""

    @property
    def checking_disabled(self) -> bool:
        """CD."""

    def plain(self, data: bytes) -> bool:
        """Take a usable answer out of the octets of a reply; say whether it was, so that nobody else has to."""

    def check(self, response: Response) -> None:
        """Look at any other response closer.

        Raises:
            WireError: it is a failure of its upstream.
        """


class Question(NamedTuple):
    """A question, any usable response to which will do."""

    name: bytes
    """Wire form, lower case."""
    qtype: int
    dnssec_ok: bool = False
    checking_disabled: bool = False

    def plain(self, data: bytes) -> bool:
        """Leave it to be read."""
        return False

    def check(self, response: Response) -> None:
        """Find nothing wrong with it."""


type Result = Response | UpstreamError | None
"""None: the question has read it."""


@dataclass(slots=True)
class Upstream:
    """One resolver, and what is known of it."""

    endpoint: Endpoint
    datagrams: Datagrams
    trust: Callable[[], ssl.SSLContext]
    """Makes TLS contexts that know which certificates to believe."""
    tally: UpstreamTally
    target: Target = field(init=False)
    channel: Channel = field(init=False)
    """For what does not go in datagrams."""
    rtt: float = 0.0
    """Smoothed, in seconds; 0 until it has answered."""
    failures: int = 0
    """In a row."""
    refusals: int = 0
    """SERVFAIL, REFUSED and the like in a row."""
    rests_until: float = 0.0
    rested_at: float = 0.0
    """When it was sent to rest last: what had been asked before says nothing new by failing as well."""
    told_until: float = 0.0
    """Until when it is not said again that it rests."""
    lower_case_until: float = 0.0
    plain_until: float = 0.0
    """Until when it is asked without EDNS."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.target = target_of(self.endpoint)
        if self.endpoint.scheme in ("tls", "https"):
            self.lower_case_until = float("inf")  # nobody can forge there
        if self.endpoint.scheme == "https":
            self.channel = Channel(self.endpoint, Requests.maker(self.endpoint), self.tls)
        else:
            self.channel = Channel(self.endpoint, Messages, self.tls if self.endpoint.scheme == "tls" else None)

    def tls(self) -> ssl.SSLContext:
        """Return the context for connections to it: made once, for that reads the trust store."""
        if self._context is None:
            context = self._context = self.trust()
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["h2" if self.endpoint.scheme == "https" else "dot"])
        return self._context

    def run(self, coroutine: Coroutine[None, None, None]) -> None:
        """Go on in a task where a datagram each way will not do."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def read(self, data: bytes) -> Result:
        """Read a reply that fits."""
        if data[4:6] == b"\0\0":
            return UpstreamError(Failure.RCODE, f"{self.endpoint} answered {_rcode_name(data[3] & 0xF)}")
        try:
            response = read_response(data)
        except WireError as error:
            return UpstreamError(Failure.MALFORMED, f"{self.endpoint} sent a malformed answer: {error}")
        except Exception as error:  # whoever waits has to be told, whatever it was
            _LOG.exception("an answer of %s could not be read", self.endpoint)
            return UpstreamError(Failure.MALFORMED, f"{self.endpoint}: {type(error).__name__}")
        if response.rcode not in _USABLE:
            return UpstreamError(Failure.RCODE, f"{self.endpoint} answered {_rcode_name(response.rcode)}")
        if _is_lame(response):
            return UpstreamError(Failure.RCODE, f"{self.endpoint} does not know, and asks nobody (lame)")
        return response

    def answered(self, taken: float) -> None:
        """Note that it gave a usable answer."""
        self.tally.answered(taken)
        self.rtt = taken if not self.rtt else self.rtt * 0.8 + taken * 0.2
        self.failures, self.refusals, self.rests_until = 0, 0, 0.0

    async def close(self) -> None:
        """Give up what is on its way; nobody is called."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.channel.close()

    def failed(self, error: UpstreamError, start: float, now: float, patience: float) -> None:
        """Note that it did not, though it was asked at `start`."""
        self.tally.failed(error.failure)
        if error.failure is Failure.NONE_LEFT or start < self.rested_at:
            return  # not its fault; or one of hundreds that were on their way when it fell silent
        if error.failure in _ABOUT_NAMES and self.refusals < _REFUSALS:
            self.refusals += 1
            self.failures, self.rests_until = 0, 0.0
            self.rtt = self.rtt or patience / 4  # to say no quickly is not to be the fastest
            return  # it is there, and the next name may be one that it likes better
        self.failures += 1
        self.rtt = max(self.rtt, patience / 4)  # so that the next one is no less patient, and it is asked later
        if self.failures >= _PATIENCE:
            rest = min(2.0 ** min(self.failures - _PATIENCE, 60), _LONGEST_REST)  # a float ends at 2 ** 1024
            self.rests_until, self.rested_at = now + rest, now
            if now >= self.told_until:
                self.told_until = now + _TELL_AGAIN
                _LOG.warning("upstream %s rests for %.0f s: %s", self.endpoint, rest, error)

    def patience(self, timing: Timing) -> float:
        """Return how long to wait for it."""
        attempt = timing.attempt
        if not self.rtt:
            return attempt
        # Spelt out: with min() and max() it takes half a microsecond.
        wait, least = 4 * self.rtt, attempt if attempt < 0.4 else 0.4
        if wait <= least:
            return least
        most = attempt if attempt > 2.0 else 2.0
        return wait if wait < most else most


def _is_lame(response: Response) -> bool:
    """Say whether a response says nothing at all: it is not from the zone itself, and a referral (RFC 2308 section
    2.2), or empty and from a server that asks no others. To pass it on would say that there are no such records.
    """
    if response.answers or response.rcode != Rcode.NOERROR or response.flags & AA:
        return False
    types = {record.rtype for record in response.authority}
    return Type.SOA not in types and (Type.NS in types or not response.flags & RA)


def _rcode_name(code: int) -> str:
    try:
        return Rcode(code).name
    except ValueError:
        return f"RCODE{code}"


class _Attempt(Sending):
    """One question put to one upstream at a time: over UDP by callbacks alone, over anything else in a task.

    One object for all that there is to know on the way. Objects that each know a part, and closures over them, cost
    more than the query.
    """

    __slots__ = ("edns", "patience", "question", "start", "upstream")

    question: Asked
    upstream: Upstream
    start: float
    patience: float
    edns: bool
    """The query has an OPT record."""

    def over(self, result: Result, now: float) -> None:
        """Take what came of it."""
        raise NotImplementedError

    def put(self, upstream: Upstream, now: float, patience: float) -> None:
        """Ask an upstream. `over` is called once, maybe before this returns."""
        upstream.tally.asked += 1
        if upstream.failures >= _PATIENCE:
            upstream.rests_until = now + patience  # one query sees whether it is back, the others need not wait
        question = self.question
        self.ident, name = random_question(question.name)
        if now < upstream.lower_case_until:
            name = question.name
        self.asked = name + question.qtype.to_bytes(2) + _CLASS
        self.upstream, self.target, self.start, self.patience = upstream, upstream.target, now, patience
        self.edns = now >= upstream.plain_until
        if upstream.endpoint.scheme == "udp":
            upstream.datagrams.send(self, self._packet(self.ident), now, patience)
        else:
            upstream.run(self._run())

    def _packet(self, ident: int) -> bytes:
        question = self.question
        return encode_query(
            ident,
            self.asked,
            dnssec_ok=question.dnssec_ok,
            checking_disabled=question.checking_disabled,
            edns=self.edns,
        )

    def received(self, data: bytes, found: Fit, now: float) -> None:
        """Take the first datagram that fits."""
        if found is not Fit.GOOD:
            self.upstream.run(self._run())
        elif self.question.plain(data):
            self.upstream.answered(now - self.start)
            if not self.edns:
                self._note_plain()
            self.over(None, now)
        elif self._without_edns(data):
            self.ident = random_id()
            left = self.start + self.patience - now
            self.upstream.datagrams.send(self, self._packet(self.ident), now, left)
        else:
            self._end(self._read(data), now)

    def unheard(self, error: UpstreamError, now: float) -> None:
        """Take what went wrong on the way."""
        self._end(error, now)

    async def _run(self) -> None:
        """Ask over a stream."""
        result: Result
        try:
            async with asyncio.timeout_at(self.start + self.patience):
                data = await self._fetch()
                if self._without_edns(data):
                    data = await self._fetch()
            result = None if self.question.plain(data) else self._read(data)
        except UpstreamError as error:
            result = error.with_traceback(None)  # which refers to this frame, and so to itself
        except TimeoutError:
            endpoint = self.upstream.endpoint
            result = UpstreamError(Failure.TIMEOUT, f"{endpoint} did not answer in {self.patience:.1f} s")
        except Exception as error:  # as in Upstream.read
            _LOG.exception("a query to %s failed", self.upstream.endpoint)
            result = UpstreamError(Failure.NETWORK, f"{self.upstream.endpoint}: {type(error).__name__}")
        self._end(result, asyncio.get_running_loop().time())

    async def _fetch(self) -> bytes:
        upstream, ident = self.upstream, random_id()
        data = await upstream.channel.ask(self._packet(ident))
        found = fit(data, ident, self.asked)
        if found is Fit.OTHER_CASE:
            # Over a stream it was no forger who changed the case. Until it has been seen there, a reply over UDP
            # with another case is not believed.
            upstream.lower_case_until = self.start + _CASE_REST
        elif found is Fit.STRAY:
            raise UpstreamError(Failure.MALFORMED, f"{upstream.endpoint} answered another question")
        elif found is Fit.TRUNCATED:
            raise UpstreamError(Failure.MALFORMED, f"{upstream.endpoint} cut an answer short over a stream")
        return data

    def _read(self, data: bytes) -> Result:
        """Read what was not plain."""
        result = self.upstream.read(data)
        if isinstance(result, Response):
            try:
                self.question.check(result)
            except WireError as error:
                return UpstreamError(Failure.MALFORMED, f"{self.upstream.endpoint} sent a malformed answer: {error}")
        return result

    def _without_edns(self, data: bytes) -> bool:
        """Say whether to ask again as in 1987: the upstream knows no EDNS (RFC 6891 section 7)."""
        if self.edns and data[3] & 0xF in (Rcode.FORMERR, Rcode.NOTIMP) and data[10:12] == b"\0\0":
            self.edns = False
            return True
        return False

    def _note_plain(self) -> None:
        """Remember for a while that the upstream answers without EDNS only. What it says no to either way is about
        the question, and without EDNS no client could validate anything.
        """
        if self.start >= self.upstream.plain_until:
            self.upstream.plain_until = self.start + _EDNS_REST

    def _end(self, result: Result, now: float) -> None:
        if isinstance(result, UpstreamError):
            self.upstream.failed(result, self.start, now, self.patience)
        else:
            self.upstream.answered(now - self.start)
            if not self.edns:
                self._note_plain()
        self.over(result, now)


class _Flight(_Attempt):
    """A question on its way through the upstreams of a pool, one after another."""

    __slots__ = ("_deadline", "_done", "_last", "_next", "_pool", "_refused", "_round")

    def __init__(self, pool: "Pool", question: Asked, deadline: float, done: Callable[[Result], None]) -> None:
        self.question = question
        self._pool = pool
        self._deadline = deadline
        self._done = done
        self._next: list[Upstream] = []
        self._round = 0
        self._refused: tuple[Upstream, ...] = ()
        self._last: UpstreamError | None = None

    def go(self, now: float) -> None:
        """Ask the next one."""
        while now < self._deadline:
            if not self._next:
                self._round += 1
                if self._round > 2:  # a datagram may be lost; whoever said no is not asked again
                    break
                self._next = self._pool.order(now)
            upstream = self._next.pop(0)
            if not self._refused or not any(upstream is other for other in self._refused):
                self.put(upstream, now, min(upstream.patience(self._pool.timing), self._deadline - now))
                return
        self._done(self._last or UpstreamError(Failure.NONE_LEFT, "no upstream answered"))

    def over(self, result: Result, _: float) -> None:
        """Go on if that was nothing."""
        if not isinstance(result, UpstreamError):
            self._done(result)
            return
        self._last = result
        if result.failure is not Failure.TIMEOUT:
            self._refused += (self.upstream,)
        self.go(asyncio.get_running_loop().time())  # hundreds may have failed in this moment, and gone on before


class _Race:
    """A question on its way to all upstreams at once. The losers go on, so that it is known how they are."""

    __slots__ = ("_done", "_left", "_over")

    def __init__(self, left: int, done: Callable[[Result], None]) -> None:
        self._left = left
        self._over = False
        self._done = done

    def arrived(self, result: Result) -> None:
        """Take the result of one."""
        self._left -= 1
        if not self._over and (not self._left or not isinstance(result, UpstreamError)):
            self._over = True
            self._done(result)


class _Runner(_Attempt):
    """One of a race."""

    __slots__ = ("_race",)

    def __init__(self, race: _Race, question: Asked) -> None:
        self.question = question
        self._race = race

    def over(self, result: Result, _: float) -> None:
        """Come in."""
        self._race.arrived(result)


class Pool:
    """Upstreams that stand in for each other."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        strategy: Literal["fastest", "parallel", "ordered"] = "fastest",
        timing: Timing = Timing(),  # noqa: B008 -- immutable
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        tally: Tally | None = None,
    ) -> None:
        tally = tally or Tally()
        self.timing = timing
        self._datagrams = Datagrams()
        self.upstreams = [
            Upstream(endpoint, self._datagrams, trust, tally.upstream(str(endpoint))) for endpoint in endpoints
        ]
        self._strategy = strategy

    def begin(self, question: Asked, done: Callable[[Result], None], deadline: float | None = None) -> None:
        """Ask for the first usable answer, or the last upstream's error. `done` is called once, maybe at once, and by
        the `deadline` on the loop's clock where there is one from before.

        Callbacks all the way: a task for every query costs more than the query.
        """
        if not self.upstreams:
            done(UpstreamError(Failure.NONE_LEFT, "there is no upstream to ask"))
            return
        now = asyncio.get_running_loop().time()
        if deadline is None:
            deadline = now + self.timing.total
        elif now >= deadline:
            done(UpstreamError(Failure.TIMEOUT, "there was no time left to ask"))
            return
        if self._strategy == "parallel":
            chosen = [upstream for upstream in self.upstreams if upstream.rests_until <= now] or self.upstreams
            race = _Race(len(chosen), done)
            for upstream in chosen:
                patience = min(deadline - now, 2 * upstream.patience(self.timing))
                _Runner(race, question).put(upstream, now, patience)
            return
        _Flight(self, question, deadline, done).go(now)

    async def ask(self, question: Question) -> Response:
        """Return the first usable response.

        Raises:
            UpstreamError: there was none; the error is the last upstream's.
        """
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def done(result: Result) -> None:
            if answer.done():
                return  # nobody waits any more
            if isinstance(result, UpstreamError):
                answer.set_exception(result)
            elif isinstance(result, Response):
                answer.set_result(result)

        self.begin(question, done)
        return await answer

    def order(self, now: float) -> list[Upstream]:
        """Return all upstreams, those that rest last: when nobody else is left, even they are asked."""
        if len(self.upstreams) == 1:
            return self.upstreams.copy()
        awake = [upstream for upstream in self.upstreams if upstream.rests_until <= now]
        resting = [upstream for upstream in self.upstreams if upstream.rests_until > now]
        if self._strategy == "fastest" and len(awake) > 1:
            awake.sort(key=lambda upstream: upstream.rtt)
            if random.random() < _EXPLORE:
                awake.insert(0, awake.pop(random.randrange(1, len(awake))))
        resting.sort(key=lambda upstream: upstream.rests_until)
        return awake + resting

    @property
    def connections(self) -> int:
        """Connections that are open, and queries on their way in datagrams."""
        return len(self._datagrams) + sum(upstream.channel.is_open for upstream in self.upstreams)

    async def close(self) -> None:
        """Give up what is on its way; nobody is called. Whoever asks after that is served all the same."""
        self._datagrams.close()
        for upstream in self.upstreams:
            await upstream.close()
