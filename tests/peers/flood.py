"""Connections that send for ever and read as they please: what a rude client does, without asyncio in its way."""

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.selfcheck.hello import a_hello
from tests.integration.hostile_rig import Gateway

ECHO_HELLO = a_hello(b"echo.test")


def unverified(*alpn: str) -> ssl.SSLContext:
    """Return the TLS settings of a client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def tunnel(gateway: Gateway, target: str, source: str = "127.0.0.1") -> socket.socket:
    """Return a tunnel, as soon as the gateway has answered."""
    sock = gateway.connect(source)
    answer = b""
    try:
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        while not answer.endswith(b"\r\n\r\n"):
            piece = sock.recv(1)
            if not piece:
                break
            answer += piece
    except OSError:
        sock.close()
        raise
    if not answer.startswith(b"HTTP/1.1 200 "):
        sock.close()
        raise ConnectionError(f"no tunnel: {answer!r}")
    return sock


def inspected(gateway: Gateway, *alpn: str, name: str = "seen.test", source: str = "127.0.0.1") -> ssl.SSLSocket:
    """Return an inspected tunnel after its handshake."""
    sock = tunnel(gateway, f"{name}:{gateway.https}", source)
    return unverified(*alpn).wrap_socket(sock, server_hostname=name)


@dataclass
class Stream:
    """One connection of a flood."""

    sock: socket.socket
    piece: bytes | Callable[[], bytes] = b""
    """Sent again and again."""
    begin: bytes = b""
    """Sent first."""
    reads: bool = True
    sent: int = 0
    received: int = 0
    first: bytes = b""
    """What it received first."""
    ended: bool = False
    _waiting: memoryview = field(default_factory=lambda: memoryview(b""))

    def start(self) -> None:
        """Begin."""
        self.sock.setblocking(False)
        self._waiting = memoryview(self.begin)

    def write(self) -> None:
        """Send what the socket takes."""
        if not self._waiting:
            self._waiting = memoryview(self.piece() if callable(self.piece) else self.piece)
        if self._waiting:
            done = self.sock.send(self._waiting)
            self.sent += done
            self._waiting = self._waiting[done:]

    @property
    def done(self) -> bool:
        """Whether it has nothing more to send."""
        return not self.piece and not self._waiting

    def read(self) -> None:
        """Take what there is."""
        data = self.sock.recv(1 << 18)
        self.received += len(data)
        if len(self.first) < 4096:
            self.first += data[:4096]
        self.ended = self.ended or not data


def flood(streams: Iterable[Stream], seconds: float, *, pause: float = 0.0, while_open: bool = True) -> list[Stream]:
    """Let streams send and read until the time is over or, with `while_open`, until all have ended; close them."""
    streams = list(streams)
    ends = time.monotonic() + seconds
    with selectors.EpollSelector() as selector:
        for stream in streams:
            stream.start()
            what = selectors.EVENT_WRITE if stream.piece or stream.begin else 0
            what |= selectors.EVENT_READ if stream.reads else 0
            if what:
                selector.register(stream.sock, what, stream)
        while time.monotonic() < ends and not (while_open and all(stream.ended for stream in streams)):
            for key, events in selector.select(0.05):
                stream = key.data
                try:
                    if events & selectors.EVENT_READ:
                        stream.read()
                    if events & selectors.EVENT_WRITE and not stream.ended:
                        stream.write()
                        if stream.done and stream.reads:
                            selector.modify(key.fileobj, selectors.EVENT_READ, stream)
                        elif stream.done:
                            selector.unregister(key.fileobj)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                    pass
                except (OSError, ValueError):
                    stream.ended = True
                if stream.ended:
                    with contextlib.suppress(KeyError):
                        selector.unregister(key.fileobj)
            if pause:
                time.sleep(pause)
    for stream in streams:
        stream.sock.close()
    return streams


def first_flight(name: str, *alpn: str) -> bytes:
    """Return the ClientHello of a real client."""
    outgoing = ssl.MemoryBIO()
    client = unverified(*alpn).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
