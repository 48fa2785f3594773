"""mitmproxy's HTTP layers, made strict: a head that could be read two ways ends the connection, a denial is at once.

mitmproxy repairs and tolerates, which is right for looking at traffic and wrong for deciding about it. These layers
put the gateway's own reader in front of its HTTP/1 server, and send a denial before the body of the request is read.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import h2.errors
from h2.events import Event, RequestReceived
from mitmproxy import flow, http
from mitmproxy.connection import Connection
from mitmproxy.net.http import url
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, GetHttpConnection, HTTPMode, SendHttp
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    HttpEvent,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook, HttpRequestHeadersHook, HttpResponseHeadersHook
from mitmproxy.proxy.layers.http._http1 import Http1Server, make_body_reader
from mitmproxy.proxy.layers.http._http2 import Http2Server

from gateway.authority import split_authority
from gateway.filetypes import Look
from gateway.proxy.head import INSIDE, Form, Head, HeadError, Limits, check_fields, read_head
from gateway.proxy.http1 import BoundedConnection, message_of
from gateway.proxy.http2 import MOST_WAITING_IN_ALL, BoundedHttp2Connection, is_behind
from gateway.proxy.lean import LeanHttpLayer, LeanStream, later
from gateway.proxy.websocket import EXTENSIONS

type Commands[T] = Generator[commands.Command, Any, T]

LINGER = 3.0
"""Seconds that a client which was denied in the middle of its body has to read the answer."""
REFUSED = "egress_refused"
"""Key of `flow.metadata`: the response is a denial."""
ENDED = "egress_end_stream"
"""Key of `flow.metadata`: the request has no body."""
EMPTY = "egress_empty"
"""Key of `flow.metadata`: the answer has no body."""
CUT = "egress_cut"
"""Key of `flow.metadata`: the request, or its answer, was stopped in the middle of its body."""


@dataclass
class CutOff(events.Event):
    """A request is denied in its middle, and nothing need come any more that would tell its layer."""

    flow_id: str


class EndOfRefusal(ResponseEndOfMessage):
    """The end of an answer that is the gateway's own. What still comes of the request goes nowhere."""


class Gatekeeper(Protocol):
    """Judges for the layers. Its words are whole HTTP/1 answers."""

    def limits(self) -> Limits:
        """Return how large a head may be."""

    def refuse_head(self, client_id: str, error: HeadError) -> bytes:
        """Judge a head that could not be read."""

    def malformed(self, client_id: str, detail: str) -> None:
        """Record that a connection ends because its client does what it should not."""

    def unreachable(self, flow: http.HTTPFlow, error: str) -> None:
        """Set the response of a request whose server could not be connected to."""

    def proven(self, flow: http.HTTPFlow, server_id: str) -> bool:
        """Say whether a request may be sent over a connection; if not, set its response."""

    def withdraw(self, flow: http.HTTPFlow) -> bool:
        """Set the response of a request that was denied since it was sent. Returns whether it was."""

    def look(self, flow: http.HTTPFlow, response: http.Response) -> Look | None:
        """Return what has to see the first octets of an answer before it is judged."""

    def trailers(self, flow: http.HTTPFlow, trailers: http.Headers) -> bool:
        """Say whether the trailers of an answer may pass."""

    def failure(self, client_id: str, error: str) -> bytes:
        """Return the answer when the server of a request failed before it answered."""


class StrictHttp1Server(BoundedConnection, Http1Server):
    """The client's side of HTTP/1, with the gateway's reader in front of mitmproxy's."""

    def __init__(self, context: Context, forms: frozenset[Form], gate: Gatekeeper) -> None:
        super().__init__(context)
        self._gate = gate
        self._forms = forms
        self._seen = 0
        self._heads = 0

    def read_headers(self, event: events.ConnectionEvent) -> Commands[None]:
        """Read a head, or refuse it and close."""
        if isinstance(event, events.DataReceived):
            data = bytes(self.buf)
            try:
                head = read_head(data, self._gate.limits(), forms=self._forms, seen=self._seen)
            except HeadError as error:
                self._heads += 1
                yield commands.SendData(self.conn, self._gate.refuse_head(self.conn.id, error))
                yield commands.CloseConnection(self.conn)
                self.state = self.done
                return
            self._seen = 0 if head else len(data)
            if head is None:
                return
            self._heads += 1
            try:
                request = message_of(head)
                size = expected_http_body_size(request) if head.framed else 0
            except ValueError:  # mitmproxy reads it, and may refuse it
                steps = super().read_headers(event)
                if head.form is Form.ABSOLUTE:
                    self._complete(head, data)
                    steps = self._record_refusal(steps, self._heads)
                yield from steps
            else:
                self.buf.maybe_extract_at_most(head.length)
                self.request = request
                yield ReceiveHttp(RequestHeaders(self.stream_id, request, size == 0))
                self.body_reader = make_body_reader(size)
                self.state = self.read_body
                yield from self.read_body(event)
                return
        yield from super().read_headers(event)

    def _record_refusal(self, steps: Commands[None], head: int) -> Commands[None]:
        """Go on; should mitmproxy refuse this head, which no event tells of, say so in our words."""
        reply: Any = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration:
                return
            if isinstance(command, commands.SendData) and self.request is None and self._heads == head:
                error = HeadError("a request for a name that is none")
                command = commands.SendData(self.conn, self._gate.refuse_head(self.conn.id, error))
            reply = yield command

    def _complete(self, head: Head, data: bytes) -> None:
        """Give a target that has a query and no path the path that it means, without which mitmproxy refuses it."""
        start = len(f"{head.method} http://{head.authority}")
        if data[start : start + 1] == b"?":
            self.buf.maybe_extract_at_most(len(data))
            self.buf += data[:start] + b"/" + data[start:]

    def trailers(self) -> str:
        """Refuse them: what they say was not there when the request was judged."""
        return "trailers are not supported"

    def broken(self, detail: str) -> Commands[None]:
        """End the connection, and have that recorded as a denial."""
        self._gate.malformed(self.conn.id, detail)
        yield from super().broken(detail)

    def send(self, event: HttpEvent) -> Commands[None]:
        """Send, and answer for a server that failed in the gateway's words."""
        if isinstance(event, ResponseProtocolError) and not self.response and event.code is not ErrorCode.KILL:
            yield commands.SendData(self.conn, self._gate.failure(self.conn.id, event.message))
            yield commands.CloseConnection(self.conn)
            return
        yield from super().send(event)


class StrictHttp2Server(BoundedHttp2Connection, Http2Server):
    """The client's side of HTTP/2, for requests that HTTP/1 can say too, and with refusals that are recorded."""

    def __init__(self, context: Context, gate: Gatekeeper) -> None:
        super().__init__(context)
        self._gate = gate

    def _handle_event(self, event: events.Event) -> Commands[None]:
        """Bear with a client that is refused in the middle of its body, and ends the request there.

        curl does so, with an empty frame. The length it named is then wrong, which h2 would take for the end of the
        whole connection. To reset the stream would be an answer too (RFC 9113 section 8.1), but clients that are
        still sending take it for a failure, and show that instead of the refusal.
        """
        yield from super()._handle_event(event)
        if isinstance(event, EndOfRefusal) and (stream := self.h2_conn.streams.get(event.stream_id)) is not None:
            stream._expected_content_length = None

    def handle_h2_event(self, event: Event) -> Commands[bool]:
        """Go on with what is clean; returns whether the connection ends."""
        if isinstance(event, RequestReceived):
            try:
                check_fields(event.headers, ended=event.stream_ended is not None)
            except HeadError as error:
                yield from self.protocol_error(str(error))
                return True
        return (yield from super().handle_h2_event(event))

    def protocol_error(
        self, message: str, error_code: int = h2.errors.ErrorCodes.PROTOCOL_ERROR
    ) -> layer.CommandGenerator[None]:
        """End the connection: there is no answer to what is no request, but a line in the ledger."""
        self._gate.malformed(self.conn.id, message)
        yield from super().protocol_error(message, error_code)


class GatedStream(LeanStream):
    """One request: denied as soon as its head is read."""

    def __init__(
        self, context: Context, stream_id: int, gate: Gatekeeper, answered: Callable[[commands.StartHook], bool]
    ) -> None:
        super().__init__(context, stream_id, answered)
        self._gate = gate
        self._look: Look | None = None
        self._held: list[HttpEvent] = []

    def _handle_event(self, event: events.Event) -> Commands[None]:
        if isinstance(event, events.Wakeup):
            return self._end_lingering()
        if isinstance(event, CutOff):
            return self._cut_off()
        return super()._handle_event(event)

    def _end_lingering(self) -> Commands[None]:
        yield commands.CloseConnection(self.context.client)

    def _cut_off(self) -> Commands[None]:
        """End a stream of HTTP/2 that is denied: with the reason, if nothing of an answer was sent before."""
        if self.server_state in (self.state_done, self.state_errored):
            return
        if self.flow.response is not None:
            self.flow.metadata[CUT] = True
            yield from self._reset_if_cut()
        elif self._gate.withdraw(self.flow):
            error = RequestProtocolError(self.stream_id, "the request is denied", ErrorCode.KILL)
            yield SendHttp(error, self.context.server)
            yield from self._refuse(ended=True)

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Commands[None]:
        """Let mitmproxy go on with a request, unless it was denied."""
        steps = super().state_wait_for_request_headers(event)
        reply: Any = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration:
                return
            if isinstance(command, HttpRequestHeadersHook):
                self.flow.metadata[ENDED] = event.end_stream
            reply = yield command
            if isinstance(command, HttpRequestHeadersHook) and self.flow.metadata.get(REFUSED):
                steps.close()
                yield from self._refuse(ended=event.end_stream)
                return
            if EXTENSIONS in (headers := self.flow.request.headers):
                del headers[EXTENSIONS]

    def state_stream_request_body(self, event: HttpEvent) -> Commands[None]:
        """Pass a body on; when it was stopped, its end must not look like one.

        Trailers are left out (RFC 9110 section 6.5.1): nobody has judged or counted them.
        """
        if not self.flow.metadata.get(CUT) and not isinstance(event, RequestTrailers):
            yield from super().state_stream_request_body(event)
            yield from self._reset_if_cut()

    def state_stream_response_body(self, event: events.Event) -> Commands[None]:
        """Pass a body on, unless it was stopped."""
        if self.flow.metadata.get(CUT):
            return
        if isinstance(event, ResponseTrailers) and not self._gate.trailers(self.flow, event.trailers):
            self.flow.metadata[CUT] = True
        else:
            yield from super().state_stream_response_body(event)
        yield from self._reset_if_cut()

    def _reset_if_cut(self) -> Commands[None]:
        """End a stream that was stopped, and leave the others of its connection alone. HTTP/1 has but one."""
        if not self.flow.metadata.get(CUT) or not self.flow.request.is_http2:
            return
        self.client_state = self.server_state = self.state_errored
        self.flow.error = flow.Error("cut off")
        yield HttpErrorHook(self.flow)
        yield SendHttp(RequestProtocolError(self.stream_id, "cut off", ErrorCode.KILL), self.context.server)
        yield SendHttp(ResponseProtocolError(self.stream_id, "cut off", ErrorCode.KILL), self.context.client)
        self.flow.live = False
        yield DropStream(self.stream_id)

    def state_consume_request_body(self, event: events.Event) -> Commands[None]:
        """End a request without a body."""
        if not isinstance(event, RequestTrailers):
            yield from super().state_consume_request_body(event)

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Commands[None]:
        """Let mitmproxy go on with an answer, unless it was denied: then the server is left, and the client told.

        Where a rule wants to know, the answer is held back until its first octets are here.
        """
        self.flow.metadata[EMPTY] = event.end_stream
        if EXTENSIONS in (headers := event.response.headers):
            del headers[EXTENSIONS]
        if self._look is None and not event.end_stream:
            self._look = self._gate.look(self.flow, event.response)
            if self._look is not None:
                self._held.append(event)
                self.server_state = self.state_look_at_response
                return
        steps = super().state_wait_for_response_headers(event)
        reply: Any = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration:
                return
            reply = yield command
            if isinstance(command, HttpResponseHeadersHook) and self.flow.metadata.get(REFUSED):
                steps.close()
                ended = self.client_state == self.state_done
                error = RequestProtocolError(self.stream_id, "the answer is refused", ErrorCode.KILL)
                yield SendHttp(error, self.context.server)
                yield from self._refuse(ended=ended)
                return

    def state_look_at_response(self, event: HttpEvent) -> Commands[None]:
        """Hold an answer back until enough of it was seen; then go on as if all had come at once."""
        assert self._look is not None
        self._held.append(event)
        if isinstance(event, ResponseData):
            enough = self._look.feed(event.data)
        else:
            self._look.end()
            enough = True
        if enough:
            held, self._held = self._held, []
            self.server_state = self.state_wait_for_response_headers
            for each in held:
                yield from self._handle_event(each)

    def make_server_connection(self) -> Commands[bool]:
        """Connect; when that fails, say why in the gateway's words."""
        request = self.flow.request
        connection, error = yield GetHttpConnection(
            (request.host, request.port),
            request.scheme == "https",
            self.flow.server_conn.via,
            self.flow.server_conn.transport_protocol,
        )
        if not error:
            if self._gate.proven(self.flow, connection.id):
                self.context.server = self.flow.server_conn = connection
                return True
        else:
            self._gate.unreachable(self.flow, error)
        yield from self._refuse(ended=bool(self.flow.metadata.get(ENDED)))
        return False

    def _refuse(self, *, ended: bool) -> Commands[None]:
        response = self.flow.response
        assert response is not None
        client = self.context.client
        content = b"" if self.flow.request.method == "HEAD" else response.raw_content or b""
        self.flow.live = False
        self.client_state = self.server_state = self.state_errored
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=not content), client)
        if content:
            yield SendHttp(ResponseData(self.stream_id, content), client)
        yield SendHttp(EndOfRefusal(self.stream_id), client)
        if not ended and not self.flow.request.is_http2:
            # The body still comes. The answer first, then some time to read it: closing at once would reset the
            # connection, and the client would never see why.
            yield commands.CloseTcpConnection(client, half_close=True)
            yield commands.RequestWakeup(LINGER)


class GatedHttpLayer(LeanHttpLayer):
    """mitmproxy's HTTP layer with the strict parts in it.

    `forms` are the request targets that it accepts, `answered` calls a hook and says whether it has returned.
    """

    def __init__(
        self,
        context: Context,
        forms: frozenset[Form],
        gate: Gatekeeper,
        answered: Callable[[commands.StartHook], bool] = later,
    ) -> None:
        super().__init__(context, HTTPMode.transparent if forms is INSIDE else HTTPMode.regular)
        self._gate = gate
        self._answered = answered
        self._forms = forms

    def _handle_event(self, event: events.Event) -> Commands[None]:
        if isinstance(event, events.DataReceived):
            if (side := self.connections.get(event.connection)) is not None:
                return self.event_to_child(side, event)
        elif isinstance(event, events.Start | CutOff):
            return self._begin_or_cut(event)
        return cast(Commands[None], super()._handle_event(event))

    def _begin_or_cut(self, event: events.Event) -> Commands[None]:
        client = self.context.client
        if isinstance(event, CutOff):
            for stream in tuple(self.streams.values()):
                if getattr(getattr(stream, "flow", None), "id", None) == event.flow_id:
                    yield from self.event_to_child(stream, event)
            return
        if client.alpn == b"h2":
            self.connections[client] = StrictHttp2Server(self.context.fork(), self._gate)
        else:
            self.connections[client] = StrictHttp1Server(self.context.fork(), self._forms, self._gate)
        yield from super()._handle_event(event)

    def is_full(self, connection: Connection) -> bool:
        """Whether so much that came over a connection is still to be taken by the other side that it may wait.

        TCP does that by itself; of HTTP/2, each stream has its window, and what is beyond it waits in memory.
        """
        client = self.context.client
        if client.alpn != b"h2" or not (side := self.connections.get(client)):
            return False
        others = ((each, found.context.layers[-1]) for each, found in self.connections.items() if each is not client)
        if connection is client:
            return any(
                isinstance(end, BoundedHttp2Connection) and end.waiting() > MOST_WAITING_IN_ALL for _, end in others
            )
        return any(each is connection and is_behind(side, end) for each, end in others)

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """Make the layer of one request."""
        stream = GatedStream(self.context.fork(), stream_id, self._gate, self._answered)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())


def _authority(authority: str | bytes, check: bool) -> tuple[str, int | None]:
    """Split an authority as everything here does.

    mitmproxy would write international names out, which are judged and asked for as they are in the DNS, and refuse
    those that IDNA 2003 does not know.
    """
    text = authority if isinstance(authority, str) else authority.decode("ascii", "backslashreplace")
    try:
        host, port = split_authority(text, 0)
    except ValueError:
        if check:
            raise
        return text, None
    return str(host), port or None


url.parse_authority = _authority
