"""Tests for gateway.dns.https: upstreams over HTTPS."""

import asyncio
import ssl
from pathlib import Path

import pytest
import uvloop
from dnslib import QTYPE, RR, A

from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.message import encode_name
from gateway.dns.settings import Endpoint, Timing
from gateway.dns.upstream import Pool, Question
from tests.peers.dns_upstream import Message, Reply, encrypted
from tests.peers.tls_origin import make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for dns.test with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "dns.pem", "dns.test")


def good(query: Message, _: str = "") -> Message:
    """Return an honest answer; the first label is the last octet of the address."""
    reply = query.reply()
    reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(f"192.0.2.{str(query.q.qname).split('.')[0]}"), ttl=60))
    return reply


def question(number: int) -> Question:
    """Return a question whose answer has this number at its end."""
    return Question(encode_name(f"{number}.example"), 1)


def a_pool(endpoint: Endpoint, certificate: Path, timing: Timing = Timing(2.0, 4.0)) -> Pool:  # noqa: B008 -- immutable
    """Return a pool that believes the certificate."""
    return Pool([endpoint], "ordered", timing, lambda: ssl.create_default_context(cafile=str(certificate)))


async def test_many_queries_share_one_connection(certificate: Path) -> None:
    """All queries use one connection, carry the id 0 and say what RFC 8484 wants said."""
    async with encrypted(good, certificate, "https") as up:
        pool = a_pool(up.endpoint, certificate)
        await pool.ask(question(0))
        answers = await asyncio.gather(*(pool.ask(question(number)) for number in range(1, 50)))
        assert [answer.answers[0].rdata[3] for answer in answers] == list(range(1, 50))
        assert (up.connections, len(up.queries)) == (1, 50)
        assert {packet[:2] for packet in up.packets} == {b"\0\0"}
        request = up.requests[0]
        assert (request[":method"], request[":path"]) == ("POST", "/dns-query")
        assert request[":authority"] == f"dns.test:{up.endpoint.port}"
        assert request["content-type"] == "application/dns-message"
        await pool.close()


async def test_an_upstream_that_takes_no_more_is_asked_over_another_connection(certificate: Path) -> None:
    """While as many queries wait as the upstream wants on one connection, others are answered over a second one."""

    def handle(query: Message, _: str) -> Reply:
        return good(query) if str(query.q.qname) != "0.example." else None

    async with encrypted(handle, certificate, "https") as up:
        pool = a_pool(up.endpoint, certificate, Timing(5.0, 5.0))
        await pool.ask(question(1))
        loop = asyncio.get_running_loop()
        silent = [loop.create_task(pool.ask(question(0))) for _ in range(100)]  # as many streams as h2 offers
        async with asyncio.timeout(10):
            while len(up.queries) < 101:  # noqa: ASYNC110 -- the peer has no event for that
                await asyncio.sleep(0)
        answer = await pool.ask(question(2))
        assert (answer.answers[0].rdata[3], up.connections) == (2, 2)
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        await pool.close()


async def test_answers_may_overtake_each_other(certificate: Path) -> None:
    """A slow answer holds up nobody else's."""
    release = asyncio.Event()

    async def handle(asked: Message, _: str) -> Reply:
        if str(asked.q.qname) == "1.example.":
            await release.wait()
        else:
            release.set()
        return good(asked)

    async with encrypted(handle, certificate, "https") as up:
        pool = a_pool(up.endpoint, certificate)
        first, second = await asyncio.gather(pool.ask(question(1)), pool.ask(question(2)))
        assert (first.answers[0].rdata[3], second.answers[0].rdata[3]) == (1, 2)
        await pool.close()


@pytest.mark.parametrize("end", ["goodbye", "reset"])
async def test_a_query_is_asked_again_after_the_upstream_gave_it_up(end: str, certificate: Path) -> None:
    """GOAWAY leads to another connection, a reset stream to another stream; the client notices neither."""
    async with encrypted(good, certificate, "https") as up:
        pool = a_pool(up.endpoint, certificate)
        await pool.ask(question(1))
        setattr(up, end, True)
        assert (await pool.ask(question(2))).answers[0].rdata[3] == 2
        assert up.connections == (2 if end == "goodbye" else 1)
        assert len(up.queries) == 3
        await pool.close()


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ({":status": "500"}, "HTTP 500"),
        ({":status": "302", "location": "https://127.0.0.1/"}, "HTTP 302"),
        ({"content-type": "text/html"}, "text/html"),
    ],
    ids=["500", "redirect", "html"],
)
async def test_responses_that_are_no_answers(head: dict[str, str], why: str, certificate: Path) -> None:
    """Another status or media type than the right one is a malformed answer; redirects are not followed."""
    async with encrypted(good, certificate, "https") as up:
        up.head = head
        pool = a_pool(up.endpoint, certificate)
        with pytest.raises(UpstreamError, match=why) as caught:
            await pool.ask(question(1))
        assert caught.value.failure is Failure.MALFORMED
        assert up.connections == 1
        await pool.close()


@pytest.mark.parametrize("octets", [b"", b"short", bytes(66_000)], ids=["empty", "short", "long"])
async def test_bodies_that_are_no_messages(octets: bytes, certificate: Path) -> None:
    """A body without a DNS header, or longer than any message, is malformed."""

    def handle(*_: object) -> Reply:
        return [octets[:33_000], octets[33_000:]]

    async with encrypted(handle, certificate, "https") as up:
        pool = a_pool(up.endpoint, certificate)
        with pytest.raises(UpstreamError) as caught:
            await pool.ask(question(1))
        assert caught.value.failure is Failure.MALFORMED
        await pool.close()


async def test_another_question_is_refused(certificate: Path) -> None:
    """An answer to another question than the stream's is malformed."""

    def handle(asked: Message, _: str) -> Reply:
        return bytes(good(asked).pack()).replace(b"\x011\x07", b"\x012\x07")

    async with encrypted(handle, certificate, "https") as up:
        pool = a_pool(up.endpoint, certificate)
        with pytest.raises(UpstreamError, match="another question"):
            await pool.ask(question(1))
        await pool.close()


async def test_an_upstream_without_http2_is_refused(certificate: Path) -> None:
    """An upstream that does not agree on HTTP/2 hears no query."""
    async with encrypted(good, certificate) as up:
        endpoint = up.endpoint._replace(scheme="https", path="/dns-query")
        pool = a_pool(endpoint, certificate)
        with pytest.raises(UpstreamError) as caught:
            await pool.ask(question(1))
        assert caught.value.failure is Failure.NETWORK
        assert up.queries == []
        await pool.close()


async def test_a_certificate_for_another_name_is_refused(certificate: Path) -> None:
    """An upstream whose certificate is for somebody else hears no query."""
    async with encrypted(good, certificate, "https") as up:
        pool = a_pool(up.endpoint._replace(name="other.test"), certificate)
        with pytest.raises(UpstreamError, match="certificate refused"):
            await pool.ask(question(1))
        assert up.queries == []
        await pool.close()


async def test_silence_is_a_time_out_and_the_next_query_has_another_connection(certificate: Path) -> None:
    """A query without an answer times out, and does not spoil those after it."""
    silent = True

    def handle(asked: Message, _: str) -> Reply:
        return None if silent else good(asked)

    async with encrypted(handle, certificate, "https") as up:
        pool = a_pool(up.endpoint, certificate, Timing(0.3, 0.3))
        with pytest.raises(UpstreamError) as caught:
            await pool.ask(question(1))
        assert caught.value.failure is Failure.TIMEOUT
        silent = False
        assert (await pool.ask(question(2))).answers[0].rdata[3] == 2
        await pool.close()


def test_the_loop_of_the_workers(certificate: Path) -> None:
    """What is true of the standard library's loop is true of uvloop, which workers run on."""

    async def main() -> None:
        await test_many_queries_share_one_connection(certificate)
        await test_a_query_is_asked_again_after_the_upstream_gave_it_up("goodbye", certificate)
        await test_a_certificate_for_another_name_is_refused(certificate)

    uvloop.run(main())
