"""The supervisor's HTTP: two paths, one request a connection, and bounds on all of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpx
import pytest

from gateway.control import endpoint
from gateway.control.endpoint import MAX_CONNECTIONS, MAX_HEAD, Answer, Endpoint, Fields


async def page(fields: Fields) -> Answer:
    """Answer with what is shown."""
    return Answer(200, b"".join(value for name, value in fields if name == b"authorization") or b"nothing\n")


async def broken(_: Fields) -> Answer:
    """Fail."""
    raise ValueError("on purpose")


async def slow(_: Fields) -> Answer:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


PAGES = {b"/page": page, b"/broken": broken, b"/slow": slow}


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Serve the pages; yields the port."""
    made = Endpoint(PAGES)
    ((_, port),) = await made.start([(ip_address("127.0.0.1"), 0)])
    try:
        yield port
    finally:
        await made.close()


async def exchange(port: int, data: bytes) -> bytes:
    """Send octets, and return all that comes back until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def test_a_page() -> None:
    """Header fields reach the page, and its answer is whole, not kept by anybody, and the last of its connection."""
    async with serving() as port, httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"http://127.0.0.1:{port}/page", headers={"Authorization": "Bearer x"})
        assert (response.status_code, response.text) == (200, "Bearer x")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["connection"] == "close"
        head = await client.head(f"http://127.0.0.1:{port}/page")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "8")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", 404),
        (b"GET /page/ HTTP/1.1", 404),
        (b"GET /page?x=1 HTTP/1.1", 404),
        (b"GET /PAGE HTTP/1.1", 404),
        (b"GET //page HTTP/1.1", 404),
        (b"GET http://127.0.0.1/page HTTP/1.1", 404),
        (b"POST /page HTTP/1.1", 405),
        (b"DELETE /page HTTP/1.1", 405),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"CONNECT 127.0.0.1:22 HTTP/1.1", 404),
        (b"GET /broken HTTP/1.1", 500),
        (b"GET /page HTTP/2.0", 505),
        (b"nonsense", 400),
        (b"GET /page HTTP/1.1\r\nHost: again", 400),
        (b"GET /page HTTP/1.1\r\nno colon", 400),
        (b"GET /page HTTP/1.1\r\nA: " + b"x" * MAX_HEAD, 431),
        (b"GET /" + b"x" * MAX_HEAD + b" HTTP/1.1", 431),
    ],
)
async def test_everything_else_is_refused(request_line: bytes, status: int) -> None:
    """Other paths, methods and what is not HTTP at all have an answer each, and the connection ends."""
    async with serving() as port:
        reply = await exchange(port, request_line + b"\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 %d " % status), reply
    if status == 405:
        assert b"allow: GET, HEAD\r\n" in reply


async def test_a_body_is_not_read() -> None:
    """Who sends one gets the answer all the same, and only so much of it is read that the answer gets through."""
    async with serving() as port:
        head = b"GET /page HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
        assert (await exchange(port, head + b"x" * 1000)).endswith(b"nothing\n")
        second = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n" * 2
        assert (await exchange(port, second)).count(b"HTTP/1.1") == 1


async def test_who_is_slow_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not come, or trickles in, and a page that takes too long: each ends after its time."""
    monkeypatch.setattr(endpoint, "PATIENCE", 0.2)
    monkeypatch.setattr(endpoint, "ANSWERING", 0.2)
    async with serving() as port:
        assert (await exchange(port, b"")).startswith(b"HTTP/1.1 408 ")
        assert (await exchange(port, b"GET /page HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408 ")
        assert (await exchange(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        trickle = asyncio.get_running_loop().create_task(_trickle(writer))
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 408 ")
        trickle.cancel()
        writer.close()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    for _ in range(1000):
        writer.write(b"A: b\r\n")
        await asyncio.sleep(0.01)


async def test_idle_connections_keep_nobody_out() -> None:
    """With all places taken, the one that has been there longest makes room."""
    async with serving() as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS + 20)]
        assert (await exchange(port, b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"nothing\n")
        cut_off = [await asyncio.wait_for(reader.read(), 5) for reader, _ in held[:20]]
        assert set(cut_off) == {b""}
        for _, writer in held:
            writer.close()


async def test_a_place_that_is_taken() -> None:
    """Nothing is listened on if one of the addresses cannot be had."""
    async with serving() as port:
        made = Endpoint(PAGES)
        with pytest.raises(OSError, match="in use"):
            await made.start([(ip_address("127.0.0.9"), port), (ip_address("127.0.0.1"), port)])
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection("127.0.0.9", port)


async def test_it_ends_with_whoever_is_there() -> None:
    """Closing does not wait for clients that say nothing."""
    made = Endpoint(PAGES)
    ((_, port),) = await made.start([(ip_address("127.0.0.1"), 0)])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await exchange(port, b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"nothing\n")
    await asyncio.wait_for(made.close(), 5)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
