"""A real `gateway proxy` and HTTP/1 without measure: from clients and from origins, plain and inspected."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.hostile_rig import Gateway, a_gateway, polite
from tests.peers.flood import Stream, flood, inspected
from tests.peers.namespace import wait_until

GROWTH = 40 << 20
"""Octets that eight connections may need while they send or are sent without end: some MB each, for buffers."""
KEPT = 64 << 20
"""Octets that the process may have more than before, when all is over."""
CHUNKS = "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000000\r\n\r\n"
GET = "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"


@dataclass(frozen=True)
class Attack:
    """What four plain and four inspected connections do at the same time."""

    begin: str
    """The request."""
    piece: bytes = b""
    """Sent after it, again and again."""
    path: str = "/"
    reason: str = ""
    """Why each is denied; nothing if it may go on for as long as it likes."""
    reads: bool = True
    moves: int = 0
    """Octets that have to come through, together: what goes on for ever is passed on meanwhile."""

    def streams(self, gateway: Gateway, net: str) -> list[Stream]:
        """Connect, from addresses that begin so."""
        made = []
        for number in range(4):
            source = f"{net}.{number + 1}"
            for tls in (False, True):
                host = f"seen.test:{gateway.https if tls else gateway.http}"
                path = self.path if tls else f"http://{host}{self.path}"
                sock = inspected(gateway, source=source) if tls else gateway.connect(source)
                begin = self.begin.format(host=host, path=path).encode()
                made.append(Stream(sock, self.piece, begin, self.reads))
        return made


ATTACKS = {
    "endless chunks": Attack(CHUNKS, b"10000\r\n" + b"x" * 65536 + b"\r\n", moves=2 << 20),
    "an endless length": Attack(LENGTH, b"x" * 65536, moves=2 << 20),
    "100,000 chunks of one octet": Attack(CHUNKS + "1\r\nx\r\n" * 12_500),
    "100,000 chunk extensions": Attack(CHUNKS + "1;a=b;c=d;e=f;g=h\r\nx\r\n" * 12_500),
    "one endless chunk extension": Attack(CHUNKS + "5;a=", b"a" * 65536, reason="malformed"),
    "endless trailers": Attack(CHUNKS + "1\r\nx\r\n0\r\n", b"X-T: yyyyyyyyyyyyyyy\r\n" * 2000, reason="malformed"),
    "100,000 fields": Attack(GET[:-2], b"X-1: aaaaaaaaaaaaaaaaaa\r\n" * 2000, reason="malformed"),
    "one field of 10 MB": Attack(GET[:-2] + "X-Long: ", b"a" * 65536, reason="malformed"),
    "octets ahead of the answer": Attack(GET, b"x" * 65536, "/silent", reason="malformed"),
    "an endless answer": Attack(GET, path="/endless", moves=2 << 20),
    "an endless answer of a length": Attack(GET, path="/endless-length", moves=2 << 20),
    "an endless answer in chunks": Attack(GET, path="/endless-chunked", moves=2 << 20),
    "an endless answer that nobody reads": Attack(GET, path="/endless", reads=False),
    "an answer with endless fields": Attack(GET, path="/endless-head", reason="upstream-failure"),
    "an answer with one endless field": Attack(GET, path="/one-field", reason="upstream-failure"),
    "endless interim answers": Attack(GET, path="/interim", reason="upstream-failure"),
    "an answer with an endless chunk extension": Attack(GET, path="/extension", moves=1),
    "an answer with endless trailers": Attack(GET, path="/trailers", moves=1),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all attacks: what one leaves behind, the next would show."""
    with a_gateway(tmp_path_factory.mktemp("gateway"), timeouts="head: 5s, hello: 5s") as made:
        with polite(made, "quiet"):
            time.sleep(0.1)
        yield made


@pytest.mark.parametrize("name", ATTACKS)
def test_without_end(gateway: Gateway, name: str) -> None:
    """It streams, or it is ended with its reason; the memory it takes is bounded; and each has one line."""
    attack, net = ATTACKS[name], f"127.3.{list(ATTACKS).index(name)}"
    before = gateway.memory
    gateway.forget_peak()
    streams = flood(attack.streams(gateway, net), 3 if attack.reason else 0.6)
    assert gateway.peak < before + GROWTH
    if attack.reason:
        assert all(stream.ended for stream in streams)
    assert sum(stream.sent + stream.received for stream in streams) > attack.moves
    wait_until(lambda: len(gateway.lines_of(net)) >= len(streams), "a line of each", 10)
    assert gateway.lines_of(net) == [attack.reason] * len(streams)


def test_others_are_served_meanwhile(gateway: Gateway) -> None:
    """While each attack is under way, and all memory is free again afterwards."""
    before = gateway.memory
    with polite(gateway, "HTTP/1"):
        for attack in ATTACKS.values():
            flood(attack.streams(gateway, "127.4.1"), 0.3)
    wait_until(lambda: gateway.memory < before + KEPT, "the memory to be free again", 15)
