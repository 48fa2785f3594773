"""Every hook that mitmproxy calls us at breaks: mitmproxy would log that, and let the flow go on.

The hooks are read from the code, and each needs a row here.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy.certs import CertStore
from mitmproxy.hooks import all_hooks

import addons
import gateway.proxy
from tests.integration.faults.bench import KINDS, Bench

pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets of what broke, closed by the collector
)

HOOKS: dict[str, tuple[str, bool, bool]] = {
    "tls_start_client": ("inspected", False, True),
    "tls_start_server": ("inspected", False, True),
    "tls_established_server": ("pinned", False, True),
    "requestheaders": ("plain", False, True),
    "request": ("plain", False, True),
    "responseheaders": ("plain", False, False),
    "response": ("plain", True, False),
    "error": ("unanswered", False, False),
    "websocket_message": ("WebSocket", False, False),
    "websocket_end": ("WebSocket", True, False),
}
"""By name: a scenario that calls it, whether the origin's words had come by then, and whether nothing was sent."""
STANDALONE = {
    "load", "configure", "running", "done", "client_connected", "client_disconnected", "http_connect", "next_layer",
    "server_connect", "tcp_message", "tcp_end", "tcp_error",
}  # fmt: skip
"""Hooks of the script for mitmdump, which is for development: see `tests/addons/test_standalone.py`."""


def _methods() -> Iterator[tuple[str, str]]:
    """Yield the hooks that our classes define: where, and which."""
    for package in (addons, gateway.proxy):
        for path in sorted(Path(package.__path__[0]).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    for each in node.body:
                        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name in all_hooks:
                            yield path.stem, each.name


def test_every_hook_has_a_row(bench: Bench) -> None:
    """Who adds a hook says here what happens when it breaks."""
    assert set(bench.stand.proxy._inspector.hooks) == set(HOOKS)
    ours = set(_methods())
    assert {name for module, name in ours if module == "standalone"} == STANDALONE
    assert {name for module, name in ours if module != "standalone"} <= set(HOOKS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", HOOKS)
def test_broken_hook(bench: Bench, hook: str, kind: str) -> None:
    """A hook that raises ends its flow with one line that says so, and the next client is served."""
    scenario, served, unsent = HOOKS[hook]
    inspector = bench.stand.proxy._inspector
    codes = [getattr(function, "__func__", function).__code__ for function in inspector.hooks[hook]]
    course = bench.play(scenario, codes, KINDS[kind]())
    assert course.hits
    assert course.served == (1 if served else 0)
    assert course.denials == ["internal-error"]
    assert len(course.lines) == 1
    assert course.logged
    assert course.ended
    assert not course.forbidden
    if unsent:
        assert not course.octets
    bench.goes_on()


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_request_after_a_broken_hook(bench: Bench, kind: str) -> None:
    """On a kept connection, whose server is connected already, nothing of an undecided request is sent."""
    gate = bench.stand.proxy._inspector.gate
    times = [0]
    act = KINDS[kind]()

    def second(code: object) -> None:
        times[0] += 1
        if times[0] > 1:
            act(code)  # type: ignore[arg-type]

    course = bench.play("same place again", [type(gate).requestheaders.__code__], second)
    assert course.served == 1
    assert course.octets * 2 == bench.clean["same place again"].octets
    assert course.denials == ["internal-error"]
    assert len(course.lines) == 2
    bench.goes_on()


@pytest.mark.parametrize("kind", KINDS)
def test_no_leaf_certificate(bench: Bench, kind: str) -> None:
    """Where no certificate can be made for a client, its tunnel ends, and the origin hears nothing."""
    course = bench.play("inspected", [CertStore.get_cert.__code__], KINDS[kind]())
    assert course.hits
    assert (course.served, course.octets) == (0, 0)
    assert course.denials == ["internal-error"]
    assert course.logged
    bench.goes_on()
