"""Tests of `gateway.proxy.http1`: nothing that has no end is kept until its end.

The same with real clients and origins is in tests/integration/test_proxy_hostile_http.py.
"""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import http, options
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.net.http.http1 import read_request_head
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from gateway.proxy.head import INSIDE, PLAIN, HeadError, Limits, read_head
from gateway.proxy.http1 import MOST_FRAMING, MOST_HEAD, MOST_INTERIM, BoundedHttp1Client, message_of

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Origin:
    """The gateway's side of a connection to an origin, after a request."""

    def __init__(self) -> None:
        client = Client(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128), state=ConnectionState.OPEN)
        context = Context(client, options.Options())
        self.server = context.server = Server(address=("good.test", 80))
        self.server.state = ConnectionState.OPEN
        self.layer = BoundedHttp1Client(context)
        self.found: list[object] = [*self.layer.handle_event(events.Start())]
        self.ask()

    def ask(self) -> None:
        """Send a request."""
        request = http.Request.make("GET", "http://good.test/")
        for event in (RequestHeaders(1, request, True), RequestEndOfMessage(1)):
            self.found += self.layer.handle_event(event)

    def say(self, data: bytes, size: int = 4096) -> None:
        """Receive octets, in pieces."""
        for at in range(0, len(data), size):
            self.found += self.layer.handle_event(events.DataReceived(self.server, data[at : at + size]))

    @property
    def received(self) -> list[object]:
        """What the rest of the gateway heard."""
        return [command.event for command in self.found if isinstance(command, ReceiveHttp)]

    @property
    def failure(self) -> str:
        """Why the connection was ended; nothing if it was not."""
        closed = any(isinstance(command, commands.CloseConnection) for command in self.found)
        errors = [event.message for event in self.received if isinstance(event, ResponseProtocolError)]
        assert closed == bool(errors)
        assert len(errors) < 2
        return errors[0] if errors else ""


def test_it_is_used() -> None:
    """mitmproxy makes connections of this kind to origins."""
    assert http_layers.Http1Client is BoundedHttp1Client  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize(
    ("said", "body"),
    [
        (OK, b"ok"),
        (HINT * 2 + OK, b"ok"),
        (HINT.replace(b"\r\n", b"\n") + OK, b"ok"),
        (CHUNKED + b"1;a=b\r\nx\r\n" * 100 + b"0\r\n\r\n", b"x" * 100),
        (CHUNKED + b"3\r\nabc\r\n0\r\nX-Trailer: y\r\n\r\n", b"abc"),
    ],
    ids=["an answer", "hints", "hints without CR", "chunks with extensions", "trailers"],
)
def test_an_answer_is_read(said: bytes, body: bytes, size: int) -> None:
    """However it is cut, the head comes first, then its body; interim answers and trailers are left out."""
    origin = Origin()
    origin.say(said, size)
    kinds = [type(event) for event in origin.received]
    assert kinds[0] is ResponseHeaders
    assert kinds[-1] is ResponseEndOfMessage
    assert b"".join(event.data for event in origin.received if isinstance(event, ResponseData)) == body
    head = origin.received[0]
    assert isinstance(head, ResponseHeaders)
    assert head.response.status_code == 200
    assert not origin.failure


def test_small_chunks_go_on_together() -> None:
    """Whoever sends an octet in each chunk does not have each passed on by itself."""
    origin = Origin()
    origin.say(CHUNKED + b"1\r\nx\r\n" * 500)
    assert len([event for event in origin.received if isinstance(event, ResponseData)]) == 1


def test_every_request_may_have_its_interim_answers() -> None:
    """They are counted for each request anew."""
    origin = Origin()
    for _ in range(3):
        origin.say(HINT * MOST_INTERIM + OK)
        origin.ask()
    assert not origin.failure


def test_a_protocol_is_switched_to_once_and_for_all() -> None:
    """101 is no interim answer."""
    origin = Origin()
    origin.say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
    assert any(isinstance(event, ResponseHeaders) for event in origin.received)


ENDLESS: dict[str, tuple[bytes, Callable[[int], bytes], str]] = {
    "fields": (b"HTTP/1.1 200 OK\r\n", lambda n: b"X-%d: y\r\n" % n, f"head of more than {MOST_HEAD} octets"),
    "one field": (b"HTTP/1.1 200 OK\r\nX: ", lambda _: b"y" * 100, f"head of more than {MOST_HEAD} octets"),
    "interim answers": (b"", lambda _: HINT, f"more than {MOST_INTERIM} interim answers"),
    "one interim answer": (b"HTTP/1.1 103 Early\r\n", lambda _: b"Link: a\r\n", f"of more than {MOST_HEAD} octets"),
    "a chunk extension": (CHUNKED + b"5;a=", lambda _: b"y" * 100, f"more than {MOST_FRAMING} octets around a chunk"),
    "trailers": (CHUNKED + b"0\r\n", lambda n: b"X-%d: y\r\n" % n, f"more than {MOST_FRAMING} octets around a chunk"),
    "a chunk size": (CHUNKED, lambda _: b"0" * 100, "octets around a chunk"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_ended(what: str) -> None:
    """With a reason, once; and nothing that comes after it is kept."""
    begin, more, reason = ENDLESS[what]
    origin = Origin()
    origin.say(begin + b"".join(more(number) for number in range(20_000)))
    assert reason in origin.failure
    assert len(origin.layer.buf) < 2 * MOST_HEAD
    before = len(origin.layer.buf)
    origin.say(b"x" * 100_000)
    assert len(origin.layer.buf) == before


TARGETS = st.sampled_from(
    [
        "/", "/a?b=c;d", "//a", "*", "/a%20b", "http://good.test", "http://good.test/", "http://good.test?a",
        "http://GOOD.test:8080/a/../b?c", "http://[2001:db8::1]:80/", "http://192.0.2.1/;a", "http://good.test:0/",
        "http://good.test:70000/", "http://xn--bcher-kva.test/", "http://a_b.test/", "http://-/", "http://good.test./",
    ]
)  # fmt: skip
LINES = st.lists(
    st.tuples(
        st.sampled_from(["Host", "hOST", "X", "Accept", "Content-Length", "TE"]), st.text(" \ta,=1~", max_size=6)
    )
)


@given(method=st.sampled_from(["GET", "OPTIONS", "POST"]), target=TARGETS, lines=LINES, minor=st.integers(0, 1))
@example(method="GET", target="http://good.test/", lines=[("Host", " good.test\t ")], minor=1)
@example(method="OPTIONS", target="*", lines=[("Host", "good.test")], minor=1)
def test_message_of(method: str, target: str, lines: list[tuple[str, str]], minor: int) -> None:
    """Of a head that is accepted, mitmproxy reads the same; or nothing, and then nothing is made of it here."""
    head = "".join([f"{method} {target} HTTP/1.{minor}\r\n", *(f"{name}:{value}\r\n" for name, value in lines)])
    data = head.encode("ascii")
    try:
        found = read_head(data + b"\r\n", Limits(), forms=INSIDE if target[0] in "/*" else PLAIN)
    except HeadError:
        return
    assert found is not None
    lines_sent = data.rstrip(b"\r\n").split(b"\r\n")
    assert state_of(lambda: message_of(found)) == state_of(lambda: read_request_head(lines_sent))


def state_of(read: Callable[[], http.Request]) -> object:
    """Return all that there is of a request but its time; None if it could not be read."""
    try:
        state = read().data.get_state()  # type: ignore[no-untyped-call]  # mitmproxy's
    except ValueError:
        return None
    return {**state, "timestamp_start": 0}


@pytest.mark.parametrize(
    ("answer", "goes_on"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True, id="usual"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", True, id="said"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", False, id="close"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 2\r\n\r\nok", False, id="x, close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False, id="HTTP/1.0"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", True, id="no length, and no body"),
        pytest.param(CHUNKED + b"0\r\n\r\n", True, id="chunked"),
    ],
)
def test_what_an_exchange_leaves(answer: bytes, goes_on: bool) -> None:
    """A connection is used again unless one of both sides, or the way that a body ends, says otherwise."""
    origin = Origin()
    origin.say(answer)
    assert any(isinstance(each, ResponseEndOfMessage) for each in origin.received)
    assert any(isinstance(each, commands.CloseConnection) for each in origin.found) is not goes_on
    if goes_on:
        origin.ask()
        origin.say(OK)
        assert sum(isinstance(each, ResponseEndOfMessage) for each in origin.received) == 2
