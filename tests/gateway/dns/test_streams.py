"""Tests for gateway.dns.streams: accepting, handshakes and their limits."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from gateway.dns.admission import Admission
from gateway.dns.streams import StreamListener
from tests.peers.dns_tls import NAME, a_certificate, client_context


class Echo:
    """Sends back one line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        self.reader, self.writer, self.peer = reader, writer, peer
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        """Echo, then wait to be stopped."""
        try:
            line = await self.reader.readline()
            if line == b"fail\n":
                raise RuntimeError("on purpose")
            self.writer.write(self.peer.encode() + b" " + line)
            if line == b"wait\n":
                await self.stopped.wait()
        finally:
            self.writer.close()

    def stop(self) -> None:
        """Stop."""
        self.stopped.set()


@asynccontextmanager
async def listening(
    admission: Admission | None = None,
    context: Callable[[], ssl.SSLContext] | None = None,
    handshake: float = 5.0,
) -> AsyncIterator[tuple[str, int]]:
    """Run a listener."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = StreamListener(Echo, admission, context=context, handshake=handshake)
    await listener.start(sock)
    try:
        yield sock.getsockname()
    finally:
        await listener.close(5)


async def talk(place: tuple[str, int], line: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """Send a line and return all that comes."""
    reader, writer = await asyncio.open_connection(
        *place, ssl=context, server_hostname=NAME if context is not None else None
    )
    writer.write(line)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_client_is_the_peer() -> None:
    """A connection is told the address of the other side."""
    async with listening() as place:
        assert await talk(place, b"x\n") == b"127.0.0.1 x\n"


async def test_a_connection_that_fails_is_logged_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    """An error in one connection ends that one only, and frees its place."""
    async with listening(Admission(1, 1)) as place:
        assert await talk(place, b"fail\n") == b""
        assert "on purpose" in caplog.text
        assert await talk(place, b"x\n") == b"127.0.0.1 x\n"


async def test_handshakes_count_and_end(tmp_path: Path) -> None:
    """Clients that never finish a handshake use up their share at once, and lose it after the time for handshakes."""
    certificate = a_certificate(tmp_path)
    async with listening(Admission(10, 2), certificate.dot, handshake=0.3) as place:
        loop = asyncio.get_running_loop()
        silent = [socket.create_connection(place) for _ in range(3)]
        for sock in silent:
            sock.setblocking(False)
        assert await asyncio.wait_for(loop.sock_recv(silent[2], 1), 5) == b""  # one too many
        for sock in silent[:2]:
            with closing(sock):
                assert await asyncio.wait_for(loop.sock_recv(sock, 1), 5) == b""
        silent[2].close()
        assert await talk(place, b"x\n", client_context(tmp_path)) == b"127.0.0.1 x\n"


async def test_what_is_not_tls_is_cut_off(tmp_path: Path) -> None:
    """Plain text on a TLS port, or a client that distrusts the certificate, costs only that connection."""
    certificate = a_certificate(tmp_path)
    async with listening(context=certificate.dot) as place:
        assert b"127.0.0.1" not in await talk(place, b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLCertVerificationError):
            await talk(place, b"x\n", ssl.create_default_context())
        old = client_context(tmp_path)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await talk(place, b"x\n", old) == b"127.0.0.1 x\n"


async def test_a_new_context_is_used_at_once(tmp_path: Path) -> None:
    """With another certificate, connections that stand go on, and new ones get the new certificate."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    certificate = a_certificate(first)
    a_certificate(second)
    async with listening(context=certificate.dot) as place:
        reader, writer = await asyncio.open_connection(*place, ssl=client_context(first), server_hostname=NAME)
        assert certificate.renew(second / "dns.pem", second / "dns.pem")
        assert await talk(place, b"x\n", client_context(second)) == b"127.0.0.1 x\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await talk(place, b"x\n", client_context(first))
        writer.write(b"y\n")
        assert await asyncio.wait_for(reader.read(), 5) == b"127.0.0.1 y\n"
        writer.close()
        await writer.wait_closed()


async def test_without_descriptors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once that nobody can be accepted, however often it is tried, and once that it is over."""
    loop = asyncio.get_running_loop()
    accept, tries = loop.sock_accept, iter(range(3))

    async def sock_accept(sock: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
        if next(tries, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", sock_accept)
    async with listening() as place:
        assert await talk(place, b"x\n") == b"127.0.0.1 x\n"
        assert await talk(place, b"y\n") == b"127.0.0.1 y\n"
    assert caplog.messages == ["no connection can be accepted: Too many open files", "connections are accepted again"]


async def test_closing_stops_connections_gently() -> None:
    """Connections are told to stop, and nobody is accepted any more."""
    async with listening() as place:
        waiting = asyncio.get_running_loop().create_task(talk(place, b"wait\n"))
        assert await talk(place, b"x\n")
    assert await waiting == b"127.0.0.1 wait\n"
    with pytest.raises(ConnectionRefusedError):
        await talk(place, b"x\n")
