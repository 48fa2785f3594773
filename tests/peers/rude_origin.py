"""Origins that know no measure: a process of its own, so that what they do costs the gateway's tests nothing.

Run as `python rude_origin.py CERTIFICATE`; it prints its ports as JSON (`echo`, `deaf`, `http`, `https`) and serves
until its input ends. The path of a request says how it is answered (`ANSWERS`); a body is read for ever; anything
else is answered with "ok".
"""

import asyncio
import json
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count, repeat
from pathlib import Path
from typing import cast

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.peers import bombs

PIECE = b"x" * 65536


def endless() -> Iterator[bytes]:
    """A body up to the end of the connection, which never comes."""
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    yield from repeat(PIECE)


def endless_length() -> Iterator[bytes]:
    """A body of an announced length that nobody will live to see."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n"
    yield from repeat(PIECE)


def endless_chunked() -> Iterator[bytes]:
    """A body in chunks."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from repeat(b"10000\r\n" + PIECE + b"\r\n")


def endless_head() -> Iterator[bytes]:
    """Header fields for ever."""
    yield b"HTTP/1.1 200 OK\r\n"
    for number in count():
        yield b"".join(b"X-%d-%d: %s\r\n" % (number, each, b"y" * 50) for each in range(500))


def one_field() -> Iterator[bytes]:
    """One header field for ever."""
    yield b"HTTP/1.1 200 OK\r\nX-Long: "
    yield from repeat(PIECE)


def interim() -> Iterator[bytes]:
    """Interim answers for ever."""
    yield from repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" * 500)


def hints() -> Iterator[bytes]:
    """An answer after a few interim ones."""
    yield b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" * 2
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter"


def extension() -> Iterator[bytes]:
    """One chunk extension for ever."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a="
    yield from repeat(PIECE)


def trailers() -> Iterator[bytes]:
    """Trailer fields for ever."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    yield from repeat(b"X-Trailer: yyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 1000)


def silent() -> Iterator[bytes]:
    """Nothing."""
    return iter(())


ANSWERS: dict[bytes, Callable[[], Iterator[bytes]]] = {
    b"/endless": endless,
    b"/endless-length": endless_length,
    b"/endless-chunked": endless_chunked,
    b"/endless-head": endless_head,
    b"/one-field": one_field,
    b"/interim": interim,
    b"/hints": hints,
    b"/extension": extension,
    b"/trailers": trailers,
    b"/silent": silent,
}


@lru_cache
def packed(path: bytes) -> bytes:
    """Return an answer in a content coding: `/HOW/CODING`."""
    _, how, name = path.decode().replace("%20", " ").split("/")
    plain = b"MZ" + b"decoded" * 100
    match how:
        case "bomb":
            body = bombs.bomb(name)
        case "harmless":
            body = bombs.bomb(name, b"<html>")
        case "members":
            body = bombs.members(name)
        case "window":
            body = bombs.windowed(name)
        case "text":
            body = bombs.pack(name, b"<html>" * 1000)
        case "broken":
            body = b"\xff" * 500 + bombs.pack(name, plain)
        case "short":
            body = bombs.pack(name, plain)[:3]
        case _:
            body = bombs.pack(name, plain) if name in bombs.CODINGS else plain
    return (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (name.encode(), len(body)) + body
    )


PACKED = ("bomb", "harmless", "members", "window", "text", "broken", "short", "program")


class Http(asyncio.Protocol):
    """One connection: reads everything, answers as the path says, as fast as it is taken."""

    def __init__(self) -> None:
        self._head = b""
        self._body = False
        self._more: Iterator[bytes] = iter(())
        self._full = self._writing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        """Read a head; what follows it is counted, or the next head."""
        if self._body:
            return
        self._head += data
        while b"\r\n\r\n" in self._head and not self._body:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
            path = b"/" + path.split(b"/", 3)[3] if path.startswith(b"http") else path
            if path in ANSWERS:
                self._body = True
                self._more = ANSWERS[path]()
                self._write()
            elif path.split(b"/")[1].decode() in PACKED:
                self._body = True
                answer = packed(path)
                self._more = (answer[at : at + len(PIECE)] for at in range(0, len(answer), len(PIECE)))
                self._write()
            elif method == b"POST":
                self._body = True
            else:
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _write(self) -> None:
        if self._transport.is_closing():
            return
        for piece in self._more:
            self._transport.write(piece)
            if self._full:
                return
            asyncio.get_running_loop().call_soon(self._write)
            return

    def pause_writing(self) -> None:
        """Wait."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        self._write()


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        """Send it back, as fast as it is taken."""
        self._transport.write(data)

    def pause_writing(self) -> None:
        """Read no more for now."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        self._transport.resume_reading()


class Deaf(Echo):
    """Does not take the end of the client for its own."""

    def eof_received(self) -> bool:
        """Stay."""
        return True


async def serve(certificate: Path) -> None:
    """Serve until the input ends."""
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    made = {
        "echo": await loop.create_server(Echo, "127.0.0.1", 0, backlog=4096),
        "deaf": await loop.create_server(Deaf, "127.0.0.1", 0, backlog=1024),
        "http": await loop.create_server(Http, "127.0.0.1", 0, backlog=1024),
        "https": await loop.create_server(Http, "127.0.0.1", 0, backlog=1024, ssl=context),
    }
    ports = {name: _port(server.sockets[0]) for name, server in made.items()}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
