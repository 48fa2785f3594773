"""An HTTP/2 web server inside TLS, which answers by the path: with trailers, in pieces, or not at all."""

import asyncio
import ssl
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from gateway.selfcheck.client import start_tls
from tests.peers.tls_origin import TlsOrigin

BODY = b"hello over h2\n"


@dataclass(slots=True)
class H2Origin(TlsOrigin):
    """Serves HTTP/2. `/trailers` ends with a grpc-status, `/early` begins with a 103, `/large` has 2,800 octets,
    `/wait` begins and `/silence` does not, until somebody asks for `/go`.
    """

    paths: list[str] = field(default_factory=list)
    """Of the requests, in their order."""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Of requests."""

    resets: int = 0
    """Requests that were taken back."""

    async def secure(self, writer: asyncio.StreamWriter) -> None:
        """Do the handshake, and agree on HTTP/2."""
        assert self.certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        context.set_alpn_protocols(["h2"])
        await start_tls(writer, context)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client ends."""
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        asked: dict[int, str] = {}
        waiting: dict[int, str] = {}
        while True:
            writer.write(connection.data_to_send())
            data = await reader.read(65536)
            if not data:
                return
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    fields = {bytes(name): bytes(value) for name, value in event.headers}
                    asked[event.stream_id] = fields[b":path"].decode()
                    self.paths.append(asked[event.stream_id])
                elif isinstance(event, h2.events.TrailersReceived):
                    self.trailers += event.headers
                elif isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    path = asked.pop(event.stream_id)
                    if path.startswith(("/wait", "/silence")):
                        waiting[event.stream_id] = path
                    if not path.startswith("/silence"):
                        _reply(connection, event.stream_id, path)
                    if path == "/go":
                        for stream, held in waiting.items():
                            _go_on(connection, stream, held)
                elif isinstance(event, h2.events.StreamReset):
                    self.resets += 1
                    waiting.pop(event.stream_id, None)


def _reply(connection: h2.connection.H2Connection, stream: int, path: str) -> None:
    if path == "/early":
        connection.send_headers(stream, [(":status", "103"), ("link", "</x>")])
    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"), ("etag", '"x"')])
    body = BODY * 200 if path == "/large" else BODY
    connection.send_data(stream, body, end_stream=not path.startswith(("/trailers", "/wait")))
    if path == "/trailers":
        connection.send_headers(stream, [("grpc-status", "0"), ("grpc-message", "fine")], end_stream=True)


def _go_on(connection: h2.connection.H2Connection, stream: int, path: str) -> None:
    if path.startswith("/silence"):
        _reply(connection, stream, path)
    else:
        connection.send_data(stream, BODY, end_stream=True)
