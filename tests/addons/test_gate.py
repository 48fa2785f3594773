"""Tests of `addons.gate`: flows in, decisions out, and no way round when something breaks."""

from typing import Any

import pytest
from mitmproxy import http, websocket
from mitmproxy.test import tflow, tutils

from gateway.decision import Reason
from gateway.proxy.head import HeadError
from gateway.proxy.layers import REFUSED
from tests.addons.flows import a_flow, a_gate, visited
from tests.builders import an_address


async def test_allowed() -> None:
    """An allowed request goes on, and is recorded when it has ended."""
    gate, judge = a_gate()
    flow = a_flow()
    visit = visited(gate, flow)
    await gate.requestheaders(flow)
    assert flow.response is None
    assert gate.approved(flow.client_conn.id, "good.test", 80) == (an_address("127.0.0.1"),)
    assert callable(flow.request.stream)
    assert flow.request.stream(b"12345") == b"12345"
    gate.request(flow)
    flow.response = tutils.tresp(headers=http.Headers([(b"Alt-Svc", b"h3")]))
    gate.responseheaders(flow)
    assert "alt-svc" not in flow.response.headers
    assert callable(flow.response.stream)
    flow.response.stream(b"123")
    gate.response(flow)
    (line,) = judge.ledger.lines
    assert line.outcome is not None
    asked = len("GET /a?b HTTP/1.1\r\nHost: good.test\r\nUser-Agent: curl/8\r\n\r\n") + 5
    answered = len("HTTP/1.1 200 OK\r\nAlt-Svc: h3\r\n\r\n") + 3
    assert (line.outcome.octets_out, line.outcome.octets_in, line.outcome.status) == (asked, answered, 200)
    assert not visit.passages


async def test_denied() -> None:
    """A denied request is answered, and nothing of it goes on."""
    gate, judge = a_gate()
    flow = a_flow("evil.test")
    visited(gate, flow)
    await gate.requestheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 403
    assert flow.response.headers["X-Gateway-Reason"] == "default-deny"
    assert flow.response.headers["Connection"] == "close"
    assert flow.metadata[REFUSED]
    assert flow.request.stream is False
    gate.response(flow)
    assert len(judge.ledger.lines) == 1


async def test_hop_by_hop() -> None:
    """What is meant for the gateway does not reach the origin."""
    gate, _ = a_gate()
    flow = a_flow()
    for name in ("Proxy-Authorization", "Proxy-Connection", "Upgrade", "HTTP2-Settings"):
        flow.request.headers[name] = "h2c"
    visited(gate, flow)
    await gate.requestheaders(flow)
    assert set(name.lower() for name in flow.request.headers) == {"host", "user-agent"}  # noqa: C401


async def test_unknown_client() -> None:
    """A request of a connection that nobody announced is denied."""
    gate, _ = a_gate()
    flow = a_flow()
    await gate.requestheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 403


async def test_undecided_request() -> None:
    """A request that reaches its end without a decision is denied."""
    gate, judge = a_gate()
    flow = a_flow()
    visited(gate, flow)
    gate.request(flow)
    assert flow.response is not None
    assert judge.ledger.denials == [Reason.INTERNAL_ERROR]


async def test_refused_by_mitmproxy() -> None:
    """What mitmproxy itself refuses is recorded."""
    gate, judge = a_gate()
    flow = a_flow()
    visited(gate, flow)
    flow.error = tflow.terr("invalid header")
    await gate.requestheaders(flow)
    assert judge.ledger.denials == [Reason.MALFORMED]


LARGE: dict[str, dict[str, Any]] = {
    "more fields than allowed": {"headers": http.Headers([(b"host", b"good.test"), *[(b"x", b"y")] * 200])},
    "longer fields than allowed": {"headers": http.Headers([(b"host", b"good.test"), (b"x", b"y" * 40_000)])},
    "a longer path than a head may be": {"path": b"/" + b"y" * 40_000},
}


@pytest.mark.parametrize("changes", LARGE.values(), ids=LARGE)
async def test_large_head(changes: dict[str, Any]) -> None:
    """A head that is larger than allowed is refused, also where mitmproxy read it (HTTP/2)."""
    gate, judge = a_gate()
    flow = a_flow(**changes)
    visited(gate, flow)
    await gate.requestheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 431
    assert judge.ledger.denials == [Reason.MALFORMED]


async def test_broken_decision() -> None:
    """A decision that raises is a denial."""
    gate, judge = a_gate()
    flow = a_flow()
    visited(gate, flow)
    judge.broken = True
    await gate.requestheaders(flow)
    assert flow.response is not None
    assert flow.response.headers["X-Gateway-Reason"] == "internal-error"
    assert judge.ledger.denials == [Reason.INTERNAL_ERROR]


class Unreadable:
    """Stands in for the visits of a gate, and breaks whatever asks."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("injected")

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("injected")


HOOKS = ["requestheaders", "request", "responseheaders", "response", "error", "websocket_message", "websocket_end"]


@pytest.mark.parametrize("hook", HOOKS)
async def test_every_hook_fails_closed(hook: str) -> None:
    """Whatever breaks inside a hook, the hook does not raise, and the flow is denied."""
    gate, _ = a_gate()
    flow = a_flow()
    flow.response = tutils.tresp() if "response" in hook else None
    if hook.startswith("websocket"):
        flow.websocket = websocket.WebSocketData()
    flow.live = True
    gate.visits = Unreadable()  # type: ignore[assignment]  # broken on purpose
    result = getattr(gate, hook)(flow)
    if result is not None:
        await result
    assert flow.metadata[REFUSED]
    assert flow.response is not None
    assert flow.response.status_code == 403


async def test_unreadable_head() -> None:
    """A head that cannot be read is answered with its cause, and recorded."""
    gate, judge = a_gate()
    flow = a_flow()
    visited(gate, flow)
    answer = gate.refuse_head(flow.client_conn.id, HeadError("bare CR", 400))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert judge.ledger.denials == [Reason.MALFORMED]
    assert gate.refuse_head("nobody", HeadError("x")) == b""


async def test_nothing_approved() -> None:
    """Without a decision there is no address to connect to."""
    gate, _ = a_gate()
    assert gate.approved("nobody", "good.test", 80) == ()
    flow = a_flow()
    visited(gate, flow)
    assert gate.approved(flow.client_conn.id, "good.test", 80) == ()


async def test_leaving_records_what_was_under_way() -> None:
    """A client that leaves in the middle of a request leaves a line."""
    gate, judge = a_gate()
    flow = a_flow()
    visited(gate, flow)
    await gate.requestheaders(flow)
    gate.leave(flow.client_conn.id)
    (line,) = judge.ledger.lines
    assert line.outcome is not None
    assert line.outcome.error == "the client left"
