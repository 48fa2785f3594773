"""Tests for gateway.dns.datagrams, with sockets on loopback."""

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dns.datagrams import LATER, LONGEST, PLACES, ROOM, SLOTS, Batch, is_wildcard
from gateway.dns.listeners import bind
from gateway.dns.settings import parse_endpoint


@contextlib.contextmanager
def pair(place: str = "udp://127.0.0.1:0", asked: str = "127.0.0.1") -> Iterator[tuple[Batch, socket.socket]]:
    """Yield a batch, and a client that hears only the address that it asks."""
    with bind(parse_endpoint(place)) as server, socket.socket(server.family, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((asked, server.getsockname()[1]))
        yield Batch(server), client


def read(batch: Batch, least: int = 1) -> list[tuple[bytes, bytes, bytes]]:
    """Return sender, datagram without its first two octets as it is in the slot, and whole datagram, of those that
    wait.
    """
    select.select([batch.socket], [], [], 5)
    peers, ends = batch.receive()
    assert len(peers) >= least
    return [
        (peer, batch.octets[body : min(end, body - 2 + ROOM)], batch.datagram(slot))
        for (slot, body, _), peer, end in zip(PLACES, peers, ends, strict=False)
    ]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 40, ROOM - 1, ROOM, ROOM + 1, 1232, LONGEST])
def test_what_is_sent_is_read(size: int) -> None:
    """A datagram of any length comes out as it went in, and its sender with it."""
    sent = bytes(number % 251 for number in range(size))
    with pair() as (batch, client):
        client.send(sent)
        [(peer, cut, datagram)] = read(batch)
    assert peer == bytes((127, 0, 0, 1))
    assert datagram == sent
    assert cut == sent[2:ROOM]


def test_lengths_are_of_this_time() -> None:
    """A slot that held a long datagram holds a short one whole, and the other way round."""
    with pair() as (batch, client):
        for size in (300, 12, 2000, 0, 4096, 77):
            client.send(bytes([size % 256]) * size)
            [(_, _, datagram)] = read(batch)
            assert datagram == bytes([size % 256]) * size


def test_longer_ones_are_cut() -> None:
    """What is longer than a query can be is cut, and takes nothing from its neighbour."""
    with pair() as (batch, client):
        client.send(b"x" * (LONGEST + 500))
        client.send(b"next")
        assert [datagram for *_, datagram in read(batch, 2)] == [b"x" * LONGEST, b"next"]


def test_many_are_read_at_once_and_answered_each_with_its_own() -> None:
    """As many as there are slots come in one go, the rest in the next; every sender gets what it is meant to get."""
    with pair() as (batch, client):
        for number in range(SLOTS + 5):
            client.send(b"%04d?" % number)
        for expected in (SLOTS, 5):
            peers, ends = batch.receive()
            assert len(peers) == expected
            for (slot, body, at_answer), end in zip(PLACES, ends, strict=False):
                batch.octets[end - 1] = ord("!")  # in place, as the fast path does
                batch.answers[at_answer] = end - body + 2
                assert batch.datagram(slot).endswith(b"!")
            batch.send(0, len(peers))
        assert batch.receive() == ((), ())
        assert [client.recv(99) for _ in range(SLOTS + 5)] == [b"%04d!" % number for number in range(SLOTS + 5)]


def test_some_slots_may_have_no_answer() -> None:
    """Only the slots that are named are sent."""
    with pair() as (batch, client):
        for number in range(6):
            client.send(b"%d" % number)
        assert len(batch.receive()[0]) == 6
        for slot in (1, 2, 5):
            batch.write(slot, b"to %d" % slot)
        batch.send(1, 3)
        batch.send(3, 3)
        batch.send(5, 6)
        assert [client.recv(99) for _ in range(3)] == [b"to 1", b"to 2", b"to 5"]


@given(st.sets(st.integers(0, SLOTS - 1)), st.integers(1, SLOTS))
@settings(max_examples=50)
def test_slots_without_an_answer_are_passed_over(without: set[int], count: int) -> None:
    """Whichever they are, each other answer goes out whole, once, and to whom it is for."""
    gaps = sorted(slot for slot in without if slot < count)
    with pair() as (batch, client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.connect(batch.socket.getsockname())
        for number in range(count):
            (other if number % 3 else client).send(b"?")
        assert len(batch.receive()[0]) == count
        for slot in range(count):
            if slot not in gaps:
                batch.write(slot, b"%d " % slot * (slot + 1))
        batch.send_without(gaps, count)
        for sock, thirds in ((client, (0,)), (other, (1, 2))):
            sock.setblocking(False)
            expected = [slot for slot in range(count) if slot not in gaps and slot % 3 in thirds]
            answers = sorted((sock.recv(LONGEST) for _ in expected), key=len)
            assert answers == [b"%d " % slot * (slot + 1) for slot in expected]
            with pytest.raises(BlockingIOError):
                sock.recv(LONGEST)


def test_one_that_cannot_be_sent_takes_no_other_with_it() -> None:
    """An answer to port 0 fails; those before and after it go out."""
    with pair() as (batch, client):
        for number in range(3):
            client.send(b"%d" % number)
        assert len(batch.receive()[0]) == 3
        sender = bytearray(batch.sender(1))
        sender[2:4] = b"\0\0"
        for slot in range(3):
            batch.write(slot, b"to %d" % slot)
        batch.octets[Batch.SLOT : Batch.SLOT + len(sender)] = sender
        batch.send(0, 3)
        assert [client.recv(99) for _ in range(2)] == [b"to 0", b"to 2"]


@pytest.mark.parametrize("size", [1, ROOM + 1, LONGEST])
def test_an_answer_may_come_later(size: int) -> None:
    """Who asked is remembered while others come and go, and the answer may be as long as a datagram is."""
    with pair() as (batch, client):
        client.send(b"early")
        batch.receive()
        sender = batch.sender(0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.connect(batch.socket.getsockname())
            other.send(b"later")
            batch.receive()
            batch.reply(sender, b"a" * size)
        assert client.recv(LONGEST) == b"a" * size
        with pytest.raises(ValueError, match="no datagram has room"):
            batch.reply(sender, bytes(LONGEST + 1))


def test_answers_are_put_aside_to_be_sent_together() -> None:
    """None goes before `flush` or before there is no room for more, and then each goes once; what is too long to be
    put aside does not wait. Datagrams that come in meanwhile are in nobody's way."""
    with pair() as (batch, client):
        client.setblocking(False)
        client.send(b"early")
        read(batch)
        sender = batch.sender(0)
        assert [batch.gather(sender, b"%d" % number * (number + 1)) for number in range(3)] == [True, False, False]
        for number in range(SLOTS):
            client.send(b"%d" % number)
        assert len(batch.receive()[0]) == SLOTS
        assert not batch.gather(sender, b"x" * (ROOM + 1))
        assert not batch.gather(sender, b"y" * ROOM)
        assert client.recv(LONGEST) == b"x" * (ROOM + 1)
        with pytest.raises(BlockingIOError):
            client.recv(LONGEST)
        for _ in range(2):
            batch.flush()
        assert [client.recv(LONGEST) for _ in range(4)] == [b"0", b"11", b"222", b"y" * ROOM]
        assert [batch.gather(sender, b"%d" % number) for number in range(LATER + 1)] == [
            True,
            *[False] * (LATER - 1),
            True,
        ]
        assert [client.recv(LONGEST) for _ in range(LATER)] == [b"%d" % number for number in range(LATER)]
        with pytest.raises(BlockingIOError):
            client.recv(LONGEST)
        batch.flush()
        assert client.recv(LONGEST) == b"%d" % LATER


@pytest.mark.parametrize(
    ("place", "asked"),
    [
        ("udp://0.0.0.0:0", "127.0.0.9"),
        ("udp://0.0.0.0:0", "127.1.2.3"),
        ("udp://[::]:0", "::1"),
        ("udp://[::1]:0", "::1"),
    ],
)
def test_the_address_that_was_asked_answers(place: str, asked: str) -> None:
    """At once or later, again and again: the client would hear no other."""
    with pair(place, asked) as (batch, client):
        for number in range(3):
            client.send(b"%d" % number)
            [(peer, _, _)] = read(batch)
            assert peer == socket.inet_pton(batch.socket.family, "::1" if ":" in asked else "127.0.0.1")
            batch.write(0, b"now")
            batch.send(0, 1)
            batch.reply(batch.sender(0), b"later")
            batch.gather(batch.sender(0), b"with others")
            batch.flush()
            assert [client.recv(99) for _ in range(3)] == [b"now", b"later", b"with others"]


@pytest.mark.parametrize(
    ("place", "wild"),
    [("udp://0.0.0.0:0", True), ("udp://[::]:0", True), ("udp://127.0.0.1:0", False), ("udp://[::1]:0", False)],
)
def test_which_sockets_need_it(place: str, wild: bool) -> None:
    """A socket bound to one address does not pay for being told which."""
    with bind(parse_endpoint(place)) as sock:
        assert is_wildcard(sock) is wild
