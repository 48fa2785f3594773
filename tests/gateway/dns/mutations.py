"""Messages of real programs, and what chance makes of them. The same seed makes the same messages."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from gateway.dns.bailiwick import Limits, Trust, select
from gateway.dns.message import STREAM_SIZE, encode_name, render
from gateway.dns.replies import Miss
from gateway.dns.resolver import Resolver
from gateway.dns.wire import HEADER, QR, Query, WireError, name_text, read_response
from tests.gateway.dns.bombs import CLIENT, UPSTREAM
from tests.gateway.dns.support import WEB

CORPORA = Path(__file__).parents[2] / "corpora"
LARGEST = 65535
_TELLING = (b"\0", b"\xff", b"\xc0\x0c", b"\xc0\xff", b"\x3f", b"\0\0", b"\xff\xff", b"\0\x29", b"\0\x05", b"\0\x41")


class Seeds(NamedTuple):
    """Where mutation begins."""

    queries: tuple[bytes, ...]
    responses: tuple[bytes, ...]


def recorded(name: str) -> dict[str, bytes]:
    """Return packets of real programs, by what was asked of them."""
    lines = (CORPORA / name).read_text("utf-8").splitlines()
    return {
        told.removeprefix("# "): bytes.fromhex(octets) for told, octets in zip(lines[::2], lines[1::2], strict=True)
    }


def seeds() -> Seeds:
    """Return what dig and kdig ask, what Unbound answers, and the costliest messages known."""
    # The real ones several times: less of them is refused at once.
    queries = (*recorded("dns_queries.txt").values(), *(make() for make in CLIENT.values()))
    responses = (*recorded("dns_responses.txt").values(),) * 6 + tuple(make().packet for make in UPSTREAM.values())
    return Seeds(queries, responses)


def _octet(random: Random, data: bytearray) -> None:
    data[random.randrange(len(data))] = random.randrange(256)


def _bit(random: Random, data: bytearray) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _telling(random: Random, data: bytearray) -> None:
    at, octets = random.randrange(len(data)), random.choice(_TELLING)
    data[at : at + len(octets)] = octets


def _cut(random: Random, data: bytearray) -> None:
    del data[random.randrange(len(data)) :]


def _remove(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.randrange(1, 20)]


def _insert(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.randrange(1, 20))


def _repeat(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data))
    data[at:at] = data[at : at + random.randrange(1, 60)] * random.choice((1, 2, 30, 1000))


def _move(random: Random, data: bytearray) -> None:
    at, to = random.randrange(len(data)), random.randrange(len(data))
    piece = data[at : at + random.randrange(1, 60)]
    data[to : to + len(piece)] = piece


def _counts(random: Random, data: bytearray) -> None:
    if len(data) >= HEADER:
        at = random.choice((4, 6, 8, 10))
        data[at : at + 2] = random.choice((0, 1, 2, 3, 100, 400, 65535)).to_bytes(2, "big")


def _pointer(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data))
    target = random.randrange(max(HEADER, min(at, 0x3FFF)) + 2)
    data[at : at + 2] = (0xC000 | target & 0x3FFF).to_bytes(2, "big")


_MUTATIONS: tuple[Callable[[Random, bytearray], None], ...] = (
    *(_octet, _bit, _telling, _cut, _remove, _insert, _repeat, _move, _counts, _pointer),
)


def mutated(random: Random, seed: bytes) -> bytes:
    """Return a message with one to five things changed."""
    data = bytearray(seed)
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        if data:
            random.choice(_MUTATIONS)(random, data)
    return bytes(data[:LARGEST])


def check_query(resolver: Resolver, packet: bytes, *, stream: bool) -> None:
    """Assert what holds of any octets from a client."""
    reply = resolver.answer_now(WEB, packet, stream=stream)
    if reply is None:
        assert len(packet) < HEADER or packet[2] & QR >> 8
        return
    if isinstance(reply, Miss):
        assert packet[HEADER : HEADER + len(reply.query.question)] == reply.query.question
        return
    assert reply[:2] == packet[:2]
    assert reply[2] & QR >> 8
    assert len(reply) <= (STREAM_SIZE if stream else 1232)
    if reply[4:6] == b"\0\1":
        question = read_response(reply).question
        assert packet[HEADER : HEADER + len(question)] == question
    else:
        assert reply[3] & 0xF


def check_response(packet: bytes) -> bool:
    """Assert what holds of any octets from an upstream. Returns whether they were of use."""
    try:
        response = read_response(packet)
        wire, qtype = response.question[:-4].lower(), int.from_bytes(response.question[-4:-2], "big")
        answer = select(response, wire, qtype, Limits(), Trust(strip_ech=True))
    except WireError:
        return False
    name = name_text(wire)
    assert encode_name(name) == wire
    reply = render(Query(1, 0x0100, name, response.question, qtype, 1, None), answer, age=1)
    if reply[2] & 2:
        assert HEADER + len(response.question) + len(answer.records) > STREAM_SIZE
        return True
    again = read_response(reply)
    assert (len(again.answers), len(again.authority)) == answer.counts
    # What was judged once is what is judged when it is read again: nothing hides in how it is encoded.
    repeated = select(again, wire, qtype, Limits(), Trust())
    assert (repeated.chain, repeated.addresses) == (answer.chain, answer.addresses)
    return True
