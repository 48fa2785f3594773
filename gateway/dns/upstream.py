"""Upstream resolvers: which one to ask, for how long, and whom to ask next.

An upstream that does not answer, refuses, fails or lies is passed over for the next one, and rested for longer each
time. What is learnt about one (its speed, whether it repeats letter case, whether it knows EDNS) stays with it.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.dns.exchange import (
    Failure,
    Fit,
    UpstreamError,
    fit,
    over_tcp,
    over_udp,
    random_case,
    random_id,
)
from gateway.dns.message import encode_query
from gateway.dns.settings import Endpoint, Timing
from gateway.dns.wire import IN, Rcode, Response, WireError, read_response

_LOG = logging.getLogger(__name__)

_USABLE = (Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.YXDOMAIN)
_PATIENCE = 3
"""Failures in a row before an upstream is rested."""
_LONGEST_REST = 60.0
_EXPLORE = 1 / 32
"""How often the fastest upstream is passed over for another one, to see whether that is faster by now."""
_CASE_REST = 3600.0
"""How long an upstream that does not repeat letter case is asked in lower case."""


class Question(NamedTuple):
    """What an upstream is asked."""

    name: bytes
    """Wire form, lower case."""
    qtype: int
    dnssec_ok: bool = False
    checking_disabled: bool = False


@dataclass(slots=True)
class Upstream:
    """One resolver, and what is known of it."""

    endpoint: Endpoint
    rtt: float = 0.0
    """Smoothed, in seconds; 0 until it has answered."""
    failures: int = 0
    """In a row."""
    rests_until: float = 0.0
    lower_case_until: float = 0.0
    edns: bool = True

    async def ask(self, question: Question, patience: float) -> Response:
        """Ask this upstream once.

        Raises:
            UpstreamError: it gave no usable answer.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.timeout(patience):
                response = await self._ask(question, start)
        except UpstreamError as error:
            self._failed(error, loop.time(), patience)
            raise
        except TimeoutError:
            late = UpstreamError(Failure.TIMEOUT, f"{self.endpoint} did not answer in {patience:.1f} s")
            self._failed(late, loop.time(), patience)
            raise late from None
        taken = loop.time() - start
        self.rtt = taken if not self.rtt else self.rtt * 0.8 + taken * 0.2
        self.failures, self.rests_until = 0, 0.0
        return response

    async def _ask(self, question: Question, now: float) -> Response:
        tail = question.qtype.to_bytes(2, "big") + IN.to_bytes(2, "big")
        name = random_case(question.name) if now >= self.lower_case_until else question.name
        data = await self._fetch(name + tail, question, now)
        if self.edns and data[3] & 0xF in (Rcode.FORMERR, Rcode.NOTIMP) and data[10:12] == b"\0\0":
            self.edns = False  # RFC 6891 section 7: it knows no EDNS, so ask as in 1987
            data = await self._fetch(name + tail, question, now)
        if data[4:6] == b"\0\0":
            raise UpstreamError(Failure.RCODE, f"{self.endpoint} answered {_rcode_name(data[3] & 0xF)}")
        try:
            response = read_response(data)
        except WireError as error:
            raise UpstreamError(Failure.MALFORMED, f"{self.endpoint} sent a malformed answer: {error}") from None
        if response.rcode not in _USABLE:
            raise UpstreamError(Failure.RCODE, f"{self.endpoint} answered {_rcode_name(response.rcode)}")
        return response

    async def _fetch(self, asked: bytes, question: Question, now: float) -> bytes:
        """Return the octets of the reply, over TCP where UDP will not do."""
        ident = random_id()
        packet = encode_query(
            ident,
            asked,
            dnssec_ok=question.dnssec_ok,
            checking_disabled=question.checking_disabled,
            edns=self.edns,
        )
        if self.endpoint.scheme == "udp":
            data, found = await over_udp(self.endpoint, packet, lambda reply: fit(reply, ident, asked))
            if found is Fit.GOOD:
                return data
        data = await over_tcp(self.endpoint, packet)
        found = fit(data, ident, asked)
        if found is Fit.OTHER_CASE:
            # Over TCP it was no forger who changed the case. Until it has been seen there, a reply over UDP with
            # another case is not believed.
            self.lower_case_until = now + _CASE_REST
            return data
        if found is Fit.STRAY:
            raise UpstreamError(Failure.MALFORMED, f"{self.endpoint} answered another question")
        if found is Fit.TRUNCATED:
            raise UpstreamError(Failure.MALFORMED, f"{self.endpoint} cut an answer short over TCP")
        return data

    def _failed(self, error: UpstreamError, now: float, patience: float) -> None:
        if error.failure is Failure.RCODE:
            return  # it is there, and the next name may be one that it likes better
        self.failures += 1
        self.rtt = max(self.rtt, patience / 4)  # so that the next one is no less patient, and it is asked later
        if self.failures >= _PATIENCE:
            rest = min(2.0 ** (self.failures - _PATIENCE), _LONGEST_REST)
            self.rests_until = now + rest
            _LOG.warning("upstream %s rests for %.0f s: %s", self.endpoint, rest, error)

    def patience(self, timing: Timing) -> float:
        """Return how long to wait for it."""
        if not self.rtt:
            return timing.attempt
        return min(max(4 * self.rtt, min(0.4, timing.attempt)), max(2.0, timing.attempt))


def _rcode_name(code: int) -> str:
    try:
        return Rcode(code).name
    except ValueError:
        return f"RCODE{code}"


class Pool:
    """Upstreams that stand in for each other."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        strategy: Literal["fastest", "parallel", "ordered"] = "fastest",
        timing: Timing = Timing(),  # noqa: B008 -- immutable
    ) -> None:
        self.upstreams = [Upstream(endpoint) for endpoint in endpoints]
        self._strategy = strategy
        self._timing = timing

    async def ask(self, question: Question) -> Response:
        """Return the first usable answer.

        Raises:
            UpstreamError: there was none; the error is the last upstream's.
        """
        if not self.upstreams:
            raise UpstreamError(Failure.NONE_LEFT, "there is no upstream to ask")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timing.total
        if self._strategy == "parallel":
            return await self._ask_all(question, self._order(loop.time()))
        last = UpstreamError(Failure.NONE_LEFT, "no upstream answered")
        refused: set[int] = set()
        for _ in range(2):  # a datagram may be lost; whoever said no is not asked again
            for upstream in self._order(loop.time()):
                left = deadline - loop.time()
                if left <= 0:
                    raise last
                if id(upstream) in refused:
                    continue
                try:
                    return await upstream.ask(question, min(upstream.patience(self._timing), left))
                except UpstreamError as error:
                    last = error
                    if error.failure is not Failure.TIMEOUT:
                        refused.add(id(upstream))
        raise last

    async def _ask_all(self, question: Question, upstreams: list[Upstream]) -> Response:
        loop = asyncio.get_running_loop()
        waiting = {
            loop.create_task(upstream.ask(question, min(self._timing.total, 2 * upstream.patience(self._timing))))
            for upstream in upstreams
        }
        last: BaseException | None = None
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                failures = {task: task.exception() for task in done}
                for task, failure in failures.items():
                    if failure is None:
                        return task.result()
                    if not isinstance(failure, UpstreamError):
                        raise failure
                    last = failure
        finally:
            for task in waiting:
                task.cancel()
        assert last is not None
        raise last

    def _order(self, now: float) -> list[Upstream]:
        """Return all upstreams, those that rest last: when nobody else is left, even they are asked."""
        awake = [upstream for upstream in self.upstreams if upstream.rests_until <= now]
        resting = [upstream for upstream in self.upstreams if upstream.rests_until > now]
        if self._strategy == "fastest" and len(awake) > 1:
            awake.sort(key=lambda upstream: upstream.rtt)
            if random.random() < _EXPLORE:
                awake.insert(0, awake.pop(random.randrange(1, len(awake))))
        resting.sort(key=lambda upstream: upstream.rests_until)
        return awake + resting
