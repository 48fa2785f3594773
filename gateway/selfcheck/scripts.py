"""The battery's attempts that take more than one message: each a function that says what went wrong, or nothing."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.selfcheck.client import Target, hear
from gateway.selfcheck.hello import a_hello
from gateway.selfcheck.world import World

CAP = 100_000
"""Octets that a client may upload to `capped.test` in an hour."""
_GET = "GET http://{}/{} HTTP/1.1\r\nHost: {}\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a script acts."""

    target: Target
    world: World
    patience: float

    def get(self, host: str, path: str = "", port: int = 0) -> bytes:
        """Return a plain request."""
        place = f"{host}:{port or self.target.good}"
        return _GET.format(place, path, place).encode()

    async def ask(self, sent: bytes) -> bytes:
        """Send octets to the proxy, and return its answer."""
        return await self.target.ask(sent, self.patience)


type Script = Callable[[Stage], Awaitable[str]]


async def _plain(stage: Stage) -> str:
    answer = await stage.ask(stage.get("good.test"))
    return "" if answer.startswith(b"HTTP/1.1 200") else f"a plain request got {answer[:60]!r}"


async def _tunnel(stage: Stage) -> str:
    before = stage.world.good.octets
    async with stage.target.connect() as (reader, writer):
        writer.write(stage.target.fill(b"CONNECT {good} HTTP/1.1\r\nHost: {good}\r\n\r\n"))
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(a_hello())
        await hear(reader, stage.patience)
    return "" if stage.world.good.octets > before else f"a ClientHello did not arrive: {head[:60]!r}"


async def _second_request(stage: Stage) -> str:
    evil = stage.get("evil.test", port=stage.target.evil)
    await stage.ask(stage.get("good.test") + evil + stage.get("good.test", "after"))
    if stage.world.evil.octets:
        return "the forbidden origin got the second request"
    return "a request behind a denied one was served" if b"/after" in stage.world.good.received else ""


async def _rebinding(stage: Stage) -> str:
    stage.world.names.flips["flip.good.test"] = ("127.0.0.2",)
    for _ in range(3):
        await stage.ask(stage.get("flip.good.test", port=stage.target.evil))
        await stage.ask(stage.get("flip.good.test"))
    return "the forbidden origin was reached" if stage.world.evil.connections else ""


def _leads_to(name: str) -> Script:
    async def script(stage: Stage) -> str:
        for port in (stage.target.evil, stage.target.good):
            answer = await stage.ask(stage.get(name, port=port))
            if answer.startswith(b"HTTP/1.1 200"):
                return f"{name} was served"
        return "the forbidden origin was reached" if stage.world.evil.connections else ""

    return script


async def _slow_names(stage: Stage) -> str:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(200):
            _, writer = await stack.enter_async_context(stage.target.connect())
            writer.write(stage.get(f"n{number}.slow.good.test"))
        await asyncio.sleep(0.1)
        try:
            async with asyncio.timeout(3):
                async with stage.target.connect() as (reader, writer):
                    writer.write(stage.get("good.test"))
                    await reader.readuntil(b"ok")
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            return "another client had to wait more than 3 s"
    return ""


async def _denied_names(stage: Stage) -> str:
    await stage.ask(stage.get("secret.evil.test", port=80))
    await stage.ask(b"CONNECT secret.evil.test:443 HTTP/1.1\r\nHost: secret.evil.test:443\r\n\r\n")
    return "the name server was asked" if "secret.evil.test" in stage.world.names.asked else ""


async def _itself(stage: Stage) -> str:
    answer = await stage.ask(stage.get("self.good.test", port=stage.target.port))
    return "it served a request to itself" if answer.startswith(b"HTTP/1.1 200") else ""


async def _redirect(stage: Stage) -> str:
    answer = await stage.ask(stage.get("good.test", "redirect"))
    return "" if b" 302 " in answer else f"it did not pass the redirect on: {answer[:60]!r}"


async def _alt_svc(stage: Stage) -> str:
    answer = await stage.ask(stage.get("good.test", "alt-svc"))
    return "the offer of h3 reached the client" if b"h3=" in answer else ""


async def _upgrade(stage: Stage) -> str:
    fields = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    await stage.ask(stage.get("good.test", "upgrade")[:-2] + fields)
    return "the offer of h2c reached the origin" if b"h2c" in stage.world.good.received else ""


async def _switch(stage: Stage) -> str:
    async with stage.target.connect() as (reader, writer):
        writer.write(stage.get("good.test", "switch"))
        await hear(reader, stage.patience)
        with contextlib.suppress(OSError):
            writer.write(b"secret-after-101")
            await hear(reader, stage.patience)
    return "octets went through after an unasked 101" if b"secret-after-101" in stage.world.good.received else ""


async def _raw_in_websocket(stage: Stage) -> str:
    """Ask for a WebSocket, and send in it what is no WebSocket."""
    asked = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with stage.target.connect() as (reader, writer):
        writer.write(stage.get("good.test", "websocket")[:-2] + asked)
        await hear(reader, stage.patience)
        with contextlib.suppress(OSError):
            writer.write(b"SSH-2.0-raw-octets\r\n")
            await hear(reader, stage.patience)
    return "raw octets went through a WebSocket" if b"raw-octets" in stage.world.good.received else ""


def _poison(path: str) -> Script:
    async def script(stage: Stage) -> str:
        async with stage.target.connect() as (reader, writer):
            writer.write(stage.get("good.test", path))
            first = await hear(reader, stage.patience)
            with contextlib.suppress(OSError):
                writer.write(stage.get("good.test"))
                first += await hear(reader, stage.patience)
        return "the client got an answer that the origin smuggled in" if b"poison" in first else ""

    return script


async def _split(stage: Stage) -> str:
    answer = await stage.ask(stage.get("good.test", "split"))
    return "a bare CR in a field reached the client" if b"a\rSet-Cookie" in answer else ""


def _endless(path: str, most: int) -> Script:
    async def script(stage: Stage) -> str:
        answer = await stage.ask(stage.get("good.test", path))
        return f"{len(answer)} octets of it reached the client" if len(answer) > most else ""

    return script


async def _upload_plain(stage: Stage) -> str:
    head = stage.get("capped.test").replace(b"GET", b"POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    return await _flood(stage, head, b"1000\r\n" + b"x" * 4096 + b"\r\n")


async def _upload_tunnel(stage: Stage) -> str:
    place = b"capped.test:%d" % stage.target.good
    head = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (place, place)
    return await _flood(stage, head, b"x" * 4096, a_hello(b"capped.test"))


async def _upload_small(stage: Stage) -> str:
    before, one = stage.world.good.octets, stage.get("capped.test", "?" + "x" * 1000)
    for _ in range(20):
        await stage.ask(one * 20)
    return _more_than_capped(stage.world.good.octets - before)


async def _flood(stage: Stage, head: bytes, piece: bytes, hello: bytes = b"") -> str:
    before, sent = stage.world.good.octets, 0
    async with stage.target.connect() as (reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(head)
            if hello:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(hello)
            while sent < 20 * CAP and not reader.at_eof():
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)
            await hear(reader, stage.patience)
    return _more_than_capped(stage.world.good.octets - before)


def _more_than_capped(octets: int) -> str:
    return f"{octets} octets arrived, more than {CAP}" if octets > CAP + 1000 else ""


async def _many_fields(stage: Stage) -> str:
    head = stage.get("good.test", "many")[:-2]
    before = stage.world.good.octets
    answer = await stage.ask(head + b"X: y\r\n" * 100_000 + b"\r\n")
    if answer.startswith(b"HTTP/1.1 200"):
        return "100,000 header fields were accepted"
    return "a part of 100,000 header fields reached the origin" if stage.world.good.octets > before else ""


async def _idle(stage: Stage) -> str:
    """Hold 500 connections with half a head open, and see what another client has to wait."""
    loop, slowest = asyncio.get_running_loop(), 0.0
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(500):
            _, writer = await stack.enter_async_context(stage.target.connect())
            writer.write(b"GET http://good.test/ HTTP/1.1\r\nHost: ")
        for _ in range(20):
            began = loop.time()
            async with stage.target.connect() as (reader, writer):
                writer.write(stage.get("good.test"))
                try:
                    async with asyncio.timeout(5):
                        await reader.readuntil(b"ok")
                except (TimeoutError, asyncio.IncompleteReadError, OSError):
                    return "another client was not served"
            slowest = max(slowest, loop.time() - began)
    return f"another client waited {slowest:.1f} s" if slowest > 1 else ""


SCRIPTS: tuple[tuple[int, str, Script], ...] = (
    (0, "plain HTTP", _plain),
    (0, "tunnel", _tunnel),
    (8, "evil behind good", _second_request),
    (14, "the second answer leads elsewhere", _rebinding),
    (15, "loopback", _leads_to("loopback.good.test")),
    (15, "IPv4 in IPv6", _leads_to("mapped.good.test")),
    (15, "loopback, IPv6", _leads_to("local6.good.test")),
    (15, "private", _leads_to("private.good.test")),
    (15, "metadata", _leads_to("metadata.good.test")),
    (15, "unique local", _leads_to("unique.good.test")),
    (16, "200 of them", _slow_names),
    (17, "in requests", _denied_names),
    (18, "by name", _itself),
    (19, "passed on, not followed", _redirect),
    (24, "offer of h2c", _upgrade),
    (24, "raw octets in a WebSocket", _raw_in_websocket),
    (25, "Alt-Svc", _alt_svc),
    (28, "unasked 101", _switch),
    (28, "more than Content-Length says", _poison("longer")),
    (28, "Content-Length and Transfer-Encoding", _poison("both")),
    (28, "two lengths", _poison("lengths")),
    (28, "a signed length", _poison("signed")),
    (28, "an unknown coding", _poison("coding")),
    (28, "a space before the colon", _poison("spaced")),
    (28, "a chunk of negative size", _poison("chunk")),
    (28, "a body behind 204", _poison("empty")),
    (28, "a body behind 304", _poison("same")),
    (28, "bare CR in a field", _split),
    (28, "20,000 interim answers", _endless("flood", 200_000)),
    (28, "2 MB of header fields", _endless("head", 200_000)),
    (31, "chunked", _upload_plain),
    (31, "tunnel", _upload_tunnel),
    (31, "small requests", _upload_small),
    (32, "100,000 header fields", _many_fields),
    (32, "500 half requests", _idle),
)
"""Number, name and function of each."""
