"""Tests of `addons.asked`: what the policy sees of a flow."""

import pytest
from mitmproxy import http
from mitmproxy.test import tutils

from addons.asked import answer_head, blank_request, request_head, strange_field, to_request
from gateway.proxy.layers import ENDED
from gateway.request import HttpRequest
from tests.addons.flows import a_flow, a_gate, visited
from tests.builders import a_hello


def test_to_request() -> None:
    """A flow becomes the request that the policy knows, every Host and agent included."""
    gate, _ = a_gate()
    fields = [(b"Host", b"good.test"), (b"HOST", b"evil.test"), (b"User-Agent", b"a"), (b"user-agent", b"b")]
    flow = a_flow(authority=b"third.test", headers=http.Headers(fields))
    visit = visited(gate, flow, hello=a_hello("good.test", 80))
    flow.metadata[ENDED] = True
    request = to_request(flow, visit)
    assert isinstance(request, HttpRequest)
    assert request.authorities == ("third.test", "good.test", "evil.test")
    assert request.user_agent == "a b"
    assert request.path == "/a?b"
    assert request.body_length == 0
    assert request.hello is visit.hello


@pytest.mark.parametrize(
    ("fields", "length"),
    [([(b"Content-Length", b"7")], 7), ([(b"Transfer-Encoding", b"chunked")], None), ([], 0)],
)
def test_body_length(fields: list[tuple[bytes, bytes]], length: int | None) -> None:
    """The declared length of a body is known to the policy, and so is that none was declared."""
    gate, _ = a_gate()
    flow = a_flow(headers=http.Headers([(b"Host", b"good.test"), *fields]))
    assert to_request(flow, visited(gate, flow)).body_length == length


def test_blank_request() -> None:
    """Of a request that could not be read, the tunnel is known, or nothing."""
    gate, _ = a_gate()
    flow = a_flow()
    assert blank_request(visited(gate, flow)).host == ""
    tunnelled = blank_request(visited(gate, flow, hello=a_hello("good.test", 443)))
    assert (tunnelled.host, tunnelled.port, tunnelled.scheme) == ("good.test", 443, "https")


@pytest.mark.parametrize(
    ("name", "value", "strange"), [(b"X", b"a\tb", None), (b"X", b"a\rb", "X"), (b"X\x00", b"a", "X\x00")]
)
def test_strange_field(name: bytes, value: bytes, strange: str | None) -> None:
    """Control characters in a field's name or value are strange; a tab in a value is not (RFC 9110 section 5.5)."""
    assert strange_field(http.Headers([(name, value)])) == strange


@pytest.mark.parametrize("http2", [False, True])
def test_octets_of_heads(http2: bool) -> None:
    """The head of a request, and of its answer, has as many octets as HTTP/1.1 needs to say it."""
    gate, _ = a_gate()
    host = [] if http2 else [(b"Host", b"good.test")]
    flow = a_flow(authority=b"good.test" if http2 else b"", headers=http.Headers([*host, (b"X", b"y")]))
    asked = to_request(flow, visited(gate, flow))
    assert request_head(asked) == len(b"GET /a?b HTTP/1.1\r\nHost: good.test\r\nX: y\r\n\r\n")
    answer = tutils.tresp(reason=b"Fine", headers=http.Headers([(b"X", b"y"), (b"X", b"z")]))
    assert answer_head(answer) == len(b"HTTP/1.1 200 Fine\r\nX: y\r\nX: z\r\n\r\n")
