"""A real `gateway proxy` that looks inside, and clients who make that costly: HTTP/2 floods, names without end."""

import contextlib
import json
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hpack
import pytest

from tests.integration.hostile_rig import Gateway, a_gateway, polite
from tests.peers.flood import Stream, first_flight, flood, inspected
from tests.peers.namespace import ROOT, wait_until

GROWTH = 40 << 20
"""Octets that a handful of connections may need meanwhile."""
KEPT = 64 << 20
"""Octets that the process may have more than before, when all is over."""
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, WINDOW, CONTINUATION, UNKNOWN = 0, 1, 2, 3, 4, 6, 8, 9, 77
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS)
NO_WINDOW = frame(SETTINGS, payload=struct.pack(">HI", 4, 0))
ALL_WINDOW = frame(SETTINGS, payload=struct.pack(">HI", 4, 2**31 - 1)) + frame(
    WINDOW, payload=struct.pack(">I", 2**31 - 2**16)
)


class Requests:
    """Requests of one connection, one stream after the other."""

    def __init__(self, gateway: Gateway, path: str, *, method: str = "GET", reset: bool = False) -> None:
        self._encoder = hpack.Encoder()
        self._fields = [
            *((":method", method), (":scheme", "https"), (":path", path)),
            (":authority", f"seen.test:{gateway.https}"),
        ]
        self._reset = reset
        self._flags = END_HEADERS | (END_STREAM if method == "GET" else 0)
        self._stream = 1

    def some(self, count: int, *more: tuple[str, str]) -> bytes:
        """Return the next requests."""
        octets = b""
        for _ in range(count):
            octets += frame(HEADERS, self._flags, self._stream, self._encoder.encode([*self._fields, *more]))
            if self._reset:
                octets += frame(RESET, 0, self._stream, struct.pack(">I", 8))
            self._stream += 2
        return octets


def bomb(gateway: Gateway) -> bytes:
    """Return a request whose header block is a field of 4 KB, named 15,000 times."""
    block = hpack.Encoder().encode([("x", "y" * 3500)])
    return frame(HEADERS, END_HEADERS | END_STREAM, 1, block + b"\xbe" * 15_000)


@dataclass(frozen=True)
class Attack:
    """What each of four connections does."""

    begin: Callable[[Gateway], bytes] = lambda _: b""
    piece: bytes | Callable[[Gateway], Callable[[], bytes]] = b""
    denied: bool = True
    """Whether it is ended for that. Otherwise it may go on for as long as it likes, at bounded cost."""
    reads: bool = True

    def streams(self, gateway: Gateway, net: str) -> list[Stream]:
        """Connect, from addresses that begin so."""
        made = []
        for number in range(4):
            piece = self.piece(gateway) if callable(self.piece) else self.piece
            sock = inspected(gateway, "h2", source=f"{net}.{number + 1}")
            made.append(Stream(sock, piece, PREFACE + self.begin(gateway), self.reads))
        return made


def resets(gateway: Gateway) -> Callable[[], bytes]:
    """Return what makes and takes back two hundred requests each time."""
    requests = Requests(gateway, "/", reset=True)
    return lambda: requests.some(200)


def asks(path: str, count: int = 1, *, method: str = "GET", before: bytes = b"") -> Callable[[Gateway], bytes]:
    """Return what begins with some requests."""
    return lambda gateway: before + Requests(gateway, path, method=method).some(count)


BLOCK = frame(HEADERS, 0, 1, b"\x00\x01a\x01b")
ATTACKS = {
    "rapid reset": Attack(piece=resets),
    "more streams than may be": Attack(asks("/silent", 1000)),
    "pings": Attack(piece=frame(PING, payload=bytes(8)) * 2000),
    "pings whose answers nobody reads": Attack(piece=frame(PING, payload=bytes(8)) * 2000, reads=False),
    "settings": Attack(piece=frame(SETTINGS, payload=struct.pack(">HI", 4, 65535)) * 2000),
    "priorities": Attack(piece=frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 5)) * 2000),
    "windows of one octet": Attack(asks("/silent"), frame(WINDOW, payload=struct.pack(">I", 1)) * 2000),
    "empty data": Attack(asks("/", method="POST"), frame(DATA, 0, 1) * 2000),
    "unknown frames": Attack(piece=frame(UNKNOWN, payload=bytes(10)) * 2000),
    "continuations": Attack(lambda _: BLOCK, frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 3000)),
    "empty continuations": Attack(lambda _: BLOCK, frame(CONTINUATION, 0, 1) * 3000),
    "a frame of 16 MB": Attack(lambda _: b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", b"x" * 65536),
    "a bomb of header fields": Attack(bomb),
    "an answer without a window": Attack(asks("/endless", before=NO_WINDOW), denied=False),
    "an answer through a window of one octet": Attack(
        asks("/endless", before=NO_WINDOW), frame(WINDOW, 0, 1, struct.pack(">I", 1)) * 20
    ),
    "answers without end": Attack(asks("/endless", 5, before=ALL_WINDOW), denied=False),
    "answers that nobody reads": Attack(asks("/endless", 5, before=ALL_WINDOW), denied=False, reads=False),
    "an endless body": Attack(asks("/", method="POST"), frame(DATA, 0, 1, b"x" * 16384), denied=False),
    "an endless body that nobody takes": Attack(
        asks("/silent", method="POST"), frame(DATA, 0, 1, b"x" * 16384), denied=False
    ),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all attacks: what one leaves behind, the next would show."""
    with a_gateway(tmp_path_factory.mktemp("gateway")) as made:
        with polite(made, "quiet"):
            time.sleep(0.1)
        yield made


@pytest.mark.parametrize("name", ATTACKS)
def test_http2(gateway: Gateway, name: str) -> None:
    """Who floods is cut off, with a line; whoever takes no window is not sent what would fill the memory."""
    attack, net = ATTACKS[name], f"127.5.{list(ATTACKS).index(name)}"
    before = gateway.memory
    gateway.forget_peak()
    streams = flood(attack.streams(gateway, net), 5 if attack.denied else 0.5)
    assert gateway.peak < before + GROWTH
    wait_until(lambda: len(gateway.lines_of(net)) >= len(streams), "a line of each", 10)
    set_of = gateway.lines_of(net)
    if attack.denied:
        assert all(stream.ended for stream in streams)
        assert set_of.count("malformed") >= len(streams)
    else:
        assert set(set_of) == {""}
        assert len(set_of) >= len(streams)


def test_others_are_served_during_floods(gateway: Gateway) -> None:
    """While each is under way; and all memory is free again afterwards."""
    before = gateway.memory
    with polite(gateway, "HTTP/2"):
        for attack in ATTACKS.values():
            flood(attack.streams(gateway, "127.4.2"), 0.3)
    wait_until(lambda: gateway.memory < before + KEPT, "the memory to be free again", 15)


NAMES = 1200


@pytest.mark.parametrize("suffix", ["seen.test", "spliced.test"])
def test_names_without_end(gateway: Gateway, suffix: str) -> None:
    """A new name with each tunnel: a new certificate where it is looked into, a question where it is not."""
    hello, before = first_flight(f"n00000.{suffix}"), gateway.memory
    with contextlib.ExitStack() as stack, polite(gateway, f"names below {suffix}"):
        for number in range(NAMES):
            name = b"n%05d" % number
            sock = stack.enter_context(gateway.connect(f"127.6.{number % 5}.1"))
            target = b"%s.%s:%d" % (name, suffix.encode(), gateway.https)
            sock.sendall(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target))
            sock.sendall(hello.replace(b"n00000", name))
            if number and not number % 100:
                stack.pop_all().close()
            time.sleep(0.004)
    wait_until(lambda: gateway.memory < before + KEPT, "the memory to be free again", 15)


ADDRESSES = 50
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_as_many_names_as_there_is_time_for(gateway: Gateway) -> None:
    """From fifty addresses, each time as soon as the one before is answered: others wait no longer than they may.

    Those who ask for a name that is known, and one who asks for a new one every three seconds; and the memory is free
    again afterwards.
    """
    before = gateway.memory
    with polite(gateway, "as many names as there is time for"):
        flooding = subprocess.Popen(
            [
                *(sys.executable, str(ROOT / "tests/peers/name_flood.py")),
                *map(str, (gateway.port, gateway.https, ADDRESSES, 4 * ADDRESSES, "seen.test", "waits")),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        time.sleep(8)
        output, _ = flooding.communicate(timeout=30)
    told = json.loads(output)
    sys.stderr.write(f"{told}\n")  # for the reader
    assert told["answered"] > 200
    assert not told["lost"]
    wait_until(lambda: gateway.memory < before + KEPT, "the memory to be free again", 15)


def test_who_waits_too_long_is_refused(tmp_path: Path) -> None:
    """Of more new names than there is time for, each is served, or refused with an alert and a line."""
    count, alert = 700, b"\x15\x03\x03\x00\x02\x02\x31"
    with a_gateway(tmp_path, timeouts="connect: 1s") as gateway, contextlib.ExitStack() as stack:
        hello, target = first_flight("n00000.seen.test"), b"n00000.seen.test:%d" % gateway.https
        head = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)
        socks = []
        for number in range(count):
            socks.append(stack.enter_context(gateway.connect(f"127.9.{number % 50}.1")))
            socks[-1].sendall((head + hello).replace(b"n00000", b"n%05d" % number))
        answers = []
        for sock in socks:
            answer = b""
            while not answer.startswith(ESTABLISHED) or len(answer) < len(ESTABLISHED) + len(alert):
                piece = sock.recv(65536)
                assert piece, answer
                answer += piece
            answers.append(answer.removeprefix(ESTABLISHED)[: len(alert)])
        known = sum(answer[:1] == b"\x16" for answer in answers)
        refused = answers.count(alert)
        assert known + refused == count
        assert min(known, refused) > 20
        gateway.await_reasons({"rate-limit": refused})
        with polite(gateway, "afterwards"):
            time.sleep(0.1)
