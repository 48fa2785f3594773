"""A scriptable upstream name server on loopback, UDP and TCP on the same port, or TLS or HTTPS.

A test gives `handle(query, protocol)`, which returns what is sent back: a dnslib message, raw bytes (to be malformed
on purpose), None (silence), or a list of those (several datagrams). It may be a coroutine, to answer when the test
says so.
"""

import asyncio
import inspect
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, SOA, A, DNSRecord
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from gateway.dns.settings import Endpoint, parse_endpoint, parse_upstream

type Message = Any  # a dnslib DNSRecord: dnslib has no types
type Reply = Message | bytes | list[Any] | None
type Handle = Callable[[Message, str], Reply | Awaitable[Reply]]


@dataclass
class Upstream:
    """A running upstream."""

    handle: Handle
    endpoint: Endpoint = field(default_factory=lambda: parse_endpoint("udp://127.0.0.1:0", 0))
    queries: list[tuple[Message, str]] = field(default_factory=list)
    """Every query received, with its protocol."""
    packets: list[bytes] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    """The source port of each query."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first query comes in."""
    connections: int = 0
    """Accepted, over TCP, TLS or HTTPS."""
    closing: bool = True
    """Whether a connection is closed when the handler has nothing to say."""
    goodbye: bool = False
    """Over HTTPS: say GOAWAY instead of the next answer."""
    reset: bool = False
    """Over HTTPS: reset the stream instead of the next answer."""
    head: dict[str, str] = field(default_factory=dict)
    """Over HTTPS: what is different in the head of a response."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """Over HTTPS: the heads of all requests."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def connected(self) -> int:
        """Connections that are open now."""
        return len(self._writers)

    @property
    def names(self) -> list[str]:
        """Every name asked for, lower case, without the final dot."""
        return [str(query.q.qname).rstrip(".").lower() for query, _ in self.queries]

    async def replies(self, data: bytes, protocol: str, port: int) -> list[bytes]:
        """Return what is to be sent back."""
        query = DNSRecord.parse(data)
        self.queries.append((query, protocol))
        self.packets.append(data)
        self.ports.append(port)
        self.asked.set()
        given = self.handle(query, protocol)
        found: Any = await given if inspect.isawaitable(given) else given
        several = found if isinstance(found, list) else [found]
        return [each if isinstance(each, bytes) else each.pack() for each in several if each is not None]

    def serve_udp(self, sock: socket.socket) -> None:
        """Answer what waits in the socket."""
        try:
            data, peer = sock.recvfrom(4096)
        except BlockingIOError:
            return

        async def answer() -> None:
            for reply in await self.replies(data, "udp", peer[1]):
                sock.sendto(reply, peer)

        task = asyncio.get_running_loop().create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer queries, each as soon as its answer is known."""
        self._writers.add(writer)
        self.connections += 1
        protocol = "tcp" if writer.get_extra_info("ssl_object") is None else "tls"

        async def answer(data: bytes) -> None:
            replies = await self.replies(data, protocol, writer.get_extra_info("peername")[1])
            for reply in replies:
                writer.write(len(reply).to_bytes(2, "big") + reply)
            if not replies and self.closing:
                writer.close()

        try:
            while True:
                data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                task = asyncio.get_running_loop().create_task(answer(data))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, as some tests make it do
        finally:
            writer.close()
            self._writers.discard(writer)

    async def serve_https(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer queries over HTTP/2."""
        self._writers.add(writer)
        self.connections += 1
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        h2.initiate_connection()
        bodies: dict[int, bytearray] = {}
        heard = asyncio.Event()

        async def answer(stream: int, data: bytes) -> None:
            replies = await self.replies(data, "https", writer.get_extra_info("peername")[1])
            if self.goodbye:
                self.goodbye = False
                h2.close_connection()
            elif self.reset:
                self.reset = False
                h2.reset_stream(stream)
            elif replies:
                head = {":status": "200", "content-type": "application/dns-message", **self.head}
                h2.send_headers(stream, list(head.items()))
                body = b"".join(replies)
                while len(body) > (room := min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size)):
                    h2.send_data(stream, body[:room])
                    body = body[room:]
                    writer.write(h2.data_to_send())
                    heard.clear()
                    await heard.wait()
                h2.send_data(stream, body, end_stream=True)
            writer.write(h2.data_to_send())

        try:
            writer.write(h2.data_to_send())
            while data := await reader.read(65536):
                for event in h2.receive_data(data):
                    if isinstance(event, RequestReceived):
                        assert event.stream_id is not None
                        bodies[event.stream_id] = bytearray()
                        self.requests.append({str(name): str(value) for name, value in event.headers or ()})
                    elif isinstance(event, DataReceived):
                        bodies[event.stream_id or 0] += event.data or b""
                    elif isinstance(event, StreamEnded):
                        assert event.stream_id is not None
                        task = asyncio.get_running_loop().create_task(
                            answer(event.stream_id, bytes(bodies[event.stream_id]))
                        )
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                writer.write(h2.data_to_send())
                heard.set()
        except OSError:
            pass  # as above
        finally:
            writer.close()
            self._writers.discard(writer)

    async def end(self) -> None:
        """Stop what still waits."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)  # transports close one turn of the loop after they are told to


@asynccontextmanager
async def upstream(handle: Handle) -> AsyncIterator[Upstream]:
    """Run an upstream on a port of its own."""
    loop = asyncio.get_running_loop()
    udp, tcp = _sockets()
    server_side = Upstream(handle)
    port = udp.getsockname()[1]
    server_side.endpoint = parse_endpoint(f"udp://127.0.0.1:{port}")
    loop.add_reader(udp, server_side.serve_udp, udp)
    server = await asyncio.start_server(server_side.serve_tcp, sock=tcp)
    try:
        yield server_side
    finally:
        loop.remove_reader(udp)
        server.close()
        await server_side.end()
        udp.close()


@asynccontextmanager
async def encrypted(handle: Handle, certificate: Path, scheme: str = "tls") -> AsyncIterator[Upstream]:
    """Run an upstream over `tls` or `https`, with a certificate and its key in one file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"] if scheme == "https" else ["dot"])
    server_side = Upstream(handle)
    serve = server_side.serve_https if scheme == "https" else server_side.serve_tcp
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    path = "/dns-query" if scheme == "https" else ""
    server_side.endpoint = parse_upstream(f"{scheme}://127.0.0.1:{port}{path}#dns.test")
    try:
        yield server_side
    finally:
        server.close()
        await server_side.end()


def _sockets() -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a listening TCP socket on the same free port."""
    for _ in range(100):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        udp.bind(("127.0.0.1", 0))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            continue
        tcp.listen(64)
        return udp, tcp
    raise AssertionError("no port that is free for both UDP and TCP")


def zone(records: dict[str, list[str]], *, ttl: int = 300) -> Handle:
    """Return a handler for a small zone. A value is an address, or `=name` for a CNAME (followed as far as known)."""

    def handle(query: Message, _: str) -> Reply:
        return answer(query, records, ttl=ttl)

    return handle


def answer(query: Message, records: dict[str, list[str]], *, ttl: int = 300) -> Message:
    """Return the answer of a recursive resolver to a query."""
    reply = query.reply()
    reply.header.aa = 0
    name = str(query.q.qname).rstrip(".").lower()
    owner, found, exists = query.q.qname, False, name in records
    while name in records:
        alias = next((value[1:] for value in records[name] if value.startswith("=")), None)
        if alias is not None:
            reply.add_answer(RR(owner, QTYPE.CNAME, rdata=CNAME(alias), ttl=ttl))
            owner, name = alias, alias
            found = found or query.q.qtype == QTYPE.CNAME
            continue
        for value in records[name]:
            kind = QTYPE.AAAA if ":" in value else QTYPE.A
            if kind == query.q.qtype:
                reply.add_answer(RR(owner, kind, rdata=(AAAA if ":" in value else A)(value), ttl=ttl))
                found = True
        break
    if not found:
        if not exists:
            reply.header.rcode = RCODE.NXDOMAIN
        reply.add_auth(
            RR("example", QTYPE.SOA, rdata=SOA("ns.example", "admin.example", (1, 60, 60, 60, 120)), ttl=90)
        )
        parent = ".".join(name.split(".")[1:]) or "."
        reply.auth[0].rname = parent
    return reply
