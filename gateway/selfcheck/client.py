"""What an attempt looks like from the client's side: octets in, octets out, no HTTP library in between."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from gateway.selfcheck import http2
from gateway.selfcheck.cases import Case, Where

type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Target:
    """A proxy to try things on, and the ports of the origins behind it."""

    host: str
    port: int
    good: int
    evil: int

    def fill(self, sent: bytes) -> bytes:
        """Put the destinations into what a case sends."""
        for name, value in (
            (b"{good}", b"good.test:%d" % self.good),
            (b"{seen}", b"seen.test:%d" % self.good),
            (b"{evil}", b"evil.test:%d" % self.evil),
            (b"{port}", b"%d" % self.evil),
        ):
            sent = sent.replace(name, value)
        return sent

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Streams]:
        """Connect to the proxy."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)  # the transport says so in the next turn of the loop

    async def ask(self, sent: bytes, patience: float) -> bytes:
        """Send octets, and return what comes until the proxy closes or says nothing for so many seconds."""
        async with self.connect() as (reader, writer):
            writer.write(self.fill(sent))
            return await hear(reader, patience)

    async def attempt(self, case: Case, patience: float) -> bytes:
        """Try a case. Returns what the proxy answered, that to an allowed CONNECT left out."""
        async with self.connect() as (reader, writer):
            if case.where is not Where.PROXY:
                refusal = await self._open(reader, writer, case.where)
                if refusal:
                    return refusal
            if case.where in (Where.INSIDE, Where.HTTP2):
                context = unverified()
                if case.where is Where.HTTP2:
                    context.set_alpn_protocols(["h2"])
                try:
                    await start_tls(writer, context, "seen.test", seconds=3)
                except OSError:
                    return b""
            if case.where is Where.HTTP2:
                streams = (tuple((name, self.fill(value)) for name, value in fields) for fields in case.streams)
                writer.write(http2.begin() + http2.requests(*streams))
                return http2.told(await hear(reader, patience, http2.ended))
            sent = self.fill(case.sent)
            if case.slow:
                for at in range(min(len(sent), 64)):
                    writer.write(sent[at : at + 1])
                    await asyncio.sleep(0.001)
                sent = sent[64:]
            writer.write(sent)
            return await hear(reader, patience)

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: Where) -> bytes:
        """Open a tunnel. Returns the answer if it is a refusal."""
        target = self.fill(b"{good}" if where is Where.TUNNEL else b"{seen}")
        writer.write(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target))
        try:
            async with asyncio.timeout(3):
                head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, TimeoutError, OSError) as error:
            return getattr(error, "partial", b"") or b"(no answer to CONNECT)"
        return b"" if b" 200 " in head.split(b"\r\n")[0] else head


async def hear(
    reader: asyncio.StreamReader, patience: float, enough: Callable[[bytes], bool] = lambda _: False
) -> bytes:
    """Return what comes until the end, until it is enough, or until nothing comes for so many seconds."""
    heard = bytearray()
    with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
        while True:
            async with asyncio.timeout(patience):
                data = await reader.read(65536)
            if not data:
                break
            heard += data
            if enough(bytes(heard)):
                break
    return bytes(heard)


async def start_tls(
    writer: asyncio.StreamWriter, context: ssl.SSLContext, host: str | None = None, *, seconds: float = 60
) -> None:
    """Do a handshake over a stream, as a client of `host` or as a server.

    Raises:
        OSError: it fails, or takes longer than so many seconds.
        ConnectionResetError: the connection was lost in the turn of the loop in which the handshake ended. There
            asyncio (of Python 3.13.0) leaves a writer without a transport, which complains when it is collected, in
            the middle of whatever runs by then.
    """
    raw = writer.transport
    try:
        await writer.start_tls(context, server_hostname=host, ssl_handshake_timeout=seconds)
    except AttributeError:
        if writer.transport is not None:
            raise
        writer._transport = raw  # there is no public way to mend it
        raise ConnectionResetError("lost at the end of the handshake") from None


def unverified() -> ssl.SSLContext:
    """Return settings of a client that takes any certificate: the battery does not know the proxy's CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
