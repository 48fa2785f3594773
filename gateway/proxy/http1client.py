"""The origin's side of HTTP/1, with bounds and without what a proxy leaves out.

mitmproxy reads a head of any length, takes an interim answer for the answer, and crashes on trailers.
"""

import re
from collections.abc import Generator
from typing import Any

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import HttpClient
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Client

type Commands[T] = Generator[commands.Command, Any, T]

HEAD = 128 * 1024
"""Octets of an answer's head: twice what Squid and Envoy take."""
INTERIM = 20
"""Interim answers (1xx) to one request that are read over."""
LINE = 16 * 1024
"""Octets of a chunk's size with its extensions, and of all trailers."""

_is_interim = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]").match


class BodyWithoutTrailers:
    """Reads a chunked body, bounded, and leaves trailers out, as a proxy may (RFC 9110 section 6.5.1)."""

    def __init__(self) -> None:
        self._reader = ChunkedReader()

    def __call__(self, buffer: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """Return what comes next; None when it has not come yet.

        Raises:
            h11.RemoteProtocolError: what comes is not what chunks are made of, or too long.
        """
        found = self._reader(buffer)
        if found is None and len(buffer) > LINE:
            raise h11.RemoteProtocolError("the size of a chunk, or trailers, are too long")
        return h11.EndOfMessage() if isinstance(found, h11.EndOfMessage) else found

    def read_eof(self) -> h11.EndOfMessage:
        """Refuse to end here."""
        return self._reader.read_eof()


def without_trailers(reader: Any) -> Any:
    """Return a reader of bodies that leaves trailers out."""
    return BodyWithoutTrailers() if isinstance(reader, ChunkedReader) else reader


class StrictHttp1Client(Http1Client):
    """mitmproxy's client, for answers of any origin."""

    _interim = 0

    def read_headers(self, event: events.ConnectionEvent) -> Commands[None]:
        """Read the head of an answer, and of those before it that are none."""
        if isinstance(event, events.DataReceived) and self.request is not None:
            # 101 is the answer: the connection is then no longer HTTP.
            while _is_interim(bytes(self.buf)) and self.buf.maybe_extract_lines() is not None:
                self._interim += 1
                if self._interim > INTERIM:
                    yield from self._break_off(f"more than {INTERIM} interim answers (1xx)")
                    return
        yield from super().read_headers(event)
        if self.request is not None and self.state == self.read_headers and len(self.buf) > HEAD:
            yield from self._break_off("the head of the answer is too large")

    def read_body(self, event: events.Event) -> Commands[None]:
        """Read a body without its trailers."""
        self._interim = 0
        self.body_reader = without_trailers(self.body_reader)
        yield from super().read_body(event)

    def _break_off(self, why: str) -> Commands[None]:
        assert self.stream_id is not None
        self.state = self.done
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(ResponseProtocolError(self.stream_id, why, ErrorCode.GENERIC_SERVER_ERROR))


def make_strict(layer: Any) -> None:
    """Put a strict client in the place of mitmproxy's, where a connection to an origin speaks HTTP/1."""
    while layer is not None and not isinstance(layer, HttpClient):
        layer = getattr(layer, "child_layer", None)
    if layer is None or type(layer.child_layer) is not Http1Client:
        return
    strict = StrictHttp1Client(layer.context)
    layer.child_layer = strict
    layer._handle_event = strict.handle_event
    for _ in strict.handle_event(events.Start()):
        raise AssertionError("a client that starts sends nothing")
