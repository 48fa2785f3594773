"""Tests for gateway.dns.channel: connections to upstreams over TCP and TLS, and who may answer on them."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from dnslib import QTYPE, RR, A, DNSRecord

from gateway.dns import channel as channel_module
from gateway.dns.channel import MAX_PIPELINED, Channel, Messages
from gateway.dns.exchange import Failure, UpstreamError
from gateway.dns.message import encode_name, encode_query
from gateway.dns.settings import Endpoint, Timing, parse_endpoint
from gateway.dns.upstream import Pool, Question
from tests.peers.dns_upstream import Message, Reply, encrypted, upstream
from tests.peers.tls_origin import make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for dns.test with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "dns.pem", "dns.test")


def trusting(certificate: Path) -> Callable[[], ssl.SSLContext]:
    """Return what makes contexts that believe one certificate."""
    return lambda: ssl.create_default_context(cafile=str(certificate))


def good(query: Message, _: str = "") -> Message:
    """Return an honest answer; the first label is the last octet of the address."""
    reply = query.reply()
    reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(f"192.0.2.{str(query.q.qname).split('.')[0]}"), ttl=60))
    return reply


def question(number: int | str) -> Question:
    """Return a question whose answer has this number at its end."""
    return Question(encode_name(f"{number}.example"), 1)


def query(number: int | str) -> bytes:
    """Return a query for it, with the id 7."""
    return encode_query(7, question(number).name + b"\0\1\0\1", dnssec_ok=False, checking_disabled=False)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- the peer has no event for everything that a test waits for
            await asyncio.sleep(0)


def tcp(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint over TCP."""
    return endpoint._replace(scheme="tcp")


def encrypted_pool(endpoint: Endpoint, certificate: Path) -> Pool:
    """Return a pool that believes the certificate."""
    return Pool([endpoint], "ordered", Timing(2.0, 4.0), trusting(certificate))


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_many_queries_share_one_connection(scheme: str, certificate: Path) -> None:
    """Queries one after another and queries at once all use the same connection, in lower case and with own ids."""
    async with upstream(good) as plain, encrypted(good, certificate) as secret:
        up = plain if scheme == "tcp" else secret
        pool = encrypted_pool(tcp(up.endpoint) if scheme == "tcp" else up.endpoint, certificate)
        await pool.ask(question(0))
        answers = await asyncio.gather(*(pool.ask(question(number)) for number in range(1, 50)))
        assert [answer.answers[0].rdata[3] for answer in answers] == list(range(1, 50))
        assert (up.connections, len(up.queries)) == (1, 50)
        assert len({packet[:2] for packet in up.packets}) > 45
        assert {protocol for _, protocol in up.queries} == {scheme}
        await pool.close()


async def test_answers_may_overtake_each_other() -> None:
    """The answer to the second query, sent first, reaches whoever asked the second."""
    release = asyncio.Event()

    async def handle(asked: Message, _: str) -> Reply:
        if str(asked.q.qname) == "1.example.":
            await release.wait()
        else:
            release.set()
        return good(asked)

    async with upstream(handle) as up:
        channel = Channel(tcp(up.endpoint))
        first, second = await asyncio.gather(channel.ask(query(1)), channel.ask(query(2)))
        assert first[:2] == second[:2] == b"\0\7"
        assert b"\xc0\0\2\1" in first
        assert b"\xc0\0\2\2" in second
        assert up.connections == 1
        await channel.close()


async def test_a_connection_that_was_closed_is_made_again() -> None:
    """When the upstream has closed an idle connection, the next query opens another and is answered."""
    async with upstream(good) as up:
        channel = Channel(tcp(up.endpoint))
        await channel.ask(query(1))
        for writer in up._writers:
            writer.transport.abort()
        assert b"\xc0\0\2\2" in await channel.ask(query(2))
        assert up.connections == 2
        await channel.close()


async def test_a_connection_that_ends_after_some_answers_is_made_again() -> None:
    """An upstream may answer so many queries on a connection and no more: those left over are asked on the next."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            reply = good(DNSRecord.parse(data)).pack()
            writer.write(len(reply).to_bytes(2, "big") + reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        endpoint = parse_endpoint(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        channel = Channel(endpoint)
        replies = await asyncio.gather(*(channel.ask(query(number)) for number in range(6)))
        assert [str(DNSRecord.parse(reply).rr[0].rdata) for reply in replies] == [
            f"192.0.2.{number}" for number in range(6)
        ]
        await channel.close()


async def test_an_idle_connection_is_closed() -> None:
    """Once nothing has been asked for a while, we close the connection, and the next query opens another."""
    async with upstream(good) as up:
        channel = Channel(tcp(up.endpoint), idle=0.01)
        await channel.ask(query(1))
        await until(lambda: not up._writers)
        await channel.ask(query(2))
        assert up.connections == 2
        await channel.close()


async def test_answers_that_nobody_waits_for_keep_no_connection_open() -> None:
    """A connection on which nobody waits for anything is idle, whatever was not answered on it."""

    def handle(asked: Message, _: str) -> Reply:
        return None if str(asked.q.qname).startswith("silent") else good(asked)

    async with upstream(handle) as up:
        up.closing = False
        channel = Channel(tcp(up.endpoint), idle=0.01)
        silent = asyncio.get_running_loop().create_task(channel.ask(query("silent")))
        await up.asked.wait()
        await channel.ask(query(1))
        silent.cancel()
        await asyncio.gather(silent, return_exceptions=True)
        await until(lambda: not up._writers)
        await channel.close()


async def test_a_connection_that_fell_silent_is_given_up() -> None:
    """After a time-out in which nothing at all was heard, the next query does not use that connection."""
    silent = True

    def handle(asked: Message, _: str) -> Reply:
        return None if silent else good(asked)

    async with upstream(handle) as up:
        up.closing = False
        channel = Channel(tcp(up.endpoint))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await channel.ask(query(1))
        silent = False
        await channel.ask(query(2))
        assert up.connections == 2
        await channel.close()


async def test_an_answer_to_nothing_ends_the_connection() -> None:
    """An upstream that answers with an id that was never sent is not listened to any longer."""

    def handle(asked: Message, _: str) -> Reply:
        data = bytearray(good(asked).pack())
        data[0] ^= 0xFF
        return bytes(data)

    async with upstream(handle) as up:
        channel = Channel(tcp(up.endpoint))
        with pytest.raises(UpstreamError, match="nothing that was asked") as caught:
            await channel.ask(query(1))
        assert caught.value.failure is Failure.NETWORK


async def test_answers_exchanged_by_the_upstream_are_refused() -> None:
    """An answer with the right id and another question is malformed, over a stream too."""

    def handle(asked: Message, _: str) -> Reply:
        return bytes(good(asked).pack()).replace(b"\x011\x07", b"\x012\x07")

    async with upstream(handle) as up:
        pool = Pool([tcp(up.endpoint)], "ordered")
        with pytest.raises(UpstreamError, match="another question") as caught:
            await pool.ask(question(1))
        assert caught.value.failure is Failure.MALFORMED
        await pool.close()


async def test_a_late_answer_is_nobodys() -> None:
    """The answer to a query that was given up goes to nobody, and the connection lives on if others were answered."""
    release = asyncio.Event()

    async def handle(asked: Message, _: str) -> Reply:
        if str(asked.q.qname) == "1.example.":
            await release.wait()
        return good(asked)

    async with upstream(handle) as up:
        channel = Channel(tcp(up.endpoint))
        late = asyncio.get_running_loop().create_task(channel.ask(query(1)))
        await up.asked.wait()
        await channel.ask(query(2))
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        release.set()
        assert b"\xc0\0\2\3" in await channel.ask(query(3))
        assert up.connections == 1
        await channel.close()


async def test_names_that_nobody_answers_for_keep_no_others_waiting() -> None:
    """Once a connection is full of queries that get no answer, others go over another; when nobody waits for those
    any more, the full one is closed.
    """

    def handle(asked: Message, _: str) -> Reply:
        return None if str(asked.q.qname).startswith("silent") else good(asked)

    async with upstream(handle) as up:
        up.closing = False
        channel = Channel(tcp(up.endpoint))
        await channel.ask(query(1))
        loop = asyncio.get_running_loop()
        silent = [loop.create_task(channel.ask(query(f"silent{number}"))) for number in range(MAX_PIPELINED - 1)]
        await until(lambda: len(up.queries) == MAX_PIPELINED)
        assert b"\xc0\0\2\2" in await channel.ask(query(2))  # the last place, which is free again
        silent.append(loop.create_task(channel.ask(query("silent"))))
        await until(lambda: len(up.queries) == MAX_PIPELINED + 2)
        assert b"\xc0\0\2\3" in await channel.ask(query(3))
        assert up.connections == 2
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        await until(lambda: up.connected == 1)
        assert b"\xc0\0\2\4" in await channel.ask(query(4))
        assert up.connections == 2
        await channel.close()


async def test_queries_that_come_while_a_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks, at whatever moment of the making of a connection, is answered: one comes in each turn of the loop
    until it is there, and more than it has room for.
    """
    monkeypatch.setattr(channel_module, "MAX_PIPELINED", 20)
    async with upstream(good) as up:
        channel = Channel(tcp(up.endpoint))
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(channel.ask(query(number))) for number in range(30)]
        while not channel.is_open:
            tasks.append(loop.create_task(channel.ask(query(len(tasks) % 100))))
            await asyncio.sleep(0)
        assert len(await asyncio.wait_for(asyncio.gather(*tasks), 10)) > 30
        await channel.close()


async def test_queries_on_their_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One query more than may wait on all connections is refused at once."""
    monkeypatch.setattr(channel_module, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(channel_module, "MAX_PIPELINED", 50)
    async with upstream(lambda *_: None) as up:
        up.closing = False
        channel = Channel(tcp(up.endpoint))
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(channel.ask(query(number))) for number in range(100)]
        await until(lambda: len(up.queries) == 100)
        with pytest.raises(UpstreamError, match="too many") as caught:
            await channel.ask(query(1))
        assert caught.value.failure is Failure.NONE_LEFT
        assert up.connections == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await channel.close()


async def test_a_certificate_for_another_name_is_refused(certificate: Path) -> None:
    """An upstream whose certificate is for somebody else hears no query."""
    async with encrypted(good, certificate) as up:
        for name in ("other.test", ""):
            pool = encrypted_pool(up.endpoint._replace(name=name), certificate)
            with pytest.raises(UpstreamError, match="certificate refused") as caught:
                await pool.ask(question(1))
            assert caught.value.failure is Failure.NETWORK
            await pool.close()
        assert up.queries == []


async def test_a_certificate_of_nobody_known_is_refused(certificate: Path) -> None:
    """A certificate that the system's trust store does not lead to is refused."""
    async with encrypted(good, certificate) as up:
        pool = Pool([up.endpoint], "ordered")
        with pytest.raises(UpstreamError, match="certificate refused"):
            await pool.ask(question(1))
        await pool.close()
        assert up.queries == []


async def test_a_certificate_for_the_address(tmp_path: Path) -> None:
    """Without a name, the certificate has to be for the address, and that is enough."""
    own = make_certificate(tmp_path / "dns.pem", "127.0.0.1")
    async with encrypted(good, own) as up:
        pool = encrypted_pool(up.endpoint._replace(name=""), own)
        assert (await pool.ask(question(9))).answers[0].rdata[3] == 9
        await pool.close()


async def test_old_tls_is_not_spoken(certificate: Path) -> None:
    """The context that a connection gets knows nothing older than TLS 1.2."""
    async with encrypted(good, certificate) as up:
        pool = encrypted_pool(up.endpoint, certificate)
        assert pool.upstreams[0].tls().minimum_version >= ssl.TLSVersion.TLSv1_2
        await pool.close()


async def test_closing_tells_those_who_wait() -> None:
    """Whoever waits for an answer when the channel is closed gets an error."""
    async with upstream(lambda *_: None) as up:
        up.closing = False
        channel = Channel(tcp(up.endpoint), Messages)
        task = asyncio.get_running_loop().create_task(channel.ask(query(1)))
        await up.asked.wait()
        await channel.close()
        with pytest.raises(UpstreamError, match="closed"):
            await task


async def test_closing_tells_those_who_wait_for_a_connection() -> None:
    """Whoever waits for a connection that is still being made gets an error too, and may go on to the next upstream;
    whoever asks after that has a connection made.
    """
    async with upstream(good) as up:
        silent = socket.create_server(("127.0.0.1", 0))  # never answers a ClientHello
        endpoint = up.endpoint._replace(port=silent.getsockname()[1])
        channel = Channel(endpoint, Messages, ssl.create_default_context)
        waiting = asyncio.get_running_loop().create_task(channel.ask(query(1)))
        await until(lambda: channel._making is not None)
        closing = asyncio.get_running_loop().create_task(channel.close())
        await asyncio.sleep(0)
        channel._endpoint, channel._tls = up.endpoint, None
        late = asyncio.get_running_loop().create_task(channel.ask(query(2)))
        with pytest.raises(UpstreamError, match="closed while connecting"):
            await waiting
        await closing
        assert (await late)[:2] == query(2)[:2]
        await channel.close()
        silent.close()


def test_the_loop_of_the_workers(certificate: Path) -> None:
    """What is true of the standard library's loop is true of uvloop, which workers run on."""

    async def main() -> None:
        await test_many_queries_share_one_connection("tcp", certificate)
        await test_many_queries_share_one_connection("tls", certificate)
        await test_a_connection_that_was_closed_is_made_again()
        await test_a_connection_that_fell_silent_is_given_up()
        await test_a_certificate_for_another_name_is_refused(certificate)

    uvloop.run(main())
