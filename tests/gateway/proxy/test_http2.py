"""Tests of `gateway.proxy.http2`: frames that cost their sender nothing are counted, and long ones are not kept.

The same with real clients and origins is in tests/integration/test_proxy_hostile_inspect.py.
"""

import struct

import pytest
from mitmproxy import options
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http._http_h2 import SendH2Data

from gateway.proxy import http2
from gateway.proxy.http2 import CREDIT, MAX_BLOCK, MAX_FRAME, RESET_COSTS, BoundedHttp2Client, FrameMeter

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9


def frame(kind: int, length: int = 0) -> bytes:
    """Return a frame."""
    return struct.pack(">I", length)[1:] + bytes((kind, 0)) + bytes(4) + bytes(length)


def a_meter(*, requests: bool = True) -> FrameMeter:
    """Return a meter after the preface."""
    meter = FrameMeter(requests=requests, now=0)
    if requests:
        assert not meter.wrong(PREFACE, 0)
    return meter


USELESS = {
    "pings": PING,
    "settings": SETTINGS,
    "priorities": PRIORITY,
    "windows": WINDOW,
    "empty data": DATA,
    "empty continuations": CONTINUATION,
    "unknown": 77,
}


@pytest.mark.parametrize("what", USELESS)
@pytest.mark.parametrize("size", [1, 5, 100_000])
def test_frames_without_use_are_counted(what: str, size: int) -> None:
    """So many and no more, however they are cut."""
    meter = a_meter()
    octets = frame(USELESS[what]) * int(CREDIT)
    assert not any(meter.wrong(octets[at : at + size], 0) for at in range(0, len(octets), size))
    assert meter.wrong(frame(USELESS[what]), 0) == "too many frames without use"


def test_resets_are_dearer() -> None:
    """A request that is taken back costs the gateway more than a ping."""
    meter = a_meter()
    pair = frame(HEADERS, 20) + frame(RESET, 4)
    assert not meter.wrong(pair * int(CREDIT / RESET_COSTS), 0)
    assert meter.wrong(pair, 0)


@pytest.mark.parametrize("what", ["time", "an answer", "a body"])
def test_credit_is_earned(what: str) -> None:
    """Never more of it than there was at first."""
    meter = a_meter()
    assert not meter.wrong(frame(PING) * int(CREDIT), 0)
    if what == "an answer":
        meter.earn(http2.EARNED_AN_EXCHANGE)
    elif what == "a body":
        assert not meter.wrong(frame(DATA, MAX_FRAME), 0)
    now = 1.0 if what == "time" else 0.0
    assert not meter.wrong(frame(PING), now)
    meter.earn(1e9)
    assert meter.wrong(frame(PING) * int(CREDIT + 1), now)


def test_requests_are_counted_by_their_streams() -> None:
    """h2 bounds the streams of a client; heads that an origin sends may be interim answers for ever."""
    assert not a_meter().wrong(frame(HEADERS, 20) * 5000, 0)
    assert a_meter(requests=False).wrong(frame(HEADERS, 20) * 5000, 0)


def test_long_frames_and_blocks() -> None:
    """What is announced is enough: nothing of it has to come."""
    assert not a_meter().wrong(frame(DATA, MAX_FRAME), 0)
    assert a_meter().wrong(frame(DATA, MAX_FRAME + 1)[:9], 0) == f"a frame of {MAX_FRAME + 1} octets"
    meter = a_meter()
    whole = MAX_BLOCK // MAX_FRAME
    assert not meter.wrong(frame(HEADERS, MAX_FRAME) + frame(CONTINUATION, MAX_FRAME) * (whole - 1), 0)
    assert meter.wrong(frame(CONTINUATION, 1)[:9], 0) == f"a header block of more than {MAX_BLOCK} octets"


class Origin:
    """The gateway's side of a connection to an origin with HTTP/2."""

    def __init__(self) -> None:
        client = Client(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128), state=ConnectionState.OPEN)
        settings = options.Options()
        for name, value in (("validate_inbound_headers", True), ("http2_ping_keepalive", 0)):
            settings.add_option(name, type(value), value, "as mitmproxy's proxy server has it")
        self.context = Context(client, settings)
        self.server = self.context.server = Server(address=("good.test", 443))
        self.server.state = ConnectionState.OPEN
        self.layer = BoundedHttp2Client(self.context, clock=lambda: 0.0)
        self.found: list[object] = [*self.layer.handle_event(events.Start())]

    def say(self, data: bytes) -> None:
        """Receive octets."""
        self.found += self.layer.handle_event(events.DataReceived(self.server, data))

    @property
    def closed(self) -> bool:
        """Whether the gateway has left."""
        return any(isinstance(command, commands.CloseConnection) for command in self.found)


def test_it_is_used() -> None:
    """mitmproxy makes connections of this kind to origins."""
    assert http_layers.Http2Client is BoundedHttp2Client  # type: ignore[attr-defined]


def test_an_origin_that_floods_is_left() -> None:
    """With GOAWAY, ENHANCE_YOUR_CALM."""
    origin = Origin()
    origin.say(frame(SETTINGS) + struct.pack(">I", 8)[1:] + bytes((PING, 0)) + bytes(4) + bytes(8))
    assert not origin.closed
    origin.say(frame(77) * 2000)
    assert origin.closed
    sent = b"".join(command.data for command in origin.found if isinstance(command, commands.SendData))
    assert struct.pack(">I", 11) in sent
    assert b"too many frames without use" in sent


def test_what_waits_for_a_window_is_known() -> None:
    """By stream and in all, and small pieces count as if they were large."""
    origin = Origin()
    connection = origin.layer.h2_conn
    assert origin.layer.waiting() == 0
    for stream, size in ((1, 100), (3, 50)):
        for _ in range(2):
            connection.stream_buffers[stream].append(SendH2Data(bytes(size), end_stream=False))
    assert (origin.layer.waiting(), origin.layer.waiting(1), origin.layer.waiting(3)) == (300, 200, 100)
    assert origin.layer.waiting(5) == 0
    for _ in range(2000):
        connection.stream_buffers[1].append(SendH2Data(b"x", end_stream=False))
    assert origin.layer.waiting() > http2.MOST_WAITING_IN_ALL
    assert origin.layer.waiting(3) == 100
    assert http2.is_behind(origin.layer, origin.layer)
    assert not http2.is_behind(http_layers.Http1Server(origin.context.fork()), origin.layer)  # type: ignore[attr-defined]
