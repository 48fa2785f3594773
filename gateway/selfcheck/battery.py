"""Runs the battery against a proxy, and keeps score by number."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.selfcheck.cases import NUMBERS, Case, Where, cases
from gateway.selfcheck.client import Target
from gateway.selfcheck.scripts import SCRIPTS, Stage
from gateway.selfcheck.world import World

_SETTLE = 0.02
"""Seconds that what a proxy has begun may still take to arrive."""


@dataclass(slots=True)
class Score:
    """What came of one number."""

    number: int
    tried: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What the number is about."""
        return NUMBERS[self.number]

    @property
    def passed(self) -> bool:
        """Whether every attempt was resisted."""
        return not self.failures


async def run(
    target: Target, world: World, *, patience: float = 0.5, progress: Callable[[str], None] = lambda _: None
) -> list[Score]:
    """Try everything, one after the other. `patience` is how long a silent proxy is listened to, in seconds."""
    scores: dict[int, Score] = {}

    def note(number: int, name: str, problem: str) -> None:
        score = scores.setdefault(number, Score(number))
        score.tried += 1
        if problem:
            score.failures.append(f"{name}: {problem}")

    for number, name, script in SCRIPTS:
        progress(f"{number} {name}")
        _forget(world)
        try:
            async with asyncio.timeout(60):
                problem = await script(Stage(target, world, patience))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            problem = f"the proxy does not answer: {error!r}"
        note(number, name, problem)
    for case in cases():
        progress(str(case))
        _forget(world)
        try:
            problem = await _try(target, world, case, patience)
        except OSError as error:
            problem = f"the proxy does not answer: {error}"
        note(case.number, case.name, problem)
    return [scores[number] for number in sorted(scores)]


async def _try(target: Target, world: World, case: Case, patience: float) -> str:
    """Return what went wrong, or nothing."""
    answer = await target.attempt(case, patience)
    await asyncio.sleep(_SETTLE)
    good, connections, octets = world.touched()
    if connections:
        return f"the forbidden origin was connected to, and got {octets} octets"
    if good and case.where not in (Where.INSIDE, Where.HTTP2):
        return f"{good} octets reached the origin"
    if b"\r\n\r\nok" in answer or (good and b"/ HTTP/1.1\r\n" in world.good.received):
        return "the request was served"
    # A CONNECT that was answered with 200 proves nothing: some proxies only then look, and hang up.
    if case.where is Where.PROXY and answer.startswith(b"HTTP/1.1 2") and not case.sent.startswith(b"CONNECT"):
        return "it was accepted"
    return ""


def _forget(world: World) -> None:
    for origin in (world.good, world.evil):
        origin.connections = origin.octets = 0
        origin.received.clear()
    world.names.asked.clear()
