"""One exchange with one upstream: a query out, the one reply that belongs to it in.

What keeps a forged reply out (RFC 5452): a fresh socket and so a fresh source port for every query, a random id,
random letter case in the name where the upstream repeats it (draft-vixie-dnsext-dns0x20), a connected socket that
hears nobody else, and an end to the guessing after a few strays.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable
from enum import Enum, StrEnum

from gateway.dns.settings import Endpoint
from gateway.dns.wire import HEADER, OPCODE, QR, TC

MAX_STRAYS = 8
"""Replies that are not ours before the attempt goes on over TCP, where guessing does not help."""
_RECEIVE = 4096
"""More than ever asked for: a longer reply is cut, and so malformed."""


class Failure(StrEnum):
    """What went wrong with an upstream."""

    TIMEOUT = "timeout"
    NETWORK = "network"
    MALFORMED = "malformed"
    RCODE = "rcode"
    NONE_LEFT = "none-left"


class UpstreamError(Exception):
    """An upstream gave no usable answer."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class Fit(Enum):
    """How a datagram relates to the query that was sent."""

    STRAY = "not a reply to it"
    OTHER_CASE = "a reply, with the letter case of the name changed"
    TRUNCATED = "a reply cut short"
    GOOD = "a reply"


def fit(packet: bytes, ident: int, question: bytes) -> Fit:
    """Compare a datagram with what was asked.

    >>> fit(b"", 1, b"")
    <Fit.STRAY: 'not a reply to it'>
    """
    end = HEADER + len(question)
    if len(packet) < HEADER or int.from_bytes(packet[:2], "big") != ident:
        return Fit.STRAY
    flags = int.from_bytes(packet[2:4], "big")
    if not flags & QR or flags & OPCODE:
        return Fit.STRAY
    if packet[4:6] == b"\0\0" and flags & 0xF:
        return Fit.GOOD  # FORMERR and the like come without the question; the reader turns them away with the reason
    if packet[4:6] != b"\0\1" or packet[HEADER : end - 4].lower() != question[:-4].lower():
        return Fit.STRAY
    if packet[end - 4 : end] != question[-4:]:
        return Fit.STRAY
    if packet[HEADER:end] != question:
        return Fit.OTHER_CASE
    return Fit.TRUNCATED if flags & TC else Fit.GOOD


def random_id() -> int:
    """Return a query id that nobody can guess."""
    return secrets.randbits(16)


def random_case(name: bytes) -> bytes:
    """Return a lower-case wire name with the case of each letter chosen at random.

    >>> random_case(bytes([3]) + b"123" + bytes(1))
    b'\\x03123\\x00'
    """
    # Lengths are below 64 and so below the letters: the whole can be treated octet by octet.
    bits = secrets.randbits(len(name))
    return bytes(octet ^ 0x20 if 0x61 <= octet <= 0x7A and bits >> at & 1 else octet for at, octet in enumerate(name))


async def over_udp(endpoint: Endpoint, packet: bytes, examine: Callable[[bytes], Fit]) -> tuple[bytes, Fit]:
    """Send a query from a fresh socket. Returns the first datagram that fits; a stray fit means too many strays.

    Waits for ever: the caller has the clock.

    Raises:
        UpstreamError: the network refused.
    """
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[tuple[bytes, Fit]] = loop.create_future()
    family = socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    strays = 0

    def readable() -> None:
        nonlocal strays
        try:
            data = sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as error:
            if not reply.done():
                reply.set_exception(error)
            return
        found = examine(data)
        strays += found is Fit.STRAY
        if not reply.done() and (found is not Fit.STRAY or strays >= MAX_STRAYS):
            reply.set_result((data, found))

    try:
        sock.connect((str(endpoint.address), endpoint.port))
        loop.add_reader(sock, readable)
        sock.send(packet)
        return await reply
    except OSError as error:
        raise UpstreamError(Failure.NETWORK, f"{endpoint}: {error.strerror or error}") from None
    finally:
        loop.remove_reader(sock)
        sock.close()


async def over_tcp(endpoint: Endpoint, packet: bytes) -> bytes:
    """Ask over a connection of its own (RFC 7766). Waits for ever: the caller has the clock.

    Raises:
        UpstreamError: the network refused.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection(str(endpoint.address), endpoint.port)
        writer.write(len(packet).to_bytes(2, "big") + packet)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise UpstreamError(Failure.NETWORK, f"{endpoint} closed the connection without an answer") from None
    except OSError as error:
        raise UpstreamError(Failure.NETWORK, f"{endpoint} over TCP: {error.strerror or error}") from None
    finally:
        if writer is not None:
            writer.transport.abort()
