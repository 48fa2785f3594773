"""Tests of `gateway.proxy.layers`: heads that could be read two ways never reach mitmproxy.

The layers at work, with clients and origins, are in tests/integration/test_proxy_inspect.py.
"""

import pytest
from mitmproxy import http, options
from mitmproxy.connection import Client as MitmClient
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestEndOfMessage,
    RequestHeaders,
    ResponseEndOfMessage,
    ResponseHeaders,
)

from gateway.filetypes import Look
from gateway.proxy.head import INSIDE, PLAIN, Form, HeadError, Limits
from gateway.proxy.layers import StrictHttp1Server


class Gatekeeper:
    """Says no in two words."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def limits(self) -> Limits:
        """Return small limits."""
        return Limits(octets=1000, fields=10)

    def refuse_head(self, client_id: str, error: HeadError) -> bytes:
        """Remember why."""
        self.refused.append(str(error))
        return b"refused"

    def malformed(self, client_id: str, detail: str) -> None:
        """Remember why."""
        self.refused.append(detail)

    def unreachable(self, flow: http.HTTPFlow, error: str) -> None:
        """Not reached here."""

    def proven(self, flow: http.HTTPFlow, server_id: str) -> bool:
        """Not reached here."""
        return False

    def withdraw(self, flow: http.HTTPFlow) -> bool:
        """Deny nothing after all."""
        return False

    def look(self, flow: http.HTTPFlow, response: http.Response) -> Look | None:
        """Not reached here."""

    def trailers(self, flow: http.HTTPFlow, trailers: http.Headers) -> bool:
        """Not reached here."""
        return False

    def failure(self, client_id: str, error: str) -> bytes:
        """Return the answer."""
        return b"failed"


def feed(data: bytes, forms: frozenset[Form] = PLAIN, *, whole: bool = True) -> tuple[list[object], Gatekeeper]:
    """Give octets to a server; return the commands it yields."""
    client = MitmClient(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128), state=ConnectionState.OPEN)
    gate = Gatekeeper()
    server = StrictHttp1Server(Context(client, options.Options()), forms, gate)
    found: list[object] = list(server.handle_event(events.Start()))
    for piece in [data] if whole else [data[i : i + 1] for i in range(len(data))]:
        found += server.handle_event(events.DataReceived(client, piece))
    return found, gate


CLEAN = b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n"


@pytest.mark.parametrize("whole", [True, False])
def test_a_clean_head_goes_on(whole: bool) -> None:
    """However it is split, it is one request for mitmproxy."""
    found, gate = feed(CLEAN, whole=whole)
    received = [c.event for c in found if isinstance(c, ReceiveHttp) and isinstance(c.event, RequestHeaders)]
    assert [event.request.host for event in received] == ["good.test"]
    assert not gate.refused


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("sentence", "data", "forms"),
    [
        ("two lengths", CLEAN[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", PLAIN),
        (
            "length and chunks",
            CLEAN[:-2] + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            PLAIN,
        ),
        ("a bare CR", CLEAN.replace(b"Host", b"X: a\rb\r\nHost"), PLAIN),
        ("an underscore in disguise", CLEAN[:-2] + b"Transfer-Encoding : chunked\r\n\r\n", PLAIN),
        ("origin-form to a proxy", b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", PLAIN),
        ("absolute-form inside a tunnel", CLEAN, INSIDE),
        ("too many octets", CLEAN[:-2] + b"X: " + b"a" * 2000 + b"\r\n\r\n", PLAIN),
    ],
)
def test_any_other_head_ends_the_connection(sentence: str, data: bytes, forms: frozenset[Form], whole: bool) -> None:
    """The gate's words are sent, the connection is closed, and mitmproxy hears of no request."""
    found, gate = feed(data, forms, whole=whole)
    assert len(gate.refused) == 1, sentence
    assert not [c for c in found if isinstance(c, ReceiveHttp) and isinstance(c.event, RequestHeaders)]
    sent = [c.data for c in found if isinstance(c, commands.SendData)]
    assert sent == [b"refused"]
    assert any(isinstance(c, commands.CloseConnection) for c in found)


def test_a_request_ahead_of_its_turn_waits() -> None:
    """What comes behind a request, in however many pieces, is not taken for more of it."""
    client = MitmClient(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128), state=ConnectionState.OPEN)
    server = StrictHttp1Server(Context(client, options.Options()), PLAIN, Gatekeeper())
    found: list[object] = list(server.handle_event(events.Start()))
    for piece in (CLEAN, CLEAN[:10], CLEAN[10:]):
        found += server.handle_event(events.DataReceived(client, piece))
    received = [c.event for c in found if isinstance(c, ReceiveHttp)]
    assert [type(each) for each in received] == [RequestHeaders, RequestEndOfMessage]
    response = http.Response.make(200, b"", {"Content-Length": "0"})
    found = [
        command
        for event in (ResponseHeaders(1, response, True), ResponseEndOfMessage(1))
        for command in server.handle_event(event)
    ]
    received = [c.event for c in found if isinstance(c, ReceiveHttp)]
    assert [(type(each), each.stream_id) for each in received] == [(RequestHeaders, 3), (RequestEndOfMessage, 3)]
