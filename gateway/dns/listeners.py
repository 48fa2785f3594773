"""Where clients come in: bound sockets, and DNS messages over TCP and TLS. UDP is in `udp`.

Over TCP (RFC 7766) and TLS (RFC 7858) queries may be pipelined and answers overtake each other.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator

from gateway.binding import remedy
from gateway.dns.admission import Admission
from gateway.dns.outbound import padded
from gateway.dns.replies import Miss
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint
from gateway.dns.streams import HANDSHAKE, StreamListener, close_stream
from gateway.dns.tally import Transport
from gateway.dns.transfer import batches

_BUFFER = 4 << 20
"""Socket buffers: a burst waits here while a policy is swapped."""
_PROBE = 3
_WHOLE = {
    socket.AF_INET: (socket.IPPROTO_IP, 10, _PROBE),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, _PROBE),
}
"""IP_MTU_DISCOVER and IPV6_MTU_DISCOVER (from linux/in.h and linux/in6.h: Python has no names for them): datagrams
leave whole, whatever ICMP says about the path (RFC 9715). Who forges that has answers cut into fragments, to put some
of his own between them. Answers are short enough for any path that is usual; elsewhere clients come over TCP.

It is cheaper too: an answer needs no number by which fragments find each other. Of `sendmmsg`, that was 5 %.
"""

MAX_PIPELINED = 64
"""Queries on one connection that are unanswered, or whose answers nobody takes; then no more are read."""
MAX_TURN = 4
"""Queries of one connection answered before others have their turn."""
IDLE = 10.0
"""Seconds for a whole query to come in, or for an answer to be taken (RFC 7766 section 6.2.3)."""


class ListenError(OSError):
    """An address cannot be listened on; the text says which, why and what to do."""


def bind(endpoint: Endpoint, *, reuse_port: bool = False) -> socket.socket:
    """Return a bound socket, listening if it is TCP.

    Raises:
        ListenError: it cannot be had.
    """
    family = socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if endpoint.scheme == "udp" else socket.SOCK_STREAM
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            sock.setsockopt(*_WHOLE[family])
        sock.bind((str(endpoint.address), endpoint.port))
        if kind == socket.SOCK_STREAM:
            sock.listen(1024)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise ListenError(f"dns.listen: {endpoint}: {remedy(error, kind, endpoint.port)}") from None
    return sock


class TcpListener(StreamListener):
    """Serves one TCP socket; with a TLS context, that is DoT, and answers are padded."""

    def __init__(
        self,
        resolver: Resolver,
        admission: Admission | None = None,
        *,
        context: Callable[[], ssl.SSLContext] | None = None,
        idle: float = IDLE,
        handshake: float = HANDSHAKE,
    ) -> None:
        def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> _Connection:
            return _Connection(reader, writer, peer, resolver, idle, pad=context is not None)

        super().__init__(connect, admission, context=context, handshake=handshake)


class _Connection:
    """One TCP connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
        resolver: Resolver,
        idle: float,
        *,
        pad: bool,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._resolver = resolver
        self._idle = idle
        self._pad = pad
        self._transport = Transport.TLS if pad else Transport.TCP
        self._room = asyncio.Semaphore(MAX_PIPELINED)
        self._ending = False
        self._reading: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Read queries until the client stops or is idle; then wait for its answers."""
        turn = 0
        try:
            async with asyncio.TaskGroup() as group:
                while not self._ending:
                    # Once there are too many unanswered queries, the answers decide how it goes on.
                    await self._room.acquire()
                    data = await self._read()
                    if data is None:
                        break
                    self._resolver.tally.queries[self._transport] += 1
                    reply = self._resolver.answer_stream(self._peer, data)
                    if isinstance(reply, Miss):
                        group.create_task(self._later(reply))
                    elif reply is None or isinstance(reply, bytes):
                        await self._send(reply)
                    else:
                        await self._transfer(reply)
                    turn += 1
                    if not turn % MAX_TURN:
                        await asyncio.sleep(0)  # nothing above gives way while queries and room are there
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise
        finally:
            await close_stream(self._writer, self._idle)

    def stop(self) -> None:
        """Read no more queries."""
        self._ending = True
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def _read(self) -> bytes | None:
        """Return the next message; None when there will be none."""
        if self._ending:
            return None
        try:
            # The time is for the whole message: octets that trickle in do not extend it.
            async with asyncio.timeout(self._idle) as self._reading:
                length = int.from_bytes(await self._reader.readexactly(2), "big")
                return await self._reader.readexactly(length)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return None
        finally:
            self._reading = None

    async def _later(self, miss: Miss) -> None:
        await self._send(await self._resolver.answer_later(miss))

    async def _transfer(self, zone: Iterator[bytes]) -> None:
        """Send a zone, a few messages at a time, and each only when the client takes those before."""
        take = batches(zone)
        while not self._writer.is_closing() and (messages := await asyncio.to_thread(take)):
            for message in messages:
                await self._write(message)
        self._room.release()

    async def _send(self, reply: bytes | None) -> None:
        try:
            if reply is not None and not self._writer.is_closing():
                await self._write(padded(reply) if self._pad else reply)
        finally:
            self._room.release()  # not before: answers that a client does not take are kept

    async def _write(self, reply: bytes) -> None:
        self._writer.write(len(reply).to_bytes(2, "big") + reply)
        try:
            # Waits only while the client does not read and the buffer is full.
            async with asyncio.timeout(self._idle):
                await self._writer.drain()
        except (TimeoutError, OSError):
            self._ending = True
            self._writer.transport.abort()
