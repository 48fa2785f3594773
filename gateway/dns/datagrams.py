"""Datagrams by the dozen: `recvmmsg` and `sendmmsg` (Linux), which Python has no names for, called by ctypes.

A system call costs Python half a microsecond besides what it costs the kernel: addresses become tuples of text and
back, buffers are made and cut. Here a call reads what waits into slots that are made once, the addresses stay octets,
and an answer is written over its question and sent from where it is. The slots are short and next to each other: of
4 KB each, a page for each, they cost all that is gained (an echo from Python, us a datagram: 6.3 with recvfrom and
sendto, 6.3 with such slots, 5.2 with these; from C 4.5).

An answer has to come from the address that was asked. On a socket bound to 0.0.0.0 or [::] the system would choose
the sender by the route to the client, and a client drops what another address than the one it asked says. So such a
socket has the kernel tell the address with each datagram (IP_PKTINFO, RFC 3542) and is told it back.
"""

import ctypes
import errno
import socket
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from operator import add
from struct import Struct
from typing import cast

SLOTS = 64
"""Datagrams handled in one wake-up, so that a flood leaves time for everything else."""
LATER = 16
"""Answers that are put aside at most, to be sent together."""
ROOM = 512
"""Octets of a datagram that have room in a slot. The rest of longer ones is kept elsewhere."""
LONGEST = 4096
"""Octets of a datagram that are read; what is longer is cut there, and no query is."""

_NAME = 32  # a sockaddr_in6 has 28
_CONTROL = 64  # a cmsghdr with an in6_pktinfo has 40
_DATA = _NAME + _CONTROL
_SLOT = _DATA + ROOM + 32  # a multiple of a cache line; what is written to `body` may take `ROOM` from there
_SPARE = SLOTS + LATER  # the slot of what is sent alone: the last, with room for the longest
_REST = LONGEST - ROOM
_RESTS = _SPARE * _SLOT + _DATA + LONGEST  # where the rests of long datagrams are
_IP_PKTINFO = 8
"""From linux/in.h: Python has no name for it before 3.14."""
_CONTROL_HEADER = 16
_NO_INTERFACE = bytes(4)
_PEER4, _PEER6 = 4, 8
"""Where the address is in a sockaddr_in and in a sockaddr_in6."""


class _Header(ctypes.Structure):  # struct msghdr
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = (("header", _Header), ("size", ctypes.c_uint))


_LIBC = ctypes.CDLL(None, use_errno=True)
_RECEIVE = _LIBC.recvmmsg
_RECEIVE.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_SEND = _LIBC.sendmmsg
_SEND.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

type Sender = bytes
"""Who sent a datagram, and to which of our addresses: good for `reply`, and opaque otherwise."""


def is_wildcard(sock: socket.socket) -> bool:
    """Say whether a bound socket hears every address of the host.

    >>> with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    ...     sock.bind(("127.0.0.1", 0))
    ...     is_wildcard(sock)
    False
    """
    return sock.getsockname()[0] in ("0.0.0.0", "::")


@cache
def _peers(at: int, size: int) -> list[Callable[[mmap], tuple[bytes, ...]]]:
    """Return what cuts out the senders' addresses, by their number."""
    one = f"{at}x{size}s{_SLOT - at - size}x"
    return [
        cast("Callable[[mmap], tuple[bytes, ...]]", Struct(one * count).unpack_from) for count in range(SLOTS + 1)
    ]


_STARTS = tuple(slot * _SLOT + _DATA for slot in range(SLOTS))
PLACES = tuple((slot, start + 2, 2 * slot + 1) for slot, start in enumerate(_STARTS))
"""Of each slot: its number, where its body is, and where the length of its answer goes. Reckoned once: numbers that
are made anew cost as much as what they are for.
"""

PUT = tuple(Struct(f"{size}s").pack_into for size in range(ROOM + 1))
"""By the number of octets: what writes so many to a place in a batch. A slice costs half as much again."""


class Batch:
    """The datagrams of one wake-up of a non-blocking UDP socket, and the answers to them.

    `receive` returns for each datagram, in the order of `PLACES`, the packed address of its sender and where it ends:
    `octets[body:end]` are its octets but the first two, if it has no more than `ROOM`. An answer of at most as many
    goes to `octets[body:]`, again without the first two, the id, which stay where they are; its whole length goes to
    `answers[at_answer]`. Then `send`. That is spelt out where it is used instead of being methods here, because one
    call costs a tenth of an answer.
    """

    SLOT = _SLOT
    """Octets from slot to slot."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._is_v6 = sock.family == socket.AF_INET6
        self._control = 0
        self._aside = 0
        if is_wildcard(sock):
            option = (
                (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) if self._is_v6 else (socket.IPPROTO_IP, _IP_PKTINFO)
            )
            sock.setsockopt(*option, 1)
            self._control = socket.CMSG_SPACE(20 if self._is_v6 else 12)
        # Of all memory that can be written to, only that of an `mmap` yields octets when it is sliced.
        self.octets = mmap(-1, _RESTS + SLOTS * _REST, MAP_PRIVATE | MAP_ANONYMOUS)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self.octets))
        self._peers = _peers(_PEER6, 16) if self._is_v6 else _peers(_PEER4, 4)

        rests = self._start + _RESTS
        self._read_to = array("L", _flat((at, ROOM, rests + slot * _REST, _REST) for slot, at in self._bodies()))
        self.answers = array("L", _flat((at, 0) for _, at in self._bodies()))
        self._incoming = self._messages(self._read_to, 2)
        self._outgoing = self._messages(self.answers, 1)
        self._unread = self._incoming[:]
        self._at_incoming, self._at_outgoing = _address(self._incoming), _address(self._outgoing)
        step, at = (octets // self._incoming.itemsize for octets in (ctypes.sizeof(_Message), _Message.size.offset))
        self._sizes = memoryview(self._incoming)[at::step]

    def _bodies(self) -> Iterator[tuple[int, int]]:
        return ((slot, self._start + slot * _SLOT + _DATA) for slot in range(_SPARE + 1))

    def _messages(self, vectors: "array[int]", pieces: int) -> "array[int]":
        """Return the headers of a message a slot, as the kernel reads and writes them."""
        messages = (_Message * (_SPARE + 1))()
        for slot, at in self._bodies():
            messages[slot].header = _Header(
                name=at - _DATA,
                name_size=28 if self._is_v6 else 16,
                vectors=_address(vectors) + slot * pieces * 2 * vectors.itemsize,
                vector_count=pieces,
                control=at - _CONTROL if self._control else None,
                control_size=self._control,
            )
        return array("I", bytes(messages))

    def receive(self) -> tuple[tuple[bytes, ...], Iterable[int]]:
        """Read what waits, `SLOTS` datagrams at most: none too if the network has an error to tell."""
        if self._control:
            self._incoming[:] = self._unread  # the kernel writes there how much it had to say
        count: int = _RECEIVE(self.socket.fileno(), self._at_incoming, SLOTS, 0, None)
        if count < 1:
            return (), ()
        if self._control:
            for slot in range(count):
                self._answer_from(slot * _SLOT + _NAME + _CONTROL_HEADER)
        return self._peers[count](self.octets), map(add, _STARTS, self._sizes[:count].tolist())

    def _answer_from(self, at: int) -> None:
        """Have an answer leave from the address that was asked. The route still chooses the interface, but for
        link-local addresses, which mean nothing without one.
        """
        octets = self.octets
        if not self._is_v6:
            octets[at : at + 4] = (
                _NO_INTERFACE  # in_pktinfo: interface, address to answer from, address in the header
            )
        elif not (octets[at] == 0xFE and octets[at + 1] & 0xC0 == 0x80):
            octets[at + 16 : at + 20] = _NO_INTERFACE  # in6_pktinfo: address, interface

    def datagram(self, slot: int) -> bytes:
        """Return the datagram of a slot."""
        at, size = slot * _SLOT + _DATA, self._sizes[slot]
        if size <= ROOM:
            return self.octets[at : at + size]
        rest = _RESTS + slot * _REST
        return self.octets[at : at + ROOM] + self.octets[rest : rest + size - ROOM]

    def sender(self, slot: int) -> Sender:
        """Return whom to answer later."""
        at = slot * _SLOT
        return self.octets[at : at + _DATA]

    def write(self, slot: int, answer: bytes) -> None:
        """Put an answer of at most `ROOM` octets over a datagram."""
        at = slot * _SLOT + _DATA
        self.octets[at : at + len(answer)] = answer
        self.answers[2 * slot + 1] = len(answer)

    def send_without(self, gaps: list[int], end: int) -> None:
        """Send the answers in the slots up to `end` but for some, which are named in order. The last answers take the
        places of these: one call sends what is in a row.
        """
        octets, answers = self.octets, self.answers
        for gap in reversed(gaps):
            end -= 1
            if gap != end:  # whatever was without an answer behind it has one by now
                size = answers[2 * end + 1]
                to, at = gap * _SLOT, end * _SLOT
                octets[to : to + _DATA + size] = octets[at : at + _DATA + size]
                answers[2 * gap + 1] = size
        self.send(0, end)

    def send(self, first: int, end: int) -> None:
        """Send the answers in the slots from `first` up to `end`. What cannot be sent is lost, as UDP may: the client
        is gone, its port is 0, or the buffer is full.
        """
        while first < end:
            sent = _SEND(self.socket.fileno(), self._at_outgoing + first * ctypes.sizeof(_Message), end - first, 0)
            if sent < 0:
                if ctypes.get_errno() in (errno.EAGAIN, errno.ENOBUFS):
                    return
                sent = 1  # without that one
            first += sent

    def gather(self, sender: Sender, answer: bytes) -> bool:
        """Put one answer aside, to be sent with others by `flush`; say whether it is the first. They are sent here
        when there is no room for more; one that is too long for a slot goes alone, and at once.

        Whoever waits for what was sent is woken for all of it, and not for each: that is half of what sending costs.
        """
        size, aside = len(answer), self._aside
        if size > ROOM:
            self.reply(sender, answer)
            return False
        slot = SLOTS + aside
        at = slot * _SLOT
        self.octets[at : at + _DATA + size] = sender + answer
        self.answers[2 * slot + 1] = size
        self._aside = aside + 1
        if self._aside == LATER:
            self.flush()
        return not aside

    def flush(self) -> None:
        """Send what was put aside."""
        end, self._aside = SLOTS + self._aside, 0
        self.send(SLOTS, end)

    def reply(self, sender: Sender, answer: bytes) -> None:
        """Send one answer; what cannot be sent is lost."""
        if len(answer) > LONGEST:
            raise ValueError("an answer that no datagram has room for")
        at = _SPARE * _SLOT
        self.octets[at : at + _DATA] = sender
        self.write(_SPARE, answer)
        self.send(_SPARE, _SPARE + 1)


def _flat(rows: Iterable[tuple[int, ...]]) -> list[int]:
    return [value for row in rows for value in row]


def _address(values: "array[int]") -> int:
    return values.buffer_info()[0]
