"""The origins and the name server that attempts are made against: they record every octet and every question."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSError, DNSRecord

_PATH = re.compile(rb"(?:GET|POST) (?:http://[^/ ]*)?(/[a-z0-9-]*)").match

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
ANSWERS: dict[bytes, bytes] = {
    b"/alt-svc": b'HTTP/1.1 200 OK\r\nAlt-Svc: h3=":443"; ma=86400\r\nContent-Length: 2\r\n\r\nok',
    b"/redirect": b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n",
    b"/switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    b"/longer": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + POISON,
    b"/both": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    b"/lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 50\r\n\r\nok" + POISON,
    b"/signed": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok" + POISON,
    b"/coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\nok" + POISON,
    b"/spaced": b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + POISON,
    b"/chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n" + POISON,
    b"/empty": b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n" + POISON,
    b"/same": b"HTTP/1.1 304 Not Modified\r\n\r\n" + POISON,
    b"/websocket": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    ),
    b"/split": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\nContent-Length: 2\r\n\r\nok",
    b"/flood": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 20_000,
    b"/head": b"HTTP/1.1 200 OK\r\n" + b"X-Many: y\r\n" * 200_000,
}
"""Answers of the allowed origin that are not as they should be, by path."""


@dataclass(slots=True)
class Origin:
    """A server that records what reaches it, and answers HTTP."""

    connections: int = 0
    octets: int = 0
    port: int = 0
    received: bytearray = field(default_factory=bytearray)
    """The first octets of all connections, as they came."""
    _servers: list[asyncio.Server] = field(default_factory=list)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, *hosts: str, port: int = 0) -> None:
        """Listen on the same port of all hosts."""
        for host in hosts:
            server = await asyncio.start_server(self._serve, host, self.port or port)
            self._servers.append(server)
            self.port = server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and cut off who is connected."""
        for server in self._servers:
            server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._answer(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()
            await asyncio.sleep(0)  # the transport says so in the next turn of the loop

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = bytearray()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.octets += len(data)
                if len(self.received) < 1 << 20:
                    self.received += data
                head += data[: 65536 - len(head)]
                while b"\r\n\r\n" in head:
                    first, _, rest = bytes(head).partition(b"\r\n\r\n")
                    head[:] = rest
                    found = _PATH(first)
                    if found is not None:
                        writer.write(ANSWERS.get(found[1], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
                await writer.drain()


class NameServer(asyncio.DatagramProtocol):
    """Answers questions for addresses from a table, and remembers what it was asked."""

    def __init__(self, table: Mapping[str, tuple[str, ...]]) -> None:
        self.table = dict(table)
        self.asked: list[str] = []
        self.flips: dict[str, tuple[str, ...]] = {}
        """What a name leads to from the second question on."""
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        """Remember the transport."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer, or say nothing for names below `slow.good.test`."""
        try:
            query = DNSRecord.parse(data)
        except DNSError:
            return
        name, kind = str(query.q.qname).rstrip(".").lower(), query.q.qtype
        self.asked.append(name)
        if name.endswith(".slow.good.test"):
            return
        reply = query.reply()
        found = self.table.get(name)
        if found is None:
            reply.header.rcode = RCODE.NXDOMAIN
        for text in found or ():
            address = ip_address(text)
            if kind == (QTYPE.A if address.version == 4 else QTYPE.AAAA):
                rdata = (A if address.version == 4 else AAAA)(tuple(address.packed))
                reply.add_answer(RR(query.q.qname, kind, ttl=0, rdata=rdata))
        if kind == QTYPE.A and name in self.flips:
            self.table[name] = self.flips[name]
        assert self._transport is not None
        self._transport.sendto(reply.pack(), addr)


@dataclass(slots=True)
class World:
    """Everything behind the proxy."""

    good: Origin
    evil: Origin
    names: NameServer
    dns_port: int

    def touched(self) -> tuple[int, int, int]:
        """Return octets at the allowed origin; connections and octets at the forbidden one."""
        return self.good.octets, self.evil.connections, self.evil.octets


def zone(good: str) -> dict[str, tuple[str, ...]]:
    """Return the names that the battery uses. `good` is the address of the allowed origin."""
    allowed = ("good.test", "www.good.test", "seen.test", "capped.test", "flip.good.test")
    return {
        **dict.fromkeys(allowed, (good,)),
        "evil.test": ("127.0.0.2",),
        "private.good.test": ("10.0.0.1",),
        "loopback.good.test": ("127.0.0.2",),
        "mapped.good.test": ("::ffff:127.0.0.2",),
        "local6.good.test": ("::1",),
        "metadata.good.test": ("169.254.169.254",),
        "unique.good.test": ("fd00::1",),
    }


@contextlib.asynccontextmanager
async def a_world(good: str = "127.0.0.1", *, good_port: int = 0, dns: tuple[str, int]) -> AsyncIterator[World]:
    """Run origins and name server. The forbidden origin listens on every address.

    Raises:
        OSError: a port is in use.
    """
    allowed, forbidden = Origin(), Origin()
    await allowed.start(good, port=good_port)
    loop = asyncio.get_running_loop()
    transport = None
    try:
        try:
            await forbidden.start("0.0.0.0", "::")
        except OSError:  # no IPv6 here
            await forbidden.start("0.0.0.0")
        transport, names = await loop.create_datagram_endpoint(lambda: NameServer(zone(good)), local_addr=dns)
        yield World(allowed, forbidden, names, transport.get_extra_info("sockname")[1])
    finally:
        if transport is not None:
            transport.close()
        await allowed.stop()
        await forbidden.stop()
