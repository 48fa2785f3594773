"""A connection to one upstream over TCP or TLS, kept open and shared by all queries (RFC 7766, RFC 7858).

Several queries are on their way at once, and their answers may come in any order: each is known by an id that is
random and unique on the connection. Whether an answer fits its question is for the caller to check. While a
connection is full, there is another: names that nobody answers for would otherwise keep all others waiting.
"""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

from gateway.dns.exchange import Failure, UpstreamError, random_id
from gateway.dns.settings import Endpoint
from gateway.dns.wire import HEADER

MAX_PIPELINED = 256
"""Unanswered queries on one connection, those included that nobody waits for any more."""
MAX_CONNECTIONS = 8
"""To one upstream; one does as long as answers come. All together hold more than one client may have waiting."""
IDLE = 10.0
"""Seconds that a connection stays open without a query on its way."""
CONNECT = 5.0
"""Seconds for a connection to be made; whoever waits for it has a clock of its own, mostly shorter."""


class Lost(Exception):
    """The connection ended before the answer came; the text says how."""


class Connection(asyncio.Protocol, ABC):
    """One connection with the queries that wait for answers on it. What is spoken is for subclasses to say."""

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[bytes] | None] = {}
        """By id; None for an answer that nobody waits for, so that the id is not used again meanwhile."""
        self._closer: asyncio.TimerHandle | None = None
        self._heard = 0
        self.used = False
        """Whether an answer has come over it."""
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self._rest()

    def data_received(self, data: bytes) -> None:
        """Take what comes in."""
        self._heard += 1
        self.received(data)
        self._rest()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait."""
        self.end(str(error) if error else "the connection was closed")

    def end(self, why: str) -> None:
        """Close at once."""
        self.open = False
        if self._closer is not None:
            self._closer.cancel()
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            if waiter is not None and not waiter.done():
                waiter.set_exception(Lost(why))
        if self._transport is not None:
            self._transport.abort()

    @property
    def has_room(self) -> bool:
        """Whether one more query may wait on it."""
        return len(self._waiting) < MAX_PIPELINED

    async def ask(self, packet: bytes) -> bytes:
        """Send a query and return its answer, with the id of the query.

        Raises:
            Lost: the connection ended.
            UpstreamError: too many are waiting, or the answer is of no use.
        """
        if not self.open or self._transport is None:
            raise Lost("the connection was closed")
        if not self.has_room:
            raise UpstreamError(Failure.NONE_LEFT, "too many queries wait for answers on one connection")
        ident, octets = self.encode(packet)
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[ident] = waiter
        if self._closer is not None:
            self._closer.cancel()
            self._closer = None
        heard = self._heard
        self._transport.write(octets)
        try:
            return packet[:2] + (await waiter)[2:]
        except asyncio.CancelledError:
            if self._heard == heard:
                self.end("silence")  # nothing at all was heard meanwhile: the next query has a new connection
            elif ident in self._waiting:
                self.abandon(ident)
                self._rest()
            raise

    def settle(self, ident: int, result: bytes | Exception) -> None:
        """Give an answer to whoever waits for it."""
        waiter = self._waiting.pop(ident, None)
        if waiter is None or waiter.done():
            return
        if isinstance(result, Exception):
            waiter.set_exception(result)
        else:
            self.used = True
            waiter.set_result(result)

    def abandon(self, ident: int) -> None:
        """Nobody waits for an answer any more."""
        self._waiting[ident] = None
        if not self.has_room and not any(self._waiting.values()):
            self.end("full of queries that nobody waits for")

    @abstractmethod
    def encode(self, packet: bytes) -> tuple[int, bytes]:
        """Return a new id, and what is sent for a query."""

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Take in octets."""

    def _rest(self) -> None:
        """Begin to count idle time, if nobody waits for anything."""
        if self._closer is None and self.open and not any(self._waiting.values()):
            self._closer = self._loop.call_later(self._idle, self.end, "idle")


class Messages(Connection):
    """A connection that carries messages with a length before each."""

    def __init__(self, idle: float) -> None:
        super().__init__(idle)
        self._buffer = bytearray()

    def encode(self, packet: bytes) -> tuple[int, bytes]:
        """Choose an id that nobody on this connection has."""
        ident = random_id()
        while ident in self._waiting:
            ident = random_id()
        return ident, len(packet).to_bytes(2, "big") + ident.to_bytes(2, "big") + packet[2:]

    def received(self, data: bytes) -> None:
        """Take messages out of what has come in."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= (end := 2 + int.from_bytes(buffer[:2], "big")):
            message = bytes(buffer[2:end])
            del buffer[:end]
            ident = int.from_bytes(message[:2], "big")
            if len(message) < HEADER or ident not in self._waiting:
                self.end("an answer to nothing that was asked")
                return
            self.settle(ident, message)


class Channel:
    """The way to one upstream over connections: made when needed, kept, and made again when lost."""

    def __init__(
        self,
        endpoint: Endpoint,
        make: Callable[[float], Connection] = Messages,
        tls: Callable[[], ssl.SSLContext] | None = None,
        *,
        idle: float = IDLE,
    ) -> None:
        self._endpoint = endpoint
        self._make = make
        self._tls = tls
        self._idle = idle
        self._kept: list[Connection] = []
        self._making: asyncio.Task[Connection] | None = None

    async def ask(self, packet: bytes) -> bytes:
        """Return the reply to a query, with the id of the query. Waits for ever: the caller has the clock.

        Raises:
            UpstreamError: there is none.
        """
        why = ""
        for _ in range(3):
            connection = await self._connected()
            try:
                return await connection.ask(packet)
            except Lost as lost:
                why = str(lost)
                lost.__traceback__ = None  # or it would refer to itself, by a frame that waits for it
                if not connection.used:
                    break
                # An upstream may close an idle connection at any time (RFC 7766 section 6.2.4), and after as many
                # answers as it likes: once more, then.
        raise UpstreamError(Failure.NETWORK, f"{self._endpoint}: no answer: {why}")

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return any(connection.open for connection in self._kept)

    async def close(self) -> None:
        """Close all connections; whoever waits for an answer gets an error."""
        making, self._making = self._making, None  # whoever asks from now on has another one made
        if making is not None:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
        for connection in self._kept:
            connection.end("closed")

    async def _connected(self) -> Connection:
        """Return a connection with room, the oldest there is."""
        while True:
            self._kept = [connection for connection in self._kept if connection.open]
            for connection in self._kept:
                if connection.has_room:
                    return connection
            if self._making is None:
                if len(self._kept) >= MAX_CONNECTIONS:
                    raise UpstreamError(Failure.NONE_LEFT, f"{self._endpoint}: too many queries wait for answers")
                # Not a child of the first who asks: others wait for it too, and that one may give up.
                self._making = asyncio.get_running_loop().create_task(self._connect())
                self._making.add_done_callback(self._made)
            making = self._making
            try:
                made = await asyncio.shield(making)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not making.cancelled() or (task is not None and task.cancelling()):
                    raise  # it is the one who asks that gives up
                raise UpstreamError(Failure.NETWORK, f"{self._endpoint}: closed while connecting") from None
            if made.has_room or not made.open:
                return made  # one that is not open says why
            await asyncio.sleep(0)  # it is kept from the next turn of the loop on

    def _made(self, task: asyncio.Task[Connection]) -> None:
        if self._making is task:
            self._making = None
        if not task.cancelled() and task.exception() is None:
            self._kept.append(task.result())

    async def _connect(self) -> Connection:
        """Connect. With TLS, the certificate has to be for the name, or else for the address."""
        endpoint = self._endpoint
        name = endpoint.name or str(endpoint.address)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT):
                _, connection = await loop.create_connection(
                    lambda: self._make(self._idle),
                    str(endpoint.address),
                    endpoint.port,
                    ssl=self._tls() if self._tls else None,
                    server_hostname=name if self._tls else None,
                )
        except TimeoutError:
            raise UpstreamError(Failure.TIMEOUT, f"{endpoint}: no connection in {CONNECT:.0f} s") from None
        except ssl.SSLCertVerificationError as error:
            raise UpstreamError(Failure.NETWORK, f"{endpoint}: certificate refused: {error.verify_message}") from None
        except OSError as error:
            raise UpstreamError(Failure.NETWORK, f"{endpoint}: {error.strerror or error}") from None
        return connection
