"""A resolver on every transport, and clients of it: DoT with sockets, DoH with h2."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from gateway.dns.certificate import Certificate
from gateway.dns.resolver import Resolver
from gateway.dns.server import serve_resolver
from gateway.dns.settings import Endpoint, parse_place
from tests.peers.tls_origin import make_certificate

TRANSPORTS = ("udp://127.0.0.1:0", "tcp://127.0.0.1:0", "tls://127.0.0.1:0", "https://127.0.0.1:0/dns-query")
NAME = "dns.test"


def a_certificate(folder: Path) -> Certificate:
    """Make a certificate for `NAME`, in `dns.pem` together with its key."""
    path = make_certificate(folder / "dns.pem", NAME)
    return Certificate(path, path)


def client_context(folder: Path, *protocols: str) -> ssl.SSLContext:
    """Return a context that trusts that certificate and nothing else."""
    context = ssl.create_default_context(cafile=folder / "dns.pem")
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@asynccontextmanager
async def serving_all(
    resolver: Resolver,
    certificate: Certificate,
    listen: Sequence[str] = TRANSPORTS,
    *,
    grace: float = 5.0,
    idle: float = 10.0,
) -> AsyncIterator[list[Endpoint]]:
    """Run a server on ports of its own."""
    ready: asyncio.Future[Sequence[Endpoint]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            serve_resolver(
                resolver,
                [parse_place(text) for text in listen],
                stop=stop,
                ready=ready.set_result,
                grace=grace,
                certificate=certificate,
                idle=idle,
            )
        )
        try:
            yield list(await ready)
        finally:
            stop.set()
    await resolver.close()


@asynccontextmanager
async def connected(
    place: Endpoint, context: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a TLS connection."""
    reader, writer = await asyncio.open_connection(
        str(place.address), place.port, ssl=context, server_hostname=NAME, limit=1 << 20
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


class Http2Client:
    """An HTTP/2 client that can also be rude."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Say hello."""
        self.reader, self.writer = reader, writer
        self.path = path
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="ascii"))
        self.events: list[Event] = []
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what is prepared."""
        self.writer.write(self.h2.data_to_send())

    def begin(self, ident: int, method: str, target: str | None = None, *, end: bool = True, **more: str) -> None:
        """Send the head of a request. Fields are given with underscores for dashes."""
        fields = [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", target or self.path)]
        fields += [(name.replace("_", "-"), value) for name, value in more.items()]
        self.h2.send_headers(ident, fields, end_stream=end)
        self.flush()

    def post(self, ident: int, body: bytes, **more: str) -> None:
        """Send a query in a body."""
        self.begin(ident, "POST", end=False, **{"content_type": "application/dns-message", **more})
        self.h2.send_data(ident, body, end_stream=True)
        self.flush()

    async def turn(self) -> bool:
        """Take what comes; return whether the connection still stands."""
        try:
            data = await asyncio.wait_for(self.reader.read(65536), 10)
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        with suppress(ProtocolError):
            for event in self.h2.receive_data(data):
                self.events.append(event)
                if isinstance(event, DataReceived) and event.flow_controlled_length:
                    with suppress(ProtocolError):
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        self.flush()
        return True

    async def until_closed(self) -> int | None:
        """Read until the server closes; return the code of its GOAWAY."""
        while await self.turn():
            pass
        codes = [event.error_code for event in self.events if isinstance(event, ConnectionTerminated)]
        return None if not codes else int(codes[-1] or 0)

    def done(self, ident: int) -> bool:
        """Say whether a stream has come to its end."""
        return any(isinstance(event, StreamEnded | StreamReset) and event.stream_id == ident for event in self.events)

    async def response(self, ident: int) -> tuple[int, dict[str, str], bytes]:
        """Return status, fields and body; status 0 for a stream that was reset."""
        while not self.done(ident) and await self.turn():
            pass
        fields: dict[str, str] = {}
        body = b""
        for event in self.events:
            if isinstance(event, ResponseReceived) and event.stream_id == ident:
                fields = {str(name): str(value) for name, value in event.headers or ()}
            elif isinstance(event, DataReceived) and event.stream_id == ident:
                body += event.data or b""
        return int(fields.pop(":status", "0")), fields, body


@asynccontextmanager
async def http2(place: Endpoint, folder: Path) -> AsyncIterator[Http2Client]:
    """Open an HTTP/2 connection."""
    async with connected(place, client_context(folder, "h2")) as (reader, writer):
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        yield Http2Client(reader, writer, place.path)
