"""Tests of `gateway.proxy.lean`: the order of events is mitmproxy's, and after a failure nothing is sent.

The handler at work is in tests/integration/test_proxy_inspect.py, with a hook of each kind that fails.
"""

import asyncio
import importlib.util
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http, options
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events, layer, mode_specs
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook

from gateway.proxy.lean import LeanContext, LeanHandler, make_lean, settled
from gateway.proxy.pipes import Pipe
from tests.gateway.proxy.fakes import FakeTransport


class Script(layer.Layer):
    """Calls a hook on every piece of data, then sends what the hook made of it."""

    flow: Any = None

    def _handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
        if isinstance(event, events.DataReceived):
            self.flow = bytearray(event.data)
            yield HttpRequestHook(self.flow)
            yield commands.SendData(self.context.client, bytes(self.flow))


class Handler(LeanHandler):
    """Hooks write their number behind the data; one that waits does so until it is let go."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        pipe = Pipe()
        pipe.take(self.transport, b"")
        master = Master(options.Options(), event_loop=asyncio.get_running_loop())
        settings: Any = settled(_with_defaults(master.options))
        super().__init__(master, pipe, pipe, settings, mode_specs.ProxyMode.parse("regular"))
        self.script = Script(self.layer.context)
        self.layer = self.script
        self.called = 0
        self.go = asyncio.Event()
        self.go.set()

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Write a number."""
        await self.go.wait()
        self.called += 1
        hook.args()[0].extend(b"%d" % self.called)

    async def receive(self, data: bytes) -> None:
        """Let data come."""
        await self.server_event(events.DataReceived(self.client, data))

    def log(self, message: str, level: int = 20, exc_info: Any = None) -> None:
        """Fail as the gateway's handler does."""
        self.stopped = True


def _with_defaults(found: options.Options) -> options.Options:
    add: Any = found.add_option
    add("validate_inbound_headers", bool, True, "")
    return found


async def test_a_hook_that_returns_is_answered_at_once() -> None:
    """No turn of the event loop lies between data and what is made of it."""
    handler = Handler()
    await handler.receive(b"a")
    await handler.receive(b"b")
    assert bytes(handler.transport.sent) == b"a1b2"


async def test_a_hook_that_waits_keeps_the_order() -> None:
    """What comes while a hook waits is seen after it."""
    handler = Handler()
    handler.go.clear()
    await handler.receive(b"a")
    await handler.receive(b"b")
    assert not handler.transport.sent
    handler.go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert bytes(handler.transport.sent) == b"a1b2"


class Asking(Script):
    """Calls hooks itself, and waits only for those that do."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler.script.context)
        self.handler = handler

    def _handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
        for command in super()._handle_event(event):
            if not isinstance(command, commands.StartHook) or not self.handler.answered(command):
                yield command


async def test_a_hook_that_its_layer_calls() -> None:
    """A layer that calls a hook goes on at once, or when the hook has returned; and no hook is called twice."""
    handler = Handler()
    handler.layer = Asking(handler)
    await handler.receive(b"a")
    assert bytes(handler.transport.sent) == b"a1"
    handler.go.clear()
    await handler.receive(b"b")
    await handler.receive(b"c")
    assert bytes(handler.transport.sent) == b"a1"
    handler.go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert bytes(handler.transport.sent) == b"a1b2c3"
    assert handler.called == 3


async def test_a_layer_whose_hook_failed_stays_where_it_is() -> None:
    """Nothing follows from a hook that has failed."""
    handler = Handler()
    handler.layer = Asking(handler)
    handler.stopped = True
    assert not handler.answered(HttpRequestHook(bytearray()))  # type: ignore[arg-type]
    assert not handler.transport.sent


async def test_nothing_is_sent_after_a_failure() -> None:
    """Once something failed, neither what was under way nor what comes gets through."""
    handler = Handler()
    handler.go.clear()
    await handler.receive(b"a")
    handler.stopped = True
    handler.go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    await handler.receive(b"b")
    assert handler.called == 1
    assert not handler.transport.sent


async def test_a_layer_that_fails() -> None:
    """A layer that raises is a failure, and ends nothing but its own connection."""
    handler = Handler()

    class Failing(layer.Layer):
        def _handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
            raise RuntimeError("injected")
            yield

    handler.layer = Failing(handler.script.context)
    await handler.receive(b"a")
    assert handler.stopped


def test_fork() -> None:
    """A fork has the same connections and a stack of its own."""
    client = Client(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128), state=ConnectionState.OPEN)
    context = LeanContext(client, options.Options())
    fork = context.fork()
    assert (fork.client, fork.server, fork.options) == (context.client, context.server, context.options)
    fork.layers.append(Script(fork))
    assert not context.layers


def test_settled_options(tmp_path: Path) -> None:
    """Settled options have every value of the others."""
    before = options.Options(confdir=str(tmp_path))
    after = settled(before)
    assert after.confdir == str(tmp_path)
    assert {name: getattr(after, name) for name in before.keys()} == {  # type: ignore[no-untyped-call]  # noqa: SIM118
        name: getattr(before, name)
        for name in before.keys()  # type: ignore[no-untyped-call]  # noqa: SIM118
    }


NAMES = ["host", "Host", b"HOST", "x", "\udcff", b"\xff", "ü", ""]


def as_delivered() -> Any:
    """Return mitmproxy's module of messages as it is delivered, whatever was made of the one in use."""
    assert http.__file__ is not None
    spec = importlib.util.spec_from_file_location("delivered", http.__file__)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["delivered"] = found  # its dataclasses look themselves up there
    try:
        spec.loader.exec_module(found)
    finally:
        del sys.modules["delivered"]
    return found


def told(headers: Any) -> list[object]:
    """Return all that is asked of headers."""
    asked = [(headers.get_all(name), headers.get(name), headers.get(name, "-"), name in headers) for name in NAMES]
    return [asked, headers.fields, [headers[name] for name in NAMES if name in headers], len(headers), list(headers)]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([], id="no fields"),
        pytest.param([(b"Host", b"a"), (b"hOST", b"b"), (b"X", b"")], id="twice, and empty"),
        pytest.param([(b"\xff", b"\xfe"), (b"\xc3\xbc", b"\xc3\xbc")], id="not ASCII"),
    ],
)
def test_lean_messages(fields: list[tuple[bytes, bytes]]) -> None:
    """A message is what it is in mitmproxy, and so is every answer about its headers."""
    make_lean()
    delivered = as_delivered()
    assert told(http.Headers(fields)) == told(delivered.Headers(fields))
    lean = http.Request.make("GET", "http://good.test/x", b"body", fields)
    usual = delivered.Request.make("GET", "http://good.test/x", b"body", fields)
    assert (lean.method, lean.url, lean.headers.fields, lean.content) == (
        usual.method, usual.url, usual.headers.fields, usual.content,
    )  # fmt: skip
