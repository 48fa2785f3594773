"""Tests for gateway.dns.http2: a real client over TLS, polite and rude."""

import asyncio
import base64
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated
from h2.settings import SettingCodes
from h2.stream import H2Stream
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.http2 import MAX_NOISE, MAX_STREAMS, MAX_WAITING, Http2Connection, is_bearable
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint
from gateway.http2frames import PREFACE, FrameHeads
from gateway.request import DnsQuery
from tests.gateway.dns.support import PolicyJudge, a_judge, addresses, ask, parse
from tests.peers.dns_tls import Http2Client, a_certificate, http2, serving_all
from tests.peers.dns_upstream import Handle, Message, Reply, Upstream, answer, upstream, zone

ZONE = {"public.example": ["93.184.215.14"], "big.example": [f"93.184.215.{number}" for number in range(250)]}
ZONE |= {f"n{number}.example": ["93.184.215.1"] for number in range(100)}
LISTEN = ("https://127.0.0.1:0/dns-query",)


@asynccontextmanager
async def serving(
    folder: Path, handle: Handle | None = None, *, idle: float = 10.0, **settings: Any
) -> AsyncIterator[tuple[Endpoint, Upstream, PolicyJudge]]:
    """Run a resolver with DoH alone."""
    async with upstream(handle or zone(ZONE)) as up:
        judge = a_judge(up.endpoint, **settings)
        async with serving_all(Resolver(judge), a_certificate(folder), LISTEN, idle=idle) as (place,):
            yield place, up, judge


def get(data: bytes) -> str:
    """Return the target of a GET."""
    return "/dns-query?dns=" + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def works(place: Endpoint, folder: Path) -> None:
    """Check that a polite client is served."""
    async with http2(place, folder) as client:
        client.post(1, ask("public.example"))
        status, _, body = await client.response(1)
        assert (status, addresses(body)) == (200, ["93.184.215.14"])


async def test_a_connection_is_gone_at_its_end(tmp_path: Path) -> None:
    """Nothing of it is left to the garbage collector: a flood of connections would leave 20 KB of each."""

    def left() -> int:
        kinds = (H2Connection, H2Stream)
        ours = sum(type(each) in kinds and not each.config.client_side for each in gc.get_objects())
        return ours + sum(type(each) is Http2Connection for each in gc.get_objects())

    async with serving(tmp_path) as (place, _, _):
        gc.collect()
        gc.disable()
        try:
            before = left()
            async with http2(place, tmp_path) as client:
                client.post(1, ask("public.example"))
                await client.response(1)
                assert left() >= before + 2
            async with asyncio.timeout(10):
                while left() > before:  # noqa: ASYNC110 -- nobody is told
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()


async def test_get_and_post(tmp_path: Path) -> None:
    """Both methods get the same answer, padded, with its type and how long it may be kept."""
    async with serving(tmp_path) as (place, _, _), http2(place, tmp_path) as client:
        client.post(1, ask("public.example", ident=0))
        client.begin(3, "GET", get(ask("public.example", ident=0)))
        for ident in (1, 3):
            status, fields, body = await client.response(ident)
            assert (status, addresses(body), parse(body).header.id) == (200, ["93.184.215.14"], 0)
            assert fields["content-type"] == "application/dns-message"
            assert fields["cache-control"] in ("private, max-age=300", "private, max-age=299")
            assert int(fields["content-length"]) == len(body) == 468


async def test_the_client_is_the_peer(tmp_path: Path) -> None:
    """No header field makes a client somebody else."""
    async with serving(tmp_path) as (place, _, judge), http2(place, tmp_path) as client:
        more = dict.fromkeys(("x_forwarded_for", "forwarded", "x_real_ip", "true_client_ip"), "10.1.0.7")
        client.post(1, ask("bad.example"), **more)
        assert parse((await client.response(1))[2]).header.rcode == 3
        assert {request.client.address for request, _ in judge.records} == {ip_address("127.0.0.1")}


async def test_upstream_queries_have_ids_of_their_own(tmp_path: Path) -> None:
    """The id 0 that clients of DoH send is not what goes upstream."""
    async with serving(tmp_path) as (place, up, _), http2(place, tmp_path) as client:
        for number in range(8):
            client.post(2 * number + 1, ask(f"n{number}.example", ident=0))
            await client.response(2 * number + 1)
        assert len({query.header.id for query, _ in up.queries}) > 4


async def test_answers_overtake_each_other(tmp_path: Path) -> None:
    """A quick answer does not wait for a slow one on the same connection."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        if str(query.q.qname).lower().startswith("n1."):
            await go.wait()
        return answer(query, ZONE)

    async with serving(tmp_path, handle) as (place, _, _), http2(place, tmp_path) as client:
        client.post(1, ask("n1.example"))
        client.post(3, ask("n2.example"))
        assert (await client.response(3))[0] == 200
        assert not client.done(1)
        go.set()
        assert (await client.response(1))[0] == 200


@pytest.mark.parametrize(
    ("method", "target", "fields", "status"),
    [
        ("GET", "/other?dns=AAAA", {}, 404),
        ("GET", "/dns-query", {}, 400),
        ("GET", "/dns-query?dns=!!!!", {}, 400),
        ("GET", "/dns-query?dns=AAAA", {}, 400),
        ("HEAD", "/dns-query?dns=AAAA", {}, 405),
        ("DELETE", "/dns-query", {}, 405),
        ("POST", "/dns-query", {"content_type": "text/plain"}, 415),
        ("POST", "/dns-query", {"content_type": "application/dns-message"}, 400),
    ],
)
async def test_statuses(tmp_path: Path, method: str, target: str, fields: dict[str, Any], status: int) -> None:
    """What is no request for an answer gets its status, the policy is not asked, and the connection goes on."""
    async with serving(tmp_path) as (place, _, judge), http2(place, tmp_path) as client:
        client.begin(1, method, target, **fields)
        assert (await client.response(1))[0] == status
        assert not [request for request in judge.asked if isinstance(request, DnsQuery) and request.name]
        client.post(3, ask("public.example"))
        assert (await client.response(3))[0] == 200


async def test_bodies_are_bounded(tmp_path: Path) -> None:
    """A body that says it is too long is refused before it comes, one that does not is as soon as it is too long."""
    async with serving(tmp_path) as (place, _, _), http2(place, tmp_path) as client:
        client.begin(1, "POST", end=False, content_type="application/dns-message", content_length="65536")
        assert (await client.response(1))[0] == 413
        for ident in (3, 5, 7):  # more than once: what was used of the window comes back
            client.begin(ident, "POST", end=False, content_type="application/dns-message")
            sent = 0
            while sent < 65536:
                room = min(client.h2.local_flow_control_window(ident), 16384)
                if not room:
                    assert await client.turn()
                    continue
                client.h2.send_data(ident, bytes(room))
                client.flush()
                sent += room
            assert (await client.response(ident))[0] == 413
        client.post(9, ask("public.example"))
        assert (await client.response(9))[0] == 200


async def test_a_message_of_nonsense_is_answered(tmp_path: Path) -> None:
    """A malformed query gets its DNS error in a 200, what is no query a 400, a full body included."""
    async with serving(tmp_path) as (place, _, _), http2(place, tmp_path) as client:
        client.post(1, ask("public.example")[:-1])
        status, _, body = await client.response(1)
        assert (status, parse(body).header.rcode) == (200, 1)
        client.post(3, b"\0" * 5)
        assert (await client.response(3))[0] == 400
        response = bytearray(ask("public.example"))
        response[2] |= 0x80
        client.post(5, bytes(response))
        assert (await client.response(5))[0] == 400


async def test_a_dropped_query_is_met_with_silence(tmp_path: Path) -> None:
    """With `block: drop` the stream is reset without a response, and the connection goes on."""
    async with serving(tmp_path, block_answer="drop") as (place, _, _), http2(place, tmp_path) as client:
        client.post(1, ask("bad.example"))
        assert await client.response(1) == (0, {}, b"")
        client.post(3, ask("public.example"))
        assert (await client.response(3))[0] == 200


async def test_rapid_reset(tmp_path: Path) -> None:
    """Requests that are taken back at once are not worked on, and end the connection when they are many."""
    async with serving(tmp_path) as (place, up, _):
        async with http2(place, tmp_path) as client:
            for number in range(2 * MAX_NOISE):
                client.begin(2 * number + 1, "GET", get(ask(f"n{number % 100}.example")))
                client.h2.reset_stream(2 * number + 1)
            client.flush()
            assert await client.until_closed() == ErrorCodes.ENHANCE_YOUR_CALM
        assert len(up.queries) < MAX_NOISE
        await works(place, tmp_path)


PIECES = {"empty data": b"", "a body octet by octet": b"x"}


@pytest.mark.parametrize("kind", ["ping", "settings", *PIECES, "window updates", "priority"])
async def test_useless_frames_are_bounded(tmp_path: Path, kind: str) -> None:
    """Floods of frames that bring no query end the connection."""
    async with serving(tmp_path) as (place, _, _):
        async with http2(place, tmp_path) as client:
            if kind in PIECES:
                client.begin(1, "POST", end=False, content_type="application/dns-message")
            for _ in range(2 * MAX_NOISE):
                if kind == "ping":
                    client.h2.ping(b"12345678")
                elif kind == "settings":
                    client.h2.update_settings({SettingCodes.MAX_FRAME_SIZE: 16384})
                elif kind in PIECES:
                    client.h2.send_data(1, PIECES[kind])
                elif kind == "priority":
                    client.h2.prioritize(1, weight=7)
                else:
                    client.h2.increment_flow_control_window(1)
            client.flush()
            assert await client.until_closed() == ErrorCodes.ENHANCE_YOUR_CALM
        await works(place, tmp_path)


async def test_an_honest_client_is_never_called_noisy(tmp_path: Path) -> None:
    """A thousand queries on one connection, each with a window update and some with a ping, are all answered."""
    async with serving(tmp_path) as (place, _, _), http2(place, tmp_path) as client:
        for number in range(1000):
            ident = 2 * number + 1
            client.post(ident, ask("bad.example"))
            if not number % 3:
                client.h2.ping(b"12345678")
            assert (await client.response(ident))[0] == 200
            client.events.clear()


async def test_streams_are_bounded(tmp_path: Path) -> None:
    """More streams at once than allowed are a connection error, and no more work than allowed was begun."""

    async def handle(_query: Message, _: str) -> Reply:
        await asyncio.Event().wait()
        return None

    async with serving(tmp_path, handle) as (place, up, _):
        async with http2(place, tmp_path) as client:
            await client.turn()
            for number in range(MAX_STREAMS + 20):
                client.h2.remote_settings.acknowledge()
                client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
                client.h2.remote_settings.acknowledge()
                client.post(2 * number + 1, ask(f"n{number}.example"))
            assert await client.until_closed() is not None
        assert len(up.queries) <= 2 * MAX_STREAMS  # some are asked twice: 0.25 s without an answer


async def test_header_bombs(tmp_path: Path) -> None:
    """Header fields beyond the limit, large or small ones repeated by index, end the connection."""
    async with serving(tmp_path) as (place, _, _):
        bombs: list[dict[str, Any]] = [
            {"x_large": "x" * 15000, "x_larger": "y" * 15000},
            {f"x_{number}": "v" * 50 for number in range(400)},
        ]
        for more in bombs:
            async with http2(place, tmp_path) as client:
                client.begin(1, "GET", get(ask("public.example")), **more)
                assert await client.until_closed() is not None
                assert not client.done(1)
        async with http2(place, tmp_path) as client:
            fields = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/dns-query")]
            client.h2.send_headers(1, fields + [("x-again", "v" * 3000)] * 3000, end_stream=True)
            client.flush()
            assert await client.until_closed() is not None
        await works(place, tmp_path)


async def test_what_is_not_http2_ends_the_connection(tmp_path: Path) -> None:
    """After ALPN says h2, other octets are answered with GOAWAY and the end."""
    async with serving(tmp_path) as (place, _, _):
        async with http2(place, tmp_path) as client:
            client.writer.write(bytes([0, 0, 4, 6, 0, 0, 0, 0, 0]) + b"ping")
            assert await client.until_closed() == ErrorCodes.FRAME_SIZE_ERROR
        async with http2(place, tmp_path) as client:
            client.writer.write(bytes([0, 0, 0, 0, 0, 0, 0, 0, 0]))
            assert await client.until_closed() == ErrorCodes.PROTOCOL_ERROR
        await works(place, tmp_path)


async def test_an_overlong_frame_is_refused_by_its_header(tmp_path: Path) -> None:
    """A frame of 16 MB is refused when its length is seen, not when it has come."""
    async with serving(tmp_path) as (place, _, _):
        async with http2(place, tmp_path) as client:
            client.writer.write(b"\xff" * 100)
            assert await client.until_closed() == ErrorCodes.FRAME_SIZE_ERROR
        await works(place, tmp_path)


@given(st.lists(st.tuples(st.sampled_from([0, 1, 3, 4, 6, 9, 200]), st.integers(0, 3000))), st.integers(1, 50))
def test_the_gate_follows_frames(frames: list[tuple[int, int]], step: int) -> None:
    """However octets are cut into pieces, the gate sees the same frames, and stops at the first that is too long."""
    data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    block, good = 0, True
    for kind, size in frames:
        data += size.to_bytes(3, "big") + bytes([kind, 4, 0, 0, 0, 1]) + bytes(size)
        block = size + block * (kind == 9) if kind in (1, 9) else block
        good = good and block <= 16384
    for pieces in ([data], [data[at : at + step] for at in range(0, len(data), step)]):
        heads = FrameHeads(PREFACE)
        assert all(is_bearable(heads, piece) for piece in pieces) is good
    assert not is_bearable(FrameHeads(PREFACE), data[:24] + b"\0\x40\1" + bytes(6))


async def test_idle_and_unfinished_connections_end(tmp_path: Path) -> None:
    """A connection on which nothing gets finished is closed: silent, trickling, or with a body that never ends."""
    async with serving(tmp_path, idle=0.3) as (place, _, _):
        async with http2(place, tmp_path) as client:
            assert await client.until_closed() == ErrorCodes.NO_ERROR
        async with http2(place, tmp_path) as client:
            client.begin(1, "POST", end=False, content_type="application/dns-message")
            client.h2.send_data(1, b"x")
            client.flush()
            assert await client.until_closed() == ErrorCodes.NO_ERROR


async def test_a_stream_has_to_be_done_in_time(tmp_path: Path) -> None:
    """A request that is never finished ends the connection, though others on it are served all the time."""
    async with serving(tmp_path, idle=0.3) as (place, _, _), http2(place, tmp_path) as client:
        client.begin(1, "POST", end=False, content_type="application/dns-message")
        ident = 1
        while not client.closed:
            ident += 2
            try:
                client.post(ident, ask("bad.example"))
            except Exception:
                break
            await client.response(ident)
            await asyncio.sleep(0)
        terminated = [event for event in client.events if isinstance(event, ConnectionTerminated)]
        assert terminated
        assert terminated[0].error_code == ErrorCodes.NO_ERROR


async def test_a_slow_reader_costs_little(tmp_path: Path) -> None:
    """A client that gives no room for answers is refused more of them, and loses its connection in time."""
    async with serving(tmp_path, idle=0.5) as (place, _, _):
        async with http2(place, tmp_path) as client:
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
            client.flush()
            count = MAX_STREAMS - 1
            for number in range(count):
                client.post(2 * number + 1, ask("big.example"))
            assert count * 250 * 16 < MAX_WAITING + 64 * 468 * 10
            assert await client.until_closed() is not None
            assert not any(client.done(2 * number + 1) for number in range(count))
        await works(place, tmp_path)


async def test_an_answer_goes_out_as_there_is_room(tmp_path: Path) -> None:
    """A large answer is sent in pieces as the client gives room, whole and in order."""
    async with serving(tmp_path) as (place, _, _), http2(place, tmp_path) as client:
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        client.flush()
        client.post(1, ask("big.example"))
        status, _, body = await client.response(1)
        assert (status, len(addresses(body))) == (200, 250)


async def test_stopping_says_goodbye(tmp_path: Path) -> None:
    """On shutdown an idle client gets GOAWAY at once, and a waiting one its answer first."""
    go = asyncio.Event()

    async def handle(query: Message, _: str) -> Reply:
        await go.wait()
        return answer(query, ZONE)

    loop = asyncio.get_running_loop()
    async with upstream(handle) as up:
        certificate = a_certificate(tmp_path)

        async def wait_for_answer(client: Http2Client) -> bytes:
            # The client library would take no answer after a GOAWAY; so the octets are looked at.
            client.post(1, ask("public.example"))
            seen = b""
            while data := await asyncio.wait_for(client.reader.read(65536), 10):
                seen += data
            return seen

        async with asyncio.timeout(8):
            served = serving_all(Resolver(a_judge(up.endpoint)), certificate, LISTEN)
            (place,) = await served.__aenter__()
            async with http2(place, tmp_path) as idle, http2(place, tmp_path) as busy:
                waiting = loop.create_task(wait_for_answer(busy))
                await up.asked.wait()
                ending = loop.create_task(served.__aexit__(None, None, None))
                assert await idle.until_closed() == ErrorCodes.NO_ERROR
                assert not waiting.done()
                go.set()
                seen = await waiting
                assert bytes([0, 0, 8, 7]) in seen  # GOAWAY
                assert bytes([93, 184, 215, 14]) in seen
                await ending
