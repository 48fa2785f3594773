"""Everything that waits waits for ever: each has to end with a denial, within the limits of the policy file."""

from types import CodeType, FunctionType
from typing import Any

import pytest

from tests.integration.faults.bench import Bench
from tests.integration.faults.injection import waiting_functions
from tests.integration.faults.test_functions import MODULES

pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets of what broke, closed by the collector
)

FUNCTIONS: dict[str, FunctionType] = {name: each for module in MODULES for name, each in waiting_functions(module)}
SHIMS = {
    "gateway.proxy.inspect.Handler.serve": "the connection itself",
    "gateway.proxy.inspect.Handler._is_let_in": "has the limit",
    "gateway.proxy.lean.LeanHandler.handle_client": "the connection itself",
    "gateway.proxy.lean.LeanHandler.hook_task": "calls the hook, which has a limit",
    "gateway.proxy.inspect.Handler.handle_hook": "calls the hook, which has a limit",
    "gateway.proxy.inspect.Handler.server_event": "never waits but for itself",
    "gateway.proxy.lean.LeanHandler.server_event": "never waits",
    "gateway.proxy.inspect.Handler.open_connection": "calls what has the limit",
    "gateway.proxy.inspect.Handler._open": "has the limit",
    "gateway.proxy.door.Door._hear": "calls what has the limit",
    "gateway.proxy.door.Door._go": "calls what has limits",
    "gateway.proxy.door.Door._enter": "the handshake has a limit of the event loop",
    "gateway.proxy.door.Door._announced": "has the limit",
    "gateway.proxy.pipes.Pipe.read": "waits for a slow writer: idle and lifetime limits",
    "gateway.proxy.turns.Turns.take": "what `Pipe.read` waits for, too",
}
"""These only pass on what waits. Held up themselves they serve nobody, and need not say so."""
NEVER = {
    "gateway.proxy.door.Door.close": "stopping",
    "gateway.proxy.front.Front.start": "starting",
    "gateway.proxy.front.Front._served_by_loop": "starting",
    "gateway.proxy.front.Front._give_back": "changes who accepts",
    "gateway.proxy.front.Front._serve": "waits for the event loop, in a flood",
    "gateway.proxy.server.serve": "the whole proxy",
    "gateway.proxy.server._follow": "waits for reloads",
    "gateway.proxy.server.Proxy.start": "starting",
    "gateway.proxy.server.Proxy.stop": "stopping",
    "gateway.proxy.roles.Resolver.lookup": "a type",
    "gateway.proxy.pipes.Pipe.drain": "waits for a slow reader, whose octets are on their way",
    "gateway.proxy.inspect.Handler.drain_writers": "calls that, and waits for the layers to take what has come",
    "gateway.proxy.inspect.Handler._not_opened": "tells the layers, which never wait",
}
"""These serve nobody in particular."""


async def _for_ever(*_: Any, **__: Any) -> None:
    import asyncio  # runs in other modules

    await asyncio.Event().wait()


def _held_up(function: FunctionType) -> CodeType:
    """Return code that takes a function's place: with its free variables, which are not looked at."""
    return _for_ever.__code__.replace(co_freevars=function.__code__.co_freevars)


def test_the_tables_name_what_there_is() -> None:
    """A function that has another name now is not excused by its old one."""
    assert {*SHIMS, *NEVER} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in NEVER])
def test_waits_for_ever(bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes is a denial in time, with one line that says so, and other clients are served meanwhile."""
    function = FUNCTIONS[name]
    scenario = bench.scenarios_of(bench.codes[name])[0]
    bench.stand.limits(True)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(function, "__code__", _held_up(function))
            course = bench.play(scenario, (), lambda _: None, wait=0.3 if name in SHIMS else 5)
    finally:
        bench.stand.limits(False)
    assert (course.served, course.octets, course.forbidden) == (0, 0, 0)
    if name not in SHIMS:
        assert course.ended
        assert len(course.denials) == 1
        in_time = {"internal-error", "name-unresolvable", "upstream-failure", "malformed", "rate-limit"}
        assert set(course.denials) <= {*in_time, *bench.clean[scenario].denials}
        assert len(course.lines) == 1
    bench.goes_on()


def test_the_resolver_waits_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that never ends is a denial, for tunnels and for plain requests."""
    from gateway.dns.resolver import Resolver

    bench.stand.limits(True)
    try:
        for scenario in ("plain", "spliced", "inspected"):
            with monkeypatch.context() as patch:
                patch.setattr(Resolver.lookup, "__code__", _for_ever.__code__)
                course = bench.play(scenario, (), lambda _: None)
            assert (course.served, course.octets) == (0, 0)
            assert course.denials in (["name-unresolvable"], ["upstream-failure"])
            assert len(course.lines) == 1
    finally:
        bench.stand.limits(False)
    bench.goes_on()
