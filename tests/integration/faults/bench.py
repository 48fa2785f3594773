"""Plays scenarios while something is broken, and tells what came of it."""

import asyncio
import functools
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from gateway.policy import Policy
from gateway.request import Dial, HttpResponse
from tests.integration.faults.injection import Injector, functions, modules
from tests.integration.faults.scenarios import SCENARIOS
from tests.integration.faults.stand import HELLO, Stand
from tests.integration.proxy_rig import until

_DECIDE = Policy.decide.__code__
_GONE = 5.0
"""Seconds until every connection has ended, whatever broke: the lifetime of connections, and a little."""


class Fault(RuntimeError):
    """What is injected."""


def _break(times: int, made: Callable[[], BaseException]) -> Callable[[], Callable[[CodeType], None]]:
    def begin() -> Callable[[CodeType], None]:
        left = [times]

        def act(_: CodeType) -> None:
            if left[0]:
                left[0] -= 1
                raise made()

        return act

    return begin


KINDS: dict[str, Callable[[], Callable[[CodeType], None]]] = {
    "an error": _break(1, lambda: Fault("injected")),
    "an error each time": _break(-1, lambda: Fault("injected")),
    "out of memory": _break(1, lambda: MemoryError("injected")),
    "cancelled by nobody": _break(1, lambda: asyncio.CancelledError("injected")),
}
"""What may be raised, by name. A `CancelledError` is no `Exception`, and passes by who only thinks of those."""


@dataclass(slots=True)
class Course:
    """What came of a scenario."""

    answer: bytes
    lines: list[dict[str, Any]]
    octets: int
    """That arrived at the allowed origins."""
    forbidden: int
    """Connections to the forbidden origin."""
    ended: bool
    """Whether every connection was gone in time."""
    decisions: list[type]
    """What was decided before the fault, or at all without one."""
    hits: int = 0
    logged: list[str] = field(default_factory=list)

    @property
    def served(self) -> int:
        """How often the origin's words arrived."""
        return self.answer.count(HELLO)

    @property
    def denials(self) -> list[str]:
        """Reasons in the ledger."""
        return [line["event.reason"] for line in self.lines if line["gateway.verdict"] == "deny"]


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


class Bench:
    """The stand on its event loop, and what breaks things in it."""

    def __init__(self, runner: asyncio.Runner, stand: Stand) -> None:
        self.stand = stand
        self._runner = runner
        self._injector = Injector()
        self.codes: dict[str, CodeType] = {}
        self._caches: list[Any] = []
        for package in ("gateway", "addons"):
            for module in modules(package):
                self.codes.update(functions(module))
                self._caches += [
                    value
                    for value in vars(module).values()
                    if isinstance(value, functools._lru_cache_wrapper)
                    and value.__module__ == module.__name__
                    and value.__module__.startswith("gateway.proxy.")
                ]
        self.clean: dict[str, Course] = {}
        """Every scenario while nothing is broken."""
        self.reached: dict[CodeType, list[str]] = {}
        """The scenarios that come through each function."""
        for name in ("plain", "spliced", "inspected"):  # what is imported and looked up once is not to be watched
            self.play(name, (), lambda _: None)
        for name in SCENARIOS:
            seen: set[CodeType] = set()
            self.clean[name] = self.play(name, self.codes.values(), seen.add)
            for code in seen:
                self.reached.setdefault(code, []).append(name)

    def close(self) -> None:
        """Break nothing any more."""
        self._injector.close()

    def play(
        self,
        scenario: str,
        codes: Iterable[CodeType],
        act: Callable[[CodeType], None],
        *,
        wait: float = _GONE,
        written: bool = True,
    ) -> Course:
        """Play a scenario; `act` is called whenever one of these functions begins.

        `wait` is for every connection to end. `written`: whether the ledger can be.
        """
        for cache in self._caches:  # what was remembered would hide what breaks
            cache.cache_clear()
        self.stand.forget()
        decisions: list[type] = []
        hits: list[int] = []
        watched = frozenset(codes)

        def started(code: CodeType) -> None:
            before = len(decisions)
            if code is _DECIDE:
                decisions.append(type(sys._getframe(2).f_locals["request"]))
            if code in watched:
                try:
                    act(code)
                except BaseException:
                    hits.append(before)
                    raise

        log = _Log()
        logging.getLogger().addHandler(log)
        self._injector.arm((*watched, _DECIDE), started)
        try:
            course = self._runner.run(self._course(scenario, wait, 10 if written else 0))
        finally:
            self._injector.disarm()
            logging.getLogger().removeHandler(log)
        course.hits, course.logged = len(hits), log.said
        course.decisions = decisions[: hits[0]] if hits else decisions
        return course

    def scenarios_of(self, code: CodeType) -> list[str]:
        """Return the scenarios that come through a function: those with one request first."""
        return sorted(self.reached.get(code, ()), key=lambda name: SCENARIOS[name].lines != 1)

    async def _course(self, scenario: str, wait: float, writing: float) -> Course:
        stand = self.stand
        octets, forbidden = stand.good.octets + sum(map(len, stand.secure.requests)), stand.evil.connections
        answer = await SCENARIOS[scenario].act(stand)
        ended = True
        try:
            await until(lambda: not stand.open_connections, wait)
        except TimeoutError:
            ended = False
            await stand.forgive()
        return Course(
            answer=answer,
            lines=stand.lines(writing),
            octets=stand.good.octets + sum(map(len, stand.secure.requests)) - octets,
            forbidden=stand.evil.connections - forbidden,
            ended=ended,
            decisions=[],
        )

    def goes_on(self) -> None:
        """Assert that another client is served as if nothing had been."""
        course = self.play("plain", (), lambda _: None)
        assert (course.served, course.denials) == (1, [])
        assert len(course.lines) == 1

    def before_the_verdict(self, scenario: str, course: Course) -> bool:
        """Say whether something broke before the last word on the flow was spoken."""
        return len(course.decisions) < len(self.clean[scenario].decisions)

    def before_dialling(self, scenario: str, course: Course) -> bool:
        """Say whether something broke before an address was approved."""
        clean = self.clean[scenario].decisions
        known = [at for at, kind in enumerate(clean) if kind is Dial]
        return bool(known) and len(course.decisions) <= known[-1] and HttpResponse not in course.decisions
