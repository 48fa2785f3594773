"""Tests for gateway.dns.exchange. How it deals with liars is in test_upstream.py."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import warnings

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns import exchange
from gateway.dns.exchange import (
    Datagrams,
    Failure,
    Fit,
    Sending,
    UpstreamError,
    fit,
    forget_port,
    random_id,
    random_question,
    target_of,
)
from gateway.dns.message import encode_name
from gateway.dns.settings import Endpoint, parse_endpoint
from tests.peers.dns_upstream import Message, Reply, upstream
from tests.peers.ports import free_port

QUESTION = encode_name("www.example.com") + b"\0\1\0\1"
GOOD = b"\0\7\x81\x80\0\1\0\0\0\0\0\0" + QUESTION


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (GOOD, Fit.GOOD),
        (GOOD + b"more", Fit.GOOD),
        (GOOD[:12] + QUESTION.replace(b"www", b"wWw"), Fit.OTHER_CASE),
        (b"\0\7\x83\x80" + GOOD[4:], Fit.TRUNCATED),
        (b"\0\6" + GOOD[2:], Fit.STRAY),
        (b"\0\7\x01\x00" + GOOD[4:], Fit.STRAY),
        (b"\0\7\xa1\x80" + GOOD[4:], Fit.STRAY),
        (GOOD[:-1] + b"\3", Fit.STRAY),
        (GOOD[:-3] + b"\x41\0\1", Fit.STRAY),
        (GOOD[:-1], Fit.STRAY),
        (GOOD[:12], Fit.STRAY),
        (b"", Fit.STRAY),
        (b"\0\7\x81\x81\0\0\0\0\0\0\0\0", Fit.GOOD),
        (b"\0\7\x81\x80\0\0\0\0\0\0\0\0", Fit.STRAY),
    ],
)
def test_what_fits(packet: bytes, expected: Fit) -> None:
    """Only a response with our id and our question fits; errors may come without the question."""
    assert fit(packet, 7, QUESTION) is expected


@given(st.binary(max_size=80))
def test_any_octets_fit_or_not(packet: bytes) -> None:
    """Whatever comes in is put in its place."""
    assert fit(packet, 7, QUESTION) in Fit


def test_randomness() -> None:
    """Ids cover their range, and letter case changes nothing but letter case."""
    assert len({random_id() for _ in range(100)}) > 90
    name = encode_name("www.example-123.com")
    spellings = {random_question(name)[1] for _ in range(50)}
    assert len(spellings) > 45
    assert {spelling.lower() for spelling in spellings} == {name}


_FORK = """
import os, sys
from gateway.dns.exchange import random_id
random_id()
child = os.fork()
ids = [random_id() for _ in range(16)]
if child:
    os.waitpid(child, 0)
print(*ids)
"""


def test_a_forked_process_has_randomness_of_its_own() -> None:
    """A worker that is forked off does not go on with the octets that its parent has fetched."""
    done = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=True, timeout=30)
    first, second = done.stdout.splitlines()
    assert len(first.split()) == len(second.split()) == 16
    assert first != second


type Outcome = tuple[bytes, Fit] | UpstreamError


class Query(Sending):
    """A query whose outcome can be waited for."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.asked, self.ident, self.target = QUESTION, 7, target_of(endpoint)
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def received(self, data: bytes, found: Fit, _: float) -> None:
        """Note what came."""
        self.outcome.set_result((data, found))

    def unheard(self, error: UpstreamError, _: float) -> None:
        """Note what went wrong."""
        self.outcome.set_result(error)


def sent(datagrams: Datagrams, endpoint: Endpoint, patience: float = 5.0) -> Query:
    """Send a query."""
    query = Query(endpoint)
    packet = b"\0\7\1\0\0\1\0\0\0\0\0\0" + QUESTION
    datagrams.send(query, packet, asyncio.get_running_loop().time(), patience)
    return query


async def outcome(datagrams: Datagrams, endpoint: Endpoint, patience: float = 5.0) -> Outcome:
    """Send a query and wait for what comes of it."""
    return await sent(datagrams, endpoint, patience).outcome


async def test_datagrams_hold_nothing_once_answered() -> None:
    """After an answer and after a time-out, nothing is on its way."""
    datagrams = Datagrams()
    async with upstream(lambda query, _: query.reply()) as up:
        found = await outcome(datagrams, up.endpoint)
        assert isinstance(found, tuple)
        assert found[1] is Fit.GOOD
        assert not len(datagrams)
    async with upstream(lambda *_: None) as up:
        late = await outcome(datagrams, up.endpoint, 0.01)
        assert isinstance(late, UpstreamError)
        assert late.failure is Failure.TIMEOUT
        assert not len(datagrams)


async def test_datagrams_rest_and_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time without queries nothing is watched any more, and the next query is answered all the same."""
    monkeypatch.setattr(exchange, "_TICK", 0.0001)
    datagrams = Datagrams()
    async with upstream(lambda query, _: query.reply()) as up:
        for _ in range(2):
            query = sent(datagrams, up.endpoint)
            assert isinstance(await query.outcome, tuple)
            async with asyncio.timeout(10):
                while datagrams.watching:  # noqa: ASYNC110 -- that nothing happens has no event
                    await asyncio.sleep(0)
            assert query.sock.fileno() == -1


async def test_a_socket_serves_again_and_a_port_does_not() -> None:
    """The socket of an answered query asks the next one from another port; `close` closes it."""
    datagrams = Datagrams()
    async with upstream(lambda query, _: query.reply()) as up:
        queries = []
        for _ in range(20):
            queries.append(sent(datagrams, up.endpoint))
            await queries[-1].outcome
        assert len({query.sock.fileno() for query in queries}) < 5
        assert len(set(up.ports)) > 15
        assert -1 not in {query.sock.fileno() for query in queries}
        datagrams.close()
        assert {query.sock.fileno() for query in queries} == {-1}


async def test_queries_that_are_sent_together_have_nothing_in_common() -> None:
    """Each goes once, from a port of its own, and has its own answer; nothing waits for another turn of the loop."""
    datagrams = Datagrams()
    async with upstream(lambda query, _: query.reply()) as up:
        queries = [sent(datagrams, up.endpoint) for _ in range(40)]
        found = await asyncio.gather(*(query.outcome for query in queries))
        assert all(isinstance(each, tuple) and each[1] is Fit.GOOD for each in found)
        assert len(up.queries) == len(set(up.ports)) == 40
        datagrams.close()


def test_what_cannot_be_sent_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that the system does not send fails, and those beside it do not; nor does one fail twice whose time was
    over before."""
    monkeypatch.setattr(exchange, "_TICK", 0)

    async def scenario() -> None:
        datagrams, now = Datagrams(), asyncio.get_running_loop().time()
        async with upstream(lambda query, _: query.reply()) as up:
            late, long = sent(datagrams, up.endpoint, 0.0), Query(up.endpoint)
            datagrams.send(long, bytes(70_000), now, 5.0)
            good = sent(datagrams, up.endpoint)
            assert isinstance(await good.outcome, tuple)
            for query, failure in ((late, Failure.TIMEOUT), (long, Failure.NETWORK)):
                error = await query.outcome
                assert isinstance(error, UpstreamError)
                assert error.failure is failure
            assert not len(datagrams)
            assert len(up.queries) == 1
            datagrams.close()

    asyncio.run(scenario(), loop_factory=uvloop.new_event_loop)  # there the look at the time comes before the sending


async def test_what_comes_late_is_not_heard_by_the_next_query() -> None:
    """What is left in a socket when its query has been answered is gone with it, and counts as nobody's stray."""

    def handle(query: Message, _: str) -> Reply:
        strays = [query.reply() for _ in range(exchange.MAX_STRAYS)]
        for stray in strays:
            stray.header.id ^= 0xFF
        return [query.reply(), *strays]

    datagrams = Datagrams()
    async with upstream(handle) as up:
        first = sent(datagrams, up.endpoint)
        await first.outcome
        second = sent(datagrams, up.endpoint)
        found = await second.outcome
        assert isinstance(found, tuple)
        assert (found[1], second.strays) == (Fit.GOOD, 0)
        assert second.sock is not first.sock
        third = sent(datagrams, up.endpoint)
        await third.outcome
        assert first.sock.fileno() == -1
        datagrams.close()


def test_an_event_loop_may_end_before_an_answer() -> None:
    """Sockets on which nobody will ever hear anything are closed without a word, whatever is let go of first."""

    async def begin(port: int) -> None:
        datagrams, sending = Datagrams(), Sending()
        sending.target = target_of(parse_endpoint(f"udp://127.0.0.1:{port}"))
        datagrams.send(sending, GOOD, asyncio.get_running_loop().time(), 60.0)
        descriptors.append(sending.sock.fileno())
        sending.asked = datagrams  # type: ignore[assignment]  # in a circle, as with a whole resolver

    descriptors: list[int] = []
    gc.collect()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        silent.bind(("127.0.0.1", 0))
        asyncio.run(begin(silent.getsockname()[1]))
        gc.collect()
        assert said == []
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptors[0])


async def test_a_few_sockets_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more sockets are kept than is said; the others are closed when their queries have been answered."""
    monkeypatch.setattr(exchange, "_KEPT", 2)
    datagrams = Datagrams()
    async with upstream(lambda query, _: query.reply()) as up:
        queries = [sent(datagrams, up.endpoint) for _ in range(5)]
        await asyncio.gather(*(query.outcome for query in queries))
        assert sum(query.sock.fileno() != -1 for query in queries) == 2
        datagrams.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_socket_forgets_its_port(address: str) -> None:
    """A connected socket lets go of the port that the system chose, and one that somebody else has chosen stays."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((address, 9))
        assert sock.getsockname()[1]
        assert forget_port(sock)
        assert not sock.getsockname()[1]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, free_port()))
        sock.connect((address, 9))
        assert not forget_port(sock)


async def test_without_new_ports_sockets_are_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not let a socket forget its port, no socket asks twice."""
    monkeypatch.setattr(exchange, "forget_port", lambda _: False)
    datagrams = Datagrams()
    async with upstream(lambda query, _: query.reply()) as up:
        query = sent(datagrams, up.endpoint)
        await query.outcome
        assert query.sock.fileno() == -1


async def test_datagrams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One query more than may be on its way fails at once."""
    monkeypatch.setattr(exchange, "MAX_SOCKETS", 1)
    datagrams = Datagrams()
    async with upstream(lambda *_: None) as up:
        sent(datagrams, up.endpoint)
        late = await outcome(datagrams, up.endpoint)
        assert isinstance(late, UpstreamError)
        assert late.failure is Failure.NONE_LEFT
        datagrams.close()
        assert not len(datagrams)
