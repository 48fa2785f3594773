"""mitmproxy's HTTP/2, bounded: frames before h2 reads them, and what waits for a peer that takes nothing.

h2 keeps a frame whole, and a header block over 64 frames; a stream that is reset costs its sender nothing and the
gateway a request (CVE-2023-44487, CVE-2024-27316, CVE-2019-9511 and following). mitmproxy grants windows of two
gigabytes and keeps what the other side has no window for. So frames are counted and measured here first, and whoever
has sent what nobody takes is not read any further.
"""

import time
from collections.abc import Callable

import h2.errors
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http._events import RequestData, RequestHeaders, ResponseData, ResponseEndOfMessage
from mitmproxy.proxy.layers.http._http1 import Http1Client
from mitmproxy.proxy.layers.http._http2 import Http2Client, Http2Connection, Http2Server

from gateway.http2frames import DATA, HEADERS, PREFACE, RST_STREAM, FrameHead, FrameHeads

type Commands = layer.CommandGenerator[None]

MAX_FRAME = 16384
"""Octets of a frame: the default of SETTINGS_MAX_FRAME_SIZE, and what everybody sends."""
MAX_BLOCK = 64 * 1024
"""Octets of a header block, however many frames it is cut into."""
CREDIT = 1000.0
"""What frames without use may cost at once."""
EARNED_A_SECOND = 50.0
"""Credit that comes back with time: keep-alive, and the odd cancelled request."""
EARNED_AN_EXCHANGE = 5.0
"""And with each request that was answered."""
EARNED_A_KILOBYTE = 1.0
"""And with bodies, in either direction: windows have to be opened for them."""
RESET_COSTS = 10.0
"""A browser that turns a page resets some dozens of streams, and never more than it may have open (a hundred), an
attack thousands. A hundred requests that come in one piece keep others waiting for 0.1 s."""
MOST_WAITING = 256 * 1024
"""Octets of one stream, from an origin with HTTP/1, that the client has opened no window for."""
MOST_WAITING_IN_ALL = 2 * 1024 * 1024
"""And of all streams of one connection with HTTP/2."""
_MOST_PIECES = 1000
"""Pieces of the same, however small."""


class FrameMeter:
    """Looks at the headers of frames, and says what is wrong with them."""

    def __init__(self, *, requests: bool, now: float) -> None:
        """Measure what a client sends, or (not `requests`) what an origin does."""
        self._heads = FrameHeads(PREFACE if requests else b"")
        self._requests = requests
        self._credit = CREDIT
        self._now = now

    def earn(self, credit: float) -> None:
        """Add to the credit, up to what it began with."""
        self._credit = min(CREDIT, self._credit + credit)

    def wrong(self, data: bytes, now: float) -> str:
        """Take octets; return why they cannot be borne, or nothing."""
        self.earn((now - self._now) * EARNED_A_SECOND)
        self._now = now
        return next(filter(None, map(self._frame, self._heads.read(data))), "")

    def _frame(self, head: FrameHead) -> str:
        length, kind, block = head
        if length > MAX_FRAME:
            return f"a frame of {length} octets"
        if block > MAX_BLOCK:
            return f"a header block of more than {MAX_BLOCK} octets"
        if kind == DATA and length:
            self.earn(length / 1024 * EARNED_A_KILOBYTE)
        elif kind != HEADERS or not self._requests:
            # Streams of a client are bounded by their number; heads of an origin may be interim answers without end.
            self._credit -= RESET_COSTS if kind == RST_STREAM else 1.0
            if self._credit < 0:
                return "too many frames without use"
        return ""


class BoundedHttp2Connection(Http2Connection):
    """Either side of HTTP/2."""

    def __init__(self, context: Context, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(context)  # type: ignore[call-arg]  # that of a side, which knows its connection
        self._clock = clock
        self._meter = FrameMeter(requests=isinstance(self, Http2Server), now=clock())
        self.h2_conn.local_settings.max_frame_size = MAX_FRAME
        self.h2_conn.local_settings.acknowledge()
        self.h2_conn.max_inbound_frame_size = MAX_FRAME

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.DataReceived):
            if why := self._meter.wrong(event.data, self._clock()):
                yield from self.protocol_error(f"HTTP/2: {why}", h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                return
        elif isinstance(event, RequestData | ResponseData):
            self._meter.earn(len(event.data) / 1024 * EARNED_A_KILOBYTE)
        elif isinstance(event, RequestHeaders | ResponseEndOfMessage):
            self._meter.earn(EARNED_AN_EXCHANGE)
        yield from super()._handle_event(event)

    def waiting(self, stream_id: int | None = None) -> int:
        """Return how many octets the peer has opened no window for: of a stream, or of all."""
        buffers = self.h2_conn.stream_buffers
        chosen = buffers.values() if stream_id is None else (buffers.get(stream_id, ()),)
        if sum(map(len, chosen)) > _MOST_PIECES:
            return MOST_WAITING_IN_ALL + 1
        return sum(len(piece.data) for buffer in chosen for piece in buffer)


class BoundedHttp2Client(BoundedHttp2Connection, Http2Client):
    """The side of the origin."""


# mitmproxy names the class in the middle of a method of its own; there is no other place to put ours.
http_layers.Http2Client = BoundedHttp2Client  # type: ignore[attr-defined]  # mitmproxy's


def is_behind(client: layer.Layer, origin: layer.Layer) -> bool:
    """Whether a client with HTTP/2 has to take what there is before its origin is read any further."""
    if not isinstance(client, BoundedHttp2Connection):
        return False
    if isinstance(origin, Http1Client):
        return client.waiting(origin.stream_id) > MOST_WAITING
    return client.waiting() > MOST_WAITING_IN_ALL
