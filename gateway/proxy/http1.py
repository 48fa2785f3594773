"""mitmproxy's HTTP/1, bounded: what it keeps until it is complete may only be so long.

mitmproxy and h11 wait for the end of a line, a head or a trailer section for ever. Here the heads of answers, what
surrounds chunks, and what a client sends ahead of an answer have an end; interim answers are few and left out; and
small chunks that came together go on as one piece of body.
"""

import re
import time
from functools import lru_cache
from typing import Any

import h11
from mitmproxy import http
from mitmproxy.net.http import url
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestData,
    RequestHeaders,
    ResponseData,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server

from gateway.proxy.head import Form, Head

type Commands = layer.CommandGenerator[None]

MOST_FRAMING = 16 * 1024
"""Octets of one chunk's header with its extensions, and of all trailers."""
MOST_HEAD = 128 * 1024
"""Octets of an answer's head. Servers accept 8 to 64 KB themselves, browsers a quarter of a megabyte."""
MOST_INTERIM = 16
"""Interim answers to one request."""
MOST_AHEAD = 128 * 1024
"""Octets that a client may send before the answer to its last request is complete."""

# 101 is no interim answer: it is the last of HTTP on the connection (RFC 9110 section 15.2.2).
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9][0-9]")
_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")
_LONG = 256
_BLANK = re.compile(rb"\n\r?\n")


def message_of(head: Head) -> http.Request:
    """Return what mitmproxy makes of a request head, without its reading it a second time.

    Raises:
        ValueError: it makes nothing of it.
    """
    host, port, authority, scheme, path = "", 0, b"", b"", head.target
    if head.form is Form.AUTHORITY:
        raise ValueError("CONNECT carries no message")
    if head.form is Form.ABSOLUTE:
        if head.target not in (f"http://{head.authority}", f"http://{head.authority}{head.path}"):
            raise ValueError("no path")
        host, port = (_place if len(head.authority) <= _LONG else _place.__wrapped__)(head.authority)
        scheme, authority, path = b"http", head.authority.encode("ascii"), head.path
    made = http.Request.__new__(http.Request)
    made.data = http.RequestData(
        host=host,
        port=port,
        method=head.method.encode("ascii"),
        scheme=scheme,
        authority=authority,
        path=path.encode("ascii"),
        http_version=_VERSIONS[head.minor],
        headers=http.Headers(head.sent),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )
    return made


@lru_cache(maxsize=1024)
def _place(authority: str) -> tuple[str, int]:
    sent = authority.encode("ascii")
    host, port = url.parse_authority(sent, check=True)
    url.parse(b"http://%b/" % sent)
    return host, port or 80


class BoundedConnection(Http1Connection):
    """Either side of HTTP/1."""

    def handle_event(self, event: events.Event) -> Commands:
        """Go on with an event: HTTP/1 itself never waits for anything."""
        if isinstance(event, HttpEvent):
            return self.send(event)
        if isinstance(event, events.DataReceived):
            if self.state == self.done:
                return self.done(event)  # nobody will read it
            if self.state == self.wait and len(self.buf) + len(event.data) > MOST_AHEAD:
                return self.broken(f"more than {MOST_AHEAD} octets ahead of the answer")
            if self.state != self.passthrough:
                self.buf += event.data
        return self.state(event)

    def send(self, event: HttpEvent) -> Commands:
        """Send; but no chunk without octets, which would be the end of the body."""
        if not isinstance(event, RequestData | ResponseData) or event.data:
            yield from super().send(event)

    def broken(self, detail: str) -> Commands:
        """End the connection: the peer does what the gateway does not put up with."""
        assert self.stream_id is not None
        self.state = self.done
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(self.ReceiveProtocolError(self.stream_id, detail, self.ReceiveProtocolError.code))

    def mark_done(self, *, request: bool = False, response: bool = False) -> Commands:
        """Note the end of a message: after both, another exchange may follow."""
        both = (self.request_done or request) and (self.response_done or response)
        if not both or not self._goes_on():
            yield from super().mark_done(request=request, response=response)
            return
        self.request_done = self.response_done = False
        self.request = self.response = None
        self.stream_id = self.stream_id + 2 if isinstance(self, Http1Server) and self.stream_id is not None else None
        self.state = self.read_headers
        if self.buf:
            yield from self.state(events.DataReceived(self.conn, b""))

    def _goes_on(self) -> bool:
        """Whether the connection surely does. Of what is not quite usual, mitmproxy finds it out."""
        request, response = self.request, self.response
        assert request is not None
        assert response is not None
        for message in (request, response):
            if not message.is_http11 or message.headers.get("connection", "keep-alive") != "keep-alive":
                return False
        if request.data.method == b"CONNECT" or response.data.status_code == 101:
            return False
        return "content-length" in response.headers and "transfer-encoding" not in response.headers

    def trailers(self) -> str:
        """Return why trailers are not accepted; nothing if they are left out (RFC 9110 section 6.5.1)."""
        return ""

    def read_body(self, event: events.Event) -> Commands:
        """Read a body: what came of it together goes on together."""
        assert self.stream_id is not None
        if isinstance(event, events.ConnectionClosed):
            yield from super().read_body(event)
            return
        pieces: list[Any] = []
        found: Any = None
        wrong = ""
        try:
            while isinstance(found := self.body_reader(self.buf), h11.Data):
                pieces.append(found.data)
            if found is None and len(self.buf) > MOST_FRAMING:
                wrong = f"more than {MOST_FRAMING} octets around a chunk"
        except h11.ProtocolError as error:
            wrong = f"HTTP/1 protocol error: {error}"
        if isinstance(found, h11.EndOfMessage) and found.headers:
            wrong = self.trailers()
        if data := b"".join(pieces):
            yield ReceiveHttp(self.ReceiveData(self.stream_id, data))
        if wrong:
            yield from self.broken(wrong)
        elif isinstance(found, h11.EndOfMessage):
            yield from self._end()

    def _end(self) -> Commands:
        """Go on from the end of a message."""
        assert self.stream_id is not None
        assert self.request is not None
        answer = self.ReceiveProtocolError is ResponseProtocolError
        over = ReceiveHttp(self.ReceiveEndOfMessage(self.stream_id))
        if answer and self.response is not None and self.response.status_code != 101:
            # The next request may follow from this at once, and come to where its answer will be read. After a 101,
            # what follows is something else, and belongs behind this.
            yield from self.mark_done(response=True)
            yield over
            return
        if self.request.method != "CONNECT":  # of which the end comes with the tunnel's
            yield over
        yield from self.mark_done(request=not answer, response=answer)


class BoundedHttp1Client(BoundedConnection, Http1Client):
    """The side of the origin."""

    _interim = 0

    def send(self, event: HttpEvent) -> Commands:
        """Send, and say where a body ends that came over HTTP/2 without a length.

        mitmproxy would write it behind the head of a request that has none: there it is the next request.
        """
        if isinstance(event, RequestHeaders) and not event.end_stream:
            headers = event.request.headers
            if "content-length" not in headers and "transfer-encoding" not in headers:
                headers["Transfer-Encoding"] = "chunked"
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        """Read the head of an answer, without the interim ones before it."""
        if isinstance(event, events.DataReceived) and self.request:
            wrong = self._leave_out_interim()
            if not wrong and len(self.buf) > MOST_HEAD and _longer(bytes(self.buf), MOST_HEAD):
                wrong = f"an answer with a head of more than {MOST_HEAD} octets"
            if wrong:
                yield from self.broken(wrong)
                return
        yield from super().read_headers(event)

    def mark_done(self, *, request: bool = False, response: bool = False) -> Commands:
        """Note the end of a message."""
        if response:
            self._interim = 0
        yield from super().mark_done(request=request, response=response)

    def _leave_out_interim(self) -> str:
        """Take interim answers out of the buffer (RFC 9110 section 15.2). Returns what is wrong with them."""
        data, at = bytes(self.buf), 0
        while _INTERIM.match(data, at) and (end := _BLANK.search(data, at)):
            at = end.end()
            self._interim += 1
            if self._interim > MOST_INTERIM:
                return f"more than {MOST_INTERIM} interim answers"
        if at:
            self.buf.maybe_extract_at_most(at)
        return ""


def _longer(data: bytes, most: int) -> bool:
    """Whether a head, complete or not, is longer than it may be."""
    if len(data) <= most:
        return False
    end = _BLANK.search(data, 0, most)
    return end is None


# mitmproxy names the class in the middle of a method of its own; there is no other place to put ours.
http_layers.Http1Client = BoundedHttp1Client  # type: ignore[attr-defined]  # mitmproxy's
