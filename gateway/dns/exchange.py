"""One exchange with one upstream: a query out, the one reply that belongs to it in.

What keeps a forged reply out (RFC 5452): a fresh socket and so a fresh source port for every query, a random id,
random letter case in the name where the upstream repeats it (draft-vixie-dnsext-dns0x20), a connected socket that
hears nobody else, and an end to the guessing after a few strays.
"""

import asyncio
import errno
import os
import select
import socket
from _socket import socket as RawSocket
from enum import Enum, StrEnum
from typing import NamedTuple

from gateway.dns.settings import Endpoint
from gateway.dns.wire import HEADER, OPCODE, QR, TC

MAX_STRAYS = 8
"""Replies that are not ours before the attempt goes on over TCP, where guessing does not help."""
MAX_SOCKETS = 4096
"""Queries on their way to the upstreams of a pool: protects the file descriptors of the process."""
_TICK = 0.025
"""Seconds between two looks for queries whose time is over."""
_DRAIN = 64
_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
"""Of a raw socket: without makefile() and the like, one takes a microsecond less to make and to close."""
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
    # Nearly every one: a whole reply without a word changed.
    if packet[HEADER:end] == question and packet[4:6] == b"\0\1" and packet[2] & _SIGNS == _REPLY:
        return Fit.GOOD if packet[0] << 8 | packet[1] == ident else Fit.STRAY
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


_SIGNS, _REPLY = (QR | OPCODE | TC) >> 8, QR >> 8


class _Random:
    """Random octets from the system, fetched many at a time: one system call for dozens of queries."""

    __slots__ = ("_at", "_octets")

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0
        os.register_at_fork(after_in_child=self.forget)  # or two workers would send the same ids

    def forget(self) -> None:
        """Drop what was fetched."""
        self._octets, self._at = b"", 0

    def take(self, count: int) -> int:
        """Return an integer of so many random octets."""
        start, self._at = self._at, self._at + count
        if self._at > len(self._octets):
            self._octets = os.urandom(max(4096, count))
            start, self._at = 0, count
        return int.from_bytes(self._octets[start : self._at], "big")


_random = _Random()
_octets = int.from_bytes
_CASE_BIT = bytes(0x20 if 0x61 <= octet <= 0x7A else 0 for octet in range(256))
"""For each octet the bit that makes a lower-case letter upper case. Lengths of labels are below all letters."""


def random_id() -> int:
    """Return a query id that nobody can guess."""
    return _random.take(2)


def random_case(name: bytes) -> bytes:
    """Return a lower-case wire name with the case of each letter chosen at random.

    >>> random_case(bytes([3]) + b"123" + bytes(1))
    b'\\x03123\\x00'
    """
    size = len(name)
    chosen = _octets(name.translate(_CASE_BIT)) & _random.take(size)
    return (_octets(name) ^ chosen).to_bytes(size)


class Target(NamedTuple):
    """An endpoint as sockets want it."""

    endpoint: Endpoint
    family: int
    place: tuple[str, int]


def target_of(endpoint: Endpoint) -> Target:
    """Return the target for an endpoint. To write out an address takes microseconds, so this is done once."""
    family = socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6
    return Target(endpoint, family, (str(endpoint.address), endpoint.port))


class Sending:
    """A query on its way, or about to be: what `Datagrams` have to know of it, and whom they tell."""

    __slots__ = ("asked", "deadline", "ident", "sock", "strays", "target")

    asked: bytes
    """The question as it was sent, letter case included."""
    ident: int
    target: Target
    sock: RawSocket
    deadline: float
    strays: int

    def received(self, data: bytes, found: Fit, now: float) -> None:
        """Take the first datagram that fits. A stray fit means that there were too many strays."""
        raise NotImplementedError

    def unheard(self, error: UpstreamError, now: float) -> None:
        """Take what went wrong."""
        raise NotImplementedError


class Datagrams:
    """Queries on their way over UDP, each from a socket of its own, which hears its upstream alone.

    The loop watches one epoll for all of them: to register each socket with the loop costs as much as the rest. While
    nothing is on its way, there is nothing to close.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._sent: dict[int, Sending] = {}
        self._idle = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def watching(self) -> bool:
        """Whether the loop has anything to do for it."""
        return self._epoll is not None

    def send(self, sending: Sending, packet: bytes, now: float, patience: float) -> None:
        """Send a query from a fresh port. One of its methods is called once, maybe before this returns."""
        sent, target = self._sent, sending.target
        if len(sent) >= MAX_SOCKETS:
            sending.unheard(UpstreamError(Failure.NONE_LEFT, "too many queries are on their way to upstreams"), now)
            return
        epoll = self._epoll or self._watch()
        sock: RawSocket | None = None
        try:
            sock = RawSocket(target.family, _KIND)
            sock.connect(target.place)
            sock.send(packet)
            number = sock.fileno()
            epoll.register(number, select.EPOLLIN)
        except OSError as error:
            if sock is not None:
                sock.close()
            ours = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
            failure = Failure.NONE_LEFT if ours else Failure.NETWORK
            sending.unheard(UpstreamError(failure, f"{target.endpoint}: {error.strerror or error}"), now)
            return
        sending.sock, sending.strays, sending.deadline = sock, 0, now + patience
        sent[number] = sending

    def close(self) -> None:
        """Forget what is on its way; nobody is called."""
        for sending in self._sent.values():
            sending.sock.close()
        self._sent.clear()

    def _watch(self) -> select.epoll:
        loop = asyncio.get_running_loop()
        epoll = self._epoll = select.epoll()
        loop.add_reader(epoll.fileno(), self._readable, loop)
        loop.call_later(_TICK, self._tick, loop)
        return epoll

    def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._epoll is None:
            return
        sent, now = self._sent, loop.time()
        for number, _ in self._epoll.poll(0, _DRAIN):
            sending = sent.get(number)
            if sending is None:
                continue
            try:
                data = sending.sock.recv(_RECEIVE)
            except BlockingIOError:
                continue
            except OSError as error:
                self._end(number, sending)
                detail = f"{sending.target.endpoint}: {error.strerror or error}"
                sending.unheard(UpstreamError(Failure.NETWORK, detail), now)
                continue
            found = fit(data, sending.ident, sending.asked)
            if found is Fit.STRAY:
                sending.strays += 1
                if sending.strays < MAX_STRAYS:
                    continue
            self._end(number, sending)
            sending.received(data, found, now)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for number, sending in [item for item in self._sent.items() if item[1].deadline <= now]:
            if self._sent.get(number) is sending:
                self._end(number, sending)
                detail = f"{sending.target.endpoint} did not answer in time"
                sending.unheard(UpstreamError(Failure.TIMEOUT, detail), now)
        self._idle = 0 if self._sent else self._idle + 1
        if self._idle > 40 and self._epoll is not None:  # a second of silence
            loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll, self._idle = None, 0
            return
        loop.call_later(_TICK, self._tick, loop)

    def _end(self, number: int, sending: Sending) -> None:
        del self._sent[number]
        sending.sock.close()  # which takes it out of the epoll too
