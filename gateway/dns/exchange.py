"""One exchange with one upstream: a query out, the one reply that belongs to it in.

What keeps a forged reply out (RFC 5452): a source port that the system chooses at random for every query, a random
id, random letter case in the name where the upstream repeats it (draft-vixie-dnsext-dns0x20), a connected socket that
hears nobody else and nothing of what was meant for an earlier query, and an end to the guessing after a few strays.
"""

import asyncio
import ctypes
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
"""Replies taken in one look."""
_TOGETHER = 16
"""Queries that are sent in one go, at the latest at the end of the event loop's turn: an upstream that sleeps is
woken for all of them, and not for each, which is half of what sending costs."""
_LOOKS = 4
"""Looks in one wake-up, so that a flood leaves time for everything else."""
_KEPT = 512
"""Sockets without a port that are kept for the next queries."""
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


def random_question(name: bytes) -> tuple[int, bytes]:
    """Return a random id, and a lower-case wire name with the case of each letter chosen at random.

    >>> random_question(bytes([3]) + b"123" + bytes(1))[1]
    b'\\x03123\\x00'
    """
    size = len(name)
    drawn = _random.take(size + 2)
    chosen = _octets(name.translate(_CASE_BIT)) & drawn
    return drawn >> 8 * size, (_octets(name) ^ chosen).to_bytes(size)


def random_id() -> int:
    """Return a query id that nobody can guess."""
    return _random.take(2)


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


class _Socket(RawSocket):
    """One that is closed when it is let go of: an event loop may end before an answer, or a second of silence."""

    __slots__ = ()

    def __del__(self) -> None:
        self.close()


_LIBC = ctypes.CDLL(None, use_errno=True)
_connect = _LIBC.connect
_connect.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_NOWHERE = ctypes.create_string_buffer(16)  # a sockaddr of the family AF_UNSPEC, 0, which Python cannot express
_AT_NOWHERE = ctypes.addressof(_NOWHERE)


def forget_port(sock: RawSocket) -> bool:
    """Have a connected UDP socket let go of its peer and of the port that the system chose for it, so that the next
    `connect` begins with another one (connect(2): AF_UNSPEC). Say whether that was done.
    """
    return bool(_connect(sock.fileno(), _AT_NOWHERE, 16) == 0) and sock.getsockname()[1] == 0


def _unsent(target: Target, error: OSError) -> UpstreamError:
    ours = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
    failure = Failure.NONE_LEFT if ours else Failure.NETWORK
    return UpstreamError(failure, f"{target.endpoint}: {error.strerror or error}")


class Datagrams:
    """Queries on their way over UDP, each from a socket of its own, which hears its upstream alone.

    The loop watches one epoll for all of them: to register each socket with the loop costs as much as the rest. A
    socket whose query was answered gives its port back, and serves another query if a look at the epoll has found
    that nothing was left in it: nothing can come in without a port. That leaves four system calls of seven, at 8 us
    of 13. While nothing is on its way, there is nothing to close.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._sent: dict[int, Sending] = {}
        self._due: list[tuple[int, Sending, bytes]] = []
        """Of these, what has still to be sent, by the numbers of their sockets."""
        self._spent: dict[int, tuple[int, RawSocket]] = {}
        """Without a port, but maybe not empty; with their families."""
        self._free: dict[int, dict[int, RawSocket]] = {socket.AF_INET: {}, socket.AF_INET6: {}}
        """Without a port, and empty."""
        self._forgets: bool | None = None
        """Whether this system lets sockets forget their port, once that is known."""
        self._idle = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def watching(self) -> bool:
        """Whether the loop has anything to do for it."""
        return self._epoll is not None

    def send(self, sending: Sending, packet: bytes, now: float, patience: float) -> None:
        """Send a query from a fresh port, with others of this moment. One of its methods is called once, maybe before
        this returns.
        """
        sent, target = self._sent, sending.target
        if len(sent) >= MAX_SOCKETS:
            sending.unheard(UpstreamError(Failure.NONE_LEFT, "too many queries are on their way to upstreams"), now)
            return
        epoll = self._epoll or self._watch()
        sock: RawSocket | None = None
        try:
            if free := self._free[target.family]:
                number, sock = free.popitem()
            else:
                sock = _Socket(target.family, _KIND)
                number = sock.fileno()
                epoll.register(number, select.EPOLLIN)
            sock.connect(target.place)
        except OSError as error:
            if sock is not None:
                sock.close()
            sending.unheard(_unsent(target, error), now)
            return
        sending.sock, sending.strays, sending.deadline = sock, 0, now + patience
        sent[number] = sending
        due = self._due
        due.append((number, sending, packet))
        if len(due) == 1:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._flush, loop)
        elif len(due) == _TOGETHER:
            self._flush(asyncio.get_running_loop())

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        due, self._due = self._due, []
        for number, sending, packet in due:
            try:
                sending.sock.send(packet)
            except OSError as error:
                if self._sent.get(number) is sending:  # its time may have been over
                    self._end(number, sending)
                    sending.unheard(_unsent(sending.target, error), loop.time())

    def close(self) -> None:
        """Forget what is on its way; nobody is called."""
        for sending in self._sent.values():
            sending.sock.close()
        self._sent.clear()
        self._due.clear()
        self._close_kept()

    def _close_kept(self) -> None:
        for number in (*self._spent, *(number for free in self._free.values() for number in free)):
            self._discard(number)

    def _watch(self) -> select.epoll:
        loop = asyncio.get_running_loop()
        epoll = self._epoll = select.epoll()
        loop.add_reader(epoll.fileno(), self._readable, loop)
        loop.call_later(_TICK, self._tick, loop)
        return epoll

    def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(_LOOKS):
            if self._epoll is None:
                return
            events = self._epoll.poll(0, _DRAIN)
            if self._spent:
                self._sort(events)
            self._take(events, loop.time())
            if len(events) < _DRAIN:
                return

    def _sort(self, events: list[tuple[int, int]]) -> None:
        """Tell the sockets that are empty from those in which something is left."""
        spent = self._spent
        for number, _ in events:
            if number in spent:
                self._discard(number)
        if len(events) < _DRAIN:  # otherwise there may be more to tell of
            for number, (family, sock) in spent.items():
                self._free[family][number] = sock
            spent.clear()

    def _discard(self, number: int) -> None:
        """Close a socket that is kept."""
        _, sock = self._spent.pop(number, (0, None))
        for free in self._free.values():
            sock = sock or free.pop(number, None)
        if sock is not None:
            sock.close()

    def _take(self, events: list[tuple[int, int]], now: float) -> None:
        sent = self._sent
        for number, _ in events:
            sending = sent.get(number)
            if sending is None:
                self._discard(number)
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
            if found is Fit.GOOD:
                self._keep(number, sending)
            else:
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
            self._close_kept()
            self._epoll.close()
            self._epoll, self._idle = None, 0
            return
        loop.call_later(_TICK, self._tick, loop)

    def _keep(self, number: int, sending: Sending) -> None:
        """Take the port from a socket, and keep it."""
        sock, family = sending.sock, sending.target.family
        if self._forgets is None:
            self._forgets = forget_port(sock)
        has_room = len(self._spent) + len(self._free[family]) < _KEPT
        if self._forgets and has_room and _connect(number, _AT_NOWHERE, 16) == 0:
            del self._sent[number]
            self._spent[number] = family, sock
        else:
            self._end(number, sending)

    def _end(self, number: int, sending: Sending) -> None:
        del self._sent[number]
        sending.sock.close()  # which takes it out of the epoll too
