"""Tests for gateway.dns.http1: octets over TLS."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint
from gateway.request import DnsQuery
from tests.gateway.dns.support import PolicyJudge, a_judge, addresses, ask, parse
from tests.peers.dns_tls import a_certificate, client_context, connected, serving_all
from tests.peers.dns_upstream import upstream, zone

LISTEN = ("https://127.0.0.1:0/dns-query",)
POST = b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Type: application/dns-message\r\n"


@asynccontextmanager
async def serving(
    folder: Path, *, idle: float = 10.0, **settings: Any
) -> AsyncIterator[tuple[Endpoint, PolicyJudge]]:
    """Run a resolver with DoH alone."""
    async with upstream(zone({"public.example": ["93.184.215.14"]})) as up:
        judge = a_judge(up.endpoint, **settings)
        async with serving_all(Resolver(judge), a_certificate(folder), LISTEN, idle=idle) as (place,):
            yield place, judge


@asynccontextmanager
async def http1(
    place: Endpoint, folder: Path, *protocols: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection."""
    async with connected(place, client_context(folder, *protocols)) as stream:
        yield stream


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Return status, fields and body of the next response; status 0 when there is none."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, {}, b""
    first, *lines = head.decode().strip().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), fields, await reader.readexactly(int(fields.get("content-length", "0")))


def get(data: bytes) -> bytes:
    """Return a GET."""
    text = base64.urlsafe_b64encode(data).rstrip(b"=")
    return b"GET /dns-query?dns=" + text + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def post(data: bytes) -> bytes:
    """Return a POST."""
    return POST + b"Content-Length: %d\r\n\r\n" % len(data) + data


def chunked(data: bytes) -> bytes:
    """Return a POST in chunks of one octet."""
    chunks = b"".join(b"1\r\n%c\r\n" % octet for octet in data)
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
async def test_one_connection_serves_many(tmp_path: Path, protocols: tuple[str, ...]) -> None:
    """GET, POST and chunked POST, pipelined on one connection, are answered in order, with or without ALPN."""
    async with serving(tmp_path) as (place, _), http1(place, tmp_path, *protocols) as (reader, writer):
        names = ["public.example", "bad.example", "public.example"]
        for make in (get, post, chunked):
            writer.write(b"".join(make(ask(name)) for name in names))
        for _ in range(3):
            for name in names:
                status, fields, body = await read_response(reader)
                assert status == 200
                assert fields["content-type"] == "application/dns-message"
                assert fields["cache-control"].startswith("private, max-age=")
                assert len(body) == 468
                assert (addresses(body) == ["93.184.215.14"]) is (name == "public.example")


REFUSED = [
    ("another path", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ("no query", b"GET /dns-query HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("no host", b"GET /dns-query?dns=AAAA HTTP/1.1\r\n\r\n", 400),
    ("HEAD", b"HEAD /dns-query?dns=AAAA HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ("CONNECT", b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ("another type", b"POST /dns-query HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\r\n", 415),
    ("no body", POST + b"\r\n", 400),
    ("a body too long", POST + b"Content-Length: 65536\r\n\r\n", 413),
    ("a chunk too long", POST + b"Transfer-Encoding: chunked\r\n\r\n10000\r\n" + bytes(65536) + b"\r\n", 413),
    ("two lengths", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx", 400),
    ("length and chunks", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("another coding", POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    ("an old version", b"GET /dns-query?dns=AAAA HTTP/1.0\r\nHost: x\r\n\r\n", 505),
    ("a new version", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("no HTTP", b"\0\1\2\3\r\n\r\n", 400),
    ("a space before the colon", b"GET /dns-query?dns=AAAA HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ("a head too long", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70000, 431),
    ("3,000 fields", b"GET /dns-query?dns=AAAA HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 3000 + b"\r\n", 431),
    ("a body in 300 pieces", chunked(ask("public.example").ljust(300)), 400),
    ("no DNS", post(b"12345"), 400),
]


async def test_one_client_does_not_keep_others_waiting(tmp_path: Path) -> None:
    """Of hundreds of requests that come at once, one is answered in a turn of the loop."""
    async with serving(tmp_path) as (place, judge), http1(place, tmp_path) as (reader, writer):
        writer.write(get(ask("bad.example")) * 200)
        most = before = 0
        while before < 200:
            await asyncio.sleep(0)
            count = len(judge.records)
            most, before = max(most, count - before), count
        assert most <= 2  # the loop of a test serves the test as well
        for _ in range(200):
            assert (await read_response(reader))[0] == 200


@pytest.mark.parametrize(("data", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_statuses(tmp_path: Path, data: bytes, status: int) -> None:
    """What is no request for an answer gets its status, and the policy is never asked about a name."""
    async with serving(tmp_path) as (place, judge), http1(place, tmp_path) as (reader, writer):
        writer.write(data)
        found, fields, _ = await read_response(reader)
        # Both fields for a length (RFC 9112 section 6.1): the chunks count, and there are none in it here.
        assert found == status
        assert fields["connection"] == "close"
        assert not [request for request in judge.asked if isinstance(request, DnsQuery) and request.name]
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_nothing_is_smuggled(tmp_path: Path) -> None:
    """After a refused request, what follows in the same octets is not read as another one."""
    async with serving(tmp_path) as (place, judge), http1(place, tmp_path) as (reader, writer):
        writer.write(POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + get(ask("public.example")))
        assert (await read_response(reader))[0] == 400
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert not judge.asked


async def test_a_client_that_waits_for_permission_gets_it(tmp_path: Path) -> None:
    """`Expect: 100-continue` is answered before the body comes, unless the request is refused already."""
    async with serving(tmp_path) as (place, _):
        async with http1(place, tmp_path) as (reader, writer):
            query = ask("public.example")
            writer.write(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(query))
            assert (await read_response(reader))[0] == 100
            writer.write(query)
            assert addresses((await read_response(reader))[2])
        async with http1(place, tmp_path) as (reader, writer):
            writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n")
            assert (await read_response(reader))[0] == 413


async def test_a_dropped_query_is_met_with_silence(tmp_path: Path) -> None:
    """With `block: drop` the connection ends without a response."""
    async with serving(tmp_path, block_answer="drop") as (place, _), http1(place, tmp_path) as (reader, writer):
        writer.write(post(ask("bad.example")))
        assert (await read_response(reader))[0] == 0


async def test_a_malformed_query_gets_its_dns_error(tmp_path: Path) -> None:
    """What is wrong with the DNS message is said in DNS."""
    async with serving(tmp_path) as (place, _), http1(place, tmp_path) as (reader, writer):
        writer.write(post(ask("public.example")[:-1]))
        status, _, body = await read_response(reader)
        assert (status, parse(body).header.rcode) == (200, 1)


@pytest.mark.parametrize("start", [b"", b"GET /dns-query", POST + b"Content-Length: 50\r\n\r\nxx"])
async def test_requests_have_to_come_in_time(tmp_path: Path, start: bytes) -> None:
    """A connection without a whole request in time is closed."""
    async with serving(tmp_path, idle=0.1) as (place, _), http1(place, tmp_path) as (reader, writer):
        writer.write(start)
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_stopping_does_not_wait_for_idle_clients(tmp_path: Path) -> None:
    """A kept connection does not hold up the end of the server."""
    async with asyncio.timeout(3):
        async with serving(tmp_path) as (place, _):
            stream = http1(place, tmp_path)
            reader, writer = await stream.__aenter__()
            writer.write(get(ask("bad.example")))
            assert (await read_response(reader))[0] == 200
        assert await reader.read() == b""
        await stream.__aexit__(None, None, None)
