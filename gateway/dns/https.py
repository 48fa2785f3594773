"""Asking an upstream over HTTPS (RFC 8484), by POST over HTTP/2: all queries share one connection.

The id of a query is 0 on the wire, as RFC 8484 section 4.1 asks for: a stream belongs to one query, and nobody else
can speak on it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from gateway.dns.channel import Connection, Lost
from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.settings import Endpoint
from gateway.dns.wire import HEADER

_TYPE = "application/dns-message"
MAX_BODY = 65535
"""Octets of an answer: no DNS message is longer."""
_MAX_HEADERS = 16384


@dataclass(slots=True)
class _Reply:
    problem: str = "no header"
    body: bytearray = field(default_factory=bytearray)


class Requests(Connection):
    """An HTTP/2 connection."""

    def __init__(self, idle: float, endpoint: Endpoint) -> None:
        super().__init__(idle)
        self._endpoint = endpoint
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        initial = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEADERS}
        self._h2.local_settings = Settings(client=True, initial_values=initial)
        self._replies: dict[int, _Reply] = {}
        host = f"[{endpoint.address}]" if endpoint.address.version == 6 else str(endpoint.address)
        authority = (endpoint.name or host) + (f":{endpoint.port}" if endpoint.port != 443 else "")
        self._headers = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", endpoint.path),
            ("accept", _TYPE),
            ("content-type", _TYPE),
        ]

    @classmethod
    def maker(cls, endpoint: Endpoint) -> Callable[[float], Connection]:
        """Return what makes connections for an endpoint."""
        return lambda idle: cls(idle, endpoint)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to speak HTTP/2, if the other side does."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            self.end("the upstream does not speak HTTP/2")
            return
        self._h2.initiate_connection()
        self._flush()

    @property
    def has_room(self) -> bool:
        """Whether the upstream takes one more query, as far as it has said."""
        most = self._h2.remote_settings.max_concurrent_streams
        return super().has_room and self._h2.open_outbound_streams < most

    def encode(self, packet: bytes) -> tuple[int, bytes]:
        """Open a stream for a query."""
        size = len(packet)
        try:
            if self._h2.open_outbound_streams >= self._h2.remote_settings.max_concurrent_streams:
                raise UpstreamError(Failure.NONE_LEFT, f"{self._endpoint} takes no more queries at once")
            if self._h2.outbound_flow_control_window < size or self._h2.remote_settings.initial_window_size < size:
                raise UpstreamError(Failure.NONE_LEFT, f"{self._endpoint} takes no more octets")
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, [*self._headers, ("content-length", str(size))])
            self._h2.send_data(stream, b"\0\0" + packet[2:], end_stream=True)
        except H2Error as error:
            self.end(f"HTTP/2: {error}")
            raise Lost(f"HTTP/2: {error}") from None
        self._replies[stream] = _Reply()
        return stream, self._h2.data_to_send()

    def abandon(self, ident: int) -> None:
        """Take the stream back."""
        del self._waiting[ident]
        self._drop(ident)
        self._flush()

    def received(self, data: bytes) -> None:
        """Take in frames."""
        try:
            for event in self._h2.receive_data(data):
                self._handle(event)
        except H2Error as error:
            self._flush()
            self.end(f"HTTP/2: {error}")
            return
        self._flush()

    def _handle(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            # What was accepted before is asked again too: a query may be repeated, and the library reads no more.
            self.end("the upstream said good-bye (GOAWAY)")
        elif isinstance(event, ResponseReceived):
            reply = self._replies.get(event.stream_id or 0)
            if reply is not None:
                reply.problem = _problem({_text(name): _text(value) for name, value in event.headers or ()})
        elif isinstance(event, DataReceived):
            assert event.stream_id is not None
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            reply = self._replies.get(event.stream_id)
            if reply is None:
                return
            reply.body += event.data or b""
            if len(reply.body) > MAX_BODY:
                self._drop(event.stream_id)
                self.settle(event.stream_id, self._malformed("sent an answer that is too long"))
        elif isinstance(event, StreamEnded):
            reply = self._replies.pop(event.stream_id or 0, None)
            if reply is None or event.stream_id is None:
                return
            if reply.problem or len(reply.body) < HEADER:
                self.settle(event.stream_id, self._malformed(reply.problem or "sent no DNS message"))
            else:
                self.settle(event.stream_id, bytes(reply.body))
        elif isinstance(event, StreamReset) and self._replies.pop(event.stream_id or 0, None) is not None:
            self.settle(event.stream_id or 0, Lost("the upstream reset the stream"))

    def _malformed(self, problem: str) -> UpstreamError:
        return UpstreamError(Failure.MALFORMED, f"{self._endpoint} {problem}")

    def _drop(self, stream: int) -> None:
        self._replies.pop(stream, None)
        try:
            self._h2.reset_stream(stream, ErrorCodes.CANCEL)
        except H2Error:
            pass  # it has ended by itself

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _text(octets: bytes | str) -> str:
    return octets if isinstance(octets, str) else octets.decode("latin-1")


def _problem(headers: dict[str, str]) -> str:
    """Return what is wrong with the head of a response, or nothing."""
    status = headers.get(":status")
    if status != "200":
        return f"answered HTTP {status}"
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    return "" if media == _TYPE else f"answered with {media or 'no content type'}"
