"""What HTTP can say besides a head and a body, through mitmproxy's layers: it arrives, or is left out cleanly."""

import asyncio
import gzip
import shutil
import ssl
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from addons.volume import FRAME
from gateway.decision import Budget, Reason
from gateway.policy import Policy
from gateway.proxy import http1
from gateway.proxy.websocket import MOST_MESSAGE
from gateway.selfcheck.client import start_tls
from tests.integration.proxy_rig import Ran, Rig, a_proxy, allow, client_context, inspect, run, until
from tests.peers.h2_origin import BODY, H2Origin
from tests.peers.http_origin import Behaviour, Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test")


def says(*answers: bytes, seen: list[bytes] | None = None) -> Behaviour:
    """Return an origin that gives one answer after the other, whatever it is asked, and keeps the connection."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            if seen is not None:
                seen.append(head)
            writer.write(answer)
        await reader.read()

    return behave


def request_to(origin: Origin, *fields: str, method: str = "GET", path: str = "/", version: str = "1.1") -> bytes:
    """Return the head of a plain request."""
    target = f"good.test:{origin.port}"
    lines = (f"{method} http://{target}{path} HTTP/{version}", f"Host: {target}", *fields, "", "")
    return "\r\n".join(lines).encode()


async def inspected(rig: Rig, *arguments: str) -> Ran:
    """Run curl through an inspected tunnel."""
    return await rig.curl("--cacert", str(rig.proxy.certificate), "--suppress-connect-headers", *arguments)


# -- HTTP/2 --------------------------------------------------------------------------------------------------------


async def test_trailers_of_http2(tmp_path: Path, certificate: Path) -> None:
    """The trailers of an HTTP/2 answer arrive, as gRPC needs them."""
    async with (
        H2Origin(certificate=certificate) as origin,
        a_proxy(tmp_path, inspect("good.test"), trust=certificate) as rig,
    ):
        url = f"https://good.test:{origin.port}"
        ran = await inspected(rig, "--http2", "-i", "-v", f"{url}/trailers", f"{url}/early")
        assert ran.out.count(BODY.decode()) == 2
        assert "grpc-status: 0" in ran.out + ran.err
        assert ran.out.count("HTTP/2 200") == 2
        assert rig.ledger.denials == []


NODE = """
const http2 = require("http2"), http = require("http"), tls = require("tls"), fs = require("fs");
const [proxy, target, ca, ...asked] = process.argv.slice(1);
http.request({host: "127.0.0.1", port: proxy, method: "CONNECT", path: target}).on("connect", (answer, socket) => {
  const servername = target.split(":")[0], trust = fs.readFileSync(ca);
  const secure = tls.connect({socket, servername, ALPNProtocols: ["h2"], ca: trust});
  const session = http2.connect("https://" + target, {createConnection: () => secure});
  Promise.all(asked.map((each) => new Promise((done) => {
    const [rest, begun] = each.split(">"), [spec, file] = rest.split("@"), [path, octets] = spec.split(":");
    const begin = () => {
    if (file && !fs.existsSync(file)) return setTimeout(begin, 20);
    const stream = session.request({":path": path, ":method": octets ? "POST" : "GET", te: "trailers"});
    let status = 0, trailer = "", length = 0, reset = "";
    stream.on("response", (head) => { status = head[":status"]; });
    stream.on("trailers", (found) => { trailer = found["grpc-status"]; });
    stream.on("data", (data) => { length += data.length; if (begun) fs.writeFileSync(begun, ""); });
    stream.on("error", () => { reset = "reset"; });
    stream.on("close", () => done([path, status, length > 0, trailer, reset].join(" ").trim()));
    if (octets) stream.end(Buffer.alloc(Number(octets))); else stream.end();
    };
    begin();
  }))).then((lines) => { console.log(lines.join("\\n")); session.close(); });
}).end();
"""


async def side_by_side(rig: Rig, origin: Origin, *paths: str) -> list[str]:
    """Ask for paths on one HTTP/2 connection at the same time; return status, whether a body came, and the end.

    Behind a path: `:` how many octets to send, `@` a file to wait for, `>` a file to make when its body begins.
    """
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    target = f"good.test:{origin.port}"
    ran = await run("node", "-e", NODE, str(rig.port), target, str(rig.proxy.certificate), *paths)
    assert ran.code == 0, ran.err
    return ran.out.splitlines()


async def test_streams_of_one_connection(tmp_path: Path, certificate: Path) -> None:
    """Requests side by side on one HTTP/2 connection are judged one by one: a denial ends its own stream alone."""
    async with (
        H2Origin(certificate=certificate) as origin,
        a_proxy(tmp_path, inspect("good.test", paths=("/a", "/b", "/c", "/trailers")), trust=certificate) as rig,
    ):
        assert await side_by_side(rig, origin, "/a", "/denied", "/b", "/trailers", "/denied", "/c") == [
            "/a 200 true",
            "/denied 403 true",
            "/b 200 true",
            "/trailers 200 true 0",
            "/denied 403 true",
            "/c 200 true",
        ]
        assert sorted(origin.paths) == ["/a", "/b", "/c", "/trailers"]
        assert rig.ledger.denials == [Reason.PORT] * 2


async def test_streams_that_are_cut_off(tmp_path: Path, certificate: Path) -> None:
    """A stream that is over its budget, or whose answer is too large, is reset; its neighbours end as they should."""
    rule = replace(inspect("good.test", paths=("/**",), max_response=1000), upload=Budget(2000, 3600))
    async with (
        H2Origin(certificate=certificate) as origin,
        a_proxy(tmp_path, rule, trust=certificate) as rig,
    ):
        ended = await side_by_side(rig, origin, "/a", "/large", "/b", "/c:90000", "/d")
        assert [line for line in ended if "reset" not in line] == ["/a 200 true", "/b 200 true", "/d 200 true"]
        await rig.settled()
        assert sorted(rig.ledger.denials) == [Reason.BODY_SIZE, Reason.UPLOAD_BUDGET]
        assert len(rig.ledger.lines) == 5


async def test_streams_and_a_stricter_policy(tmp_path: Path, certificate: Path) -> None:
    """At a reload, the streams of a connection that are now denied end, and its other streams go on."""
    rule = inspect("good.test", paths=("/wait/**", "/silence/**", "/go"))
    file, begun = tmp_path / "go", (tmp_path / "a", tmp_path / "b")
    async with (
        H2Origin(certificate=certificate) as origin,
        a_proxy(tmp_path, rule, trust=certificate) as rig,
        asyncio.TaskGroup() as group,
    ):
        paths = (f"/wait/a>{begun[0]}", f"/wait/b>{begun[1]}", "/silence/a", "/silence/b", f"/go@{file}")
        ended = group.create_task(side_by_side(rig, origin, *paths))
        await until(lambda: len(origin.paths) == 4 and all(each.exists() for each in begun))
        rig.judge.policy = Policy(rules=[inspect("good.test", paths=("/*/a", "/go"))])
        rig.judge.generation += 1
        await until(lambda: len(rig.ledger.denials) == 2)
        file.touch()
        assert await ended == [
            "/wait/a 200 true",
            "/wait/b 200 true  reset",
            "/silence/a 200 true",
            "/silence/b 403 true",
            "/go 200 true",
        ]
        await rig.settled()
        assert len(rig.ledger.denials) == 2
        assert len(rig.ledger.lines) == 5


async def test_a_stricter_policy_and_nobody_says_anything(tmp_path: Path, certificate: Path) -> None:
    """What is denied at a reload ends at once, and its origin is told, though neither side sends another octet."""
    async with (
        H2Origin(certificate=certificate) as origin,
        a_proxy(tmp_path, inspect("good.test", paths=("/wait/**", "/silence/**")), trust=certificate) as rig,
        asyncio.TaskGroup() as group,
    ):
        begun = tmp_path / "b", tmp_path / "c"
        paths = (f"/wait/b>{begun[0]}", "/silence/b", f"/wait/c>{begun[1]}")
        ended = group.create_task(side_by_side(rig, origin, *paths))
        await until(lambda: len(origin.paths) == 3 and all(each.exists() for each in begun))
        rig.judge.policy = Policy(rules=[inspect("good.test", paths=("/a",))])
        rig.judge.generation += 1
        async with asyncio.timeout(20):
            assert await ended == ["/wait/b 200 true  reset", "/silence/b 403 true", "/wait/c 200 true  reset"]
        await until(lambda: origin.resets == 3)
        await rig.settled()
        assert len(rig.ledger.denials) == 3
        assert len(rig.ledger.lines) == 3


# -- trailers, interim answers, heads ------------------------------------------------------------------------------


async def test_trailers_of_an_answer(tmp_path: Path) -> None:
    """Behind a chunked body, trailers are left out, and the connection is good for the next request."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    answer = chunked + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    async with Origin(behave=says(answer, answer)) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        url = f"http://good.test:{origin.port}/"
        ran = await rig.curl("-v", url, url)
        assert (ran.code, ran.out) == (0, "hellohello")
        assert "X-Sum: 1" not in ran.err
        assert origin.connections == 1
        assert rig.ledger.denials == []


async def test_trailers_of_a_request(tmp_path: Path) -> None:
    """Trailers of a request, which nobody has judged, end it: none reaches the origin, and one line tells of it."""
    got = bytearray()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            got.extend(data)

    async with Origin(behave=behave) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        head = request_to(origin, "Transfer-Encoding: chunked", method="POST")
        await rig.ask(head + b"1\r\nx\r\n0\r\nHost: evil.test\r\n\r\n")
        await rig.settled()
        assert b"evil.test" not in got
        assert not got.endswith(b"0\r\n\r\n")
        assert rig.ledger.denials == [Reason.MALFORMED]
        assert len(rig.ledger.lines) == 1


async def test_interim_answers(tmp_path: Path) -> None:
    """Interim answers are read over, however they arrive, and the answer behind them is the answer."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    whole = early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    seen: list[bytes] = []
    async with Origin(behave=says(whole, whole, seen=seen)) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        url = f"http://good.test:{origin.port}/"
        ran = await rig.curl("-i", url, url)
        assert ran.out.count("HTTP/1.1 200 OK") == 2
        assert ran.out.endswith("ok")
        assert origin.connections == 1


BAD_HEADS = {
    "a flood of interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * (http1.MOST_INTERIM + 1),
    "a head without an end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * (http1.MOST_HEAD + 65536),
    "a chunk's size without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000,
    "trailers without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX:" + b"x" * 100_000,
}


@pytest.mark.parametrize("name", BAD_HEADS)
async def test_answers_without_an_end(tmp_path: Path, name: str) -> None:
    """What an origin says around a body is bounded: beyond that, it is a failure of the origin, and one line."""
    async with Origin(behave=says(BAD_HEADS[name])) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        answer = await rig.ask(request_to(origin))
        assert not answer.endswith(b"0\r\n\r\n")
        if "head" in name or "interim" in name:
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert b"X-Gateway-Reason: upstream-failure" in answer
        await rig.settled()
        assert len(rig.ledger.lines) == 1


async def test_expect(tmp_path: Path) -> None:
    """Who asks before sending a body is told to send it, or denied at once; the origin is not asked that."""
    async with Origin() as origin, a_proxy(tmp_path, inspect("good.test", methods=frozenset({"PUT"}))) as rig:
        reader, writer = await rig.connect()
        writer.write(request_to(origin, "Content-Length: 5", "Expect: 100-continue", method="PUT"))
        interim = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert interim.startswith(b"HTTP/1.1 100 ")
        writer.write(b"hello")
        assert (await asyncio.wait_for(reader.readuntil(b"origin\n"), 20)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert origin.requests[0].endswith(b"\r\n\r\nhello")
        assert b"Expect" not in origin.requests[0]
        denied = await rig.ask(request_to(origin, "Content-Length: 5", "Expect: 100-continue", method="POST"))
        assert denied.startswith(b"HTTP/1.1 403 ")
        assert len(origin.requests) == 1


# -- answers of every kind -----------------------------------------------------------------------------------------


async def test_answers_without_a_body(tmp_path: Path) -> None:
    """HEAD, 204 and 304 say how long a body would be and have none; the connection goes on after each."""
    length = b"Content-Length: 5000\r\n"
    answers = (
        b"HTTP/1.1 200 OK\r\n" + length + b"\r\n",
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n' + length + b"\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    async with Origin(behave=says(*answers)) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        reader, writer = await rig.connect()
        for method, status in (("HEAD", b"200"), ("GET", b"304"), ("GET", b"204"), ("GET", b"200")):
            writer.write(request_to(origin, method=method))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert head.startswith(b"HTTP/1.1 " + status)
            assert (length in head) == (status == b"304" or method == "HEAD")
        assert await reader.readexactly(2) == b"ok"
        writer.close()
        assert origin.connections == 1


async def test_what_is_not_touched(tmp_path: Path) -> None:
    """Ranges, validators and content codings pass in both directions as they are."""
    body = gzip.compress(b"hello", mtime=0)
    kept = (
        b'ETag: W/"a,b"',
        b"Content-Range: bytes 1-25/99",
        b"Content-Encoding: gzip",
        b"Set-Cookie: a=b",
    )
    answer = b"HTTP/1.1 206 Partial Content\r\n" + b"".join(each + b"\r\n" for each in kept)
    answer += b"Set-Cookie: c=d\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    seen: list[bytes] = []
    async with Origin(behave=says(answer, seen=seen)) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        asked = ("Range: bytes=1-25", 'If-None-Match: "x", W/"y"', "Accept-Encoding: br, zstd;q=0.5", "TE: trailers")
        got = await rig.ask(request_to(origin, *asked, "Connection: close"))
        assert got.endswith(body)
        assert all(field in got for field in (*kept, b"Set-Cookie: c=d"))
        assert all(field.encode() in seen[0] for field in asked[:3])


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_events_are_not_held_back(tmp_path: Path, certificate: Path, version: str) -> None:
    """Server-sent events reach the client one by one: the next is sent when the client has seen the one before."""
    next_one = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            writer.write(b"9\r\ndata: x\n\n\r\n")
            await next_one.wait()
            next_one.clear()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with (
        TlsOrigin(certificate=certificate, behave=behave) as origin,
        a_proxy(tmp_path, inspect("good.test"), trust=certificate) as rig,
    ):
        process = await asyncio.create_subprocess_exec(
            "curl", "-sSN", version, "--max-time", "20", "-x", f"http://127.0.0.1:{rig.port}", "--cacert",
            str(rig.proxy.certificate), f"https://good.test:{origin.port}/", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(3):
            assert await asyncio.wait_for(process.stdout.readexactly(9), 20) == b"data: x\n\n"
            next_one.set()
        assert await process.wait() == 0


async def test_http_1_0(tmp_path: Path) -> None:
    """A client of HTTP/1.0 gets its answer, and the end of the connection for the end of the body."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        answer = await rig.ask(request_to(origin, version="1.0"))
        assert answer.endswith(b"hello from the origin\n")
        ran = await rig.curl("--http1.0", f"http://good.test:{origin.port}/")
        assert ran.out == "hello from the origin\n"
        denied = await rig.ask(b"GET http://evil.test/ HTTP/1.0\r\n\r\n")
        assert denied.startswith(b"HTTP/1.1 403 ")


async def test_after_a_denial(tmp_path: Path, certificate: Path) -> None:
    """A client that was denied is served when it asks for something else, in a new connection or on this one."""
    rule = inspect("good.test", paths=("/good",))
    async with (
        TlsOrigin(certificate=certificate) as origin,
        a_proxy(tmp_path, rule, trust=certificate) as rig,
    ):
        url = f"https://good.test:{origin.port}"
        for version in ("--http1.1", "--http2"):
            ran = await inspected(rig, version, "-o", "/dev/null", f"{url}/bad", "-o", "/dev/stdout", f"{url}/good")
            assert ran.out == "hello from the origin\n", ran.err


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_head_is_denied_without_a_body(tmp_path: Path, certificate: Path, version: str) -> None:
    """The denial of a HEAD has no body, wherever it is said, and the next request is served."""
    rule = inspect("good.test", paths=("/good",))
    async with (
        TlsOrigin(certificate=certificate) as origin,
        a_proxy(tmp_path, rule, trust=certificate) as rig,
    ):
        url = f"https://good.test:{origin.port}"
        ran = await inspected(rig, version, "-I", f"{url}/bad", "--next", "-sS", "-x", f"http://127.0.0.1:{rig.port}",
                              "--cacert", str(rig.proxy.certificate), f"{url}/good")  # fmt: skip
        assert " 403" in ran.out.splitlines()[0]
        assert ran.out.endswith("hello from the origin\n"), ran.err
        denied = await rig.ask(b"HEAD http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        assert denied.startswith(b"HTTP/1.1 403 ")
        assert denied.endswith(b"\r\n\r\n")


async def test_what_clients_show(tmp_path: Path) -> None:
    """A denied tunnel tells curl users the status, and with -v the reason and the id; Python shows both."""
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl("https://evil.test/")
        assert ran.err.strip() == "curl: (56) CONNECT tunnel failed, response 403"
        ran = await rig.curl("-v", "https://evil.test/")
        assert "X-Gateway-Reason: default-deny" in ran.err
        assert 'details="default-deny: no rule allows it"' in ran.err
        assert "X-Gateway-Decision: id-2" in ran.err
        code = "import sys, urllib.request as u; u.urlopen(sys.argv[1])"
        environment = {"https_proxy": f"http://127.0.0.1:{rig.port}", "no_proxy": ""}
        ran = await run(sys.executable, "-c", code, "https://evil.test/", environment=environment)
        assert "Tunnel connection failed: 403 Forbidden (default-deny)" in ran.err


# -- much of it ----------------------------------------------------------------------------------------------------


def peak() -> int:
    """Return the most memory that this process has had since it was reset, in octets, and reset it."""
    status = Path("/proc/self/status").read_text()
    most = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return most * 1024


MANY = 48 * 1024 * 1024


async def test_large_bodies(tmp_path: Path) -> None:
    """Bodies of any size pass in both directions through memory that does not grow with them."""
    piece = bytes(65536)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        got = 0
        if b"chunked" in head:
            while len(data := await reader.read(65536)) and not data.endswith(b"0\r\n\r\n"):
                got += len(data)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MANY)
        for _ in range(MANY // len(piece)):
            writer.write(piece)
            await writer.drain()
        await reader.read()

    async with Origin(behave=behave) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        url = f"http://good.test:{origin.port}/"
        await rig.curl("-o", "/dev/null", "-r", "0-0", "--max-filesize", "1", url)  # what is loaded once, is
        await rig.settled()
        peak()
        before = peak()
        curl = f"curl -sS --max-time 60 -x http://127.0.0.1:{rig.port} -T - {url}"
        ran = await run("sh", "-c", f"head -c {MANY} /dev/zero | {curl} | wc -c", seconds=60)
        assert int(ran.out) == MANY
        await rig.settled()
        assert peak() - before < MANY // 3
        (line,) = [line for line in rig.ledger.ended if line.outcome and line.outcome.octets_in >= MANY]
        assert line.outcome is not None
        assert MANY < line.outcome.octets_out < MANY + 1000


async def test_a_slow_reader(tmp_path: Path, certificate: Path) -> None:
    """A client that does not read stops the origin from sending, and fills no memory."""
    sent = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async with (
        TlsOrigin(certificate=certificate, behave=behave) as origin,
        a_proxy(tmp_path, inspect("good.test"), trust=certificate) as rig,
    ):
        reader, writer = await rig.tunnel(f"good.test:{origin.port}")
        await start_tls(writer, client_context(rig.proxy.certificate), "good.test")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of the transport that reads
        writer.write(f"GET / HTTP/1.1\r\nHost: good.test:{origin.port}\r\n\r\n".encode())
        await until(lambda: sent)
        last = -1
        while last != sent:  # until it stands still
            last = sent
            await asyncio.sleep(0.3)
        assert sent < 20_000_000
        writer.close()
        assert reader is not None


# -- WebSockets ----------------------------------------------------------------------------------------------------


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every message back."""
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


class Echo:
    """A WebSocket server of aiohttp."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self.port = 0

    async def __aenter__(self) -> "Echo":
        app = web.Application()
        app.router.add_get("/", echo)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


PING = b"still there?"
CLOSE = b"\x03\xe8"
"""What is in the frame that ends a WebSocket: the code 1000 (RFC 6455 section 7.4.1)."""


async def converse(rig: Rig, port: int, messages: Sequence[str | bytes]) -> list[object]:
    """Send messages through an inspected tunnel, and return what comes back, the end included."""
    got: list[object] = []
    trust = client_context(rig.proxy.certificate)
    async with aiohttp.ClientSession() as session:
        proxy = f"http://127.0.0.1:{rig.port}"
        url = f"wss://good.test:{port}/"
        async with session.ws_connect(url, proxy=proxy, ssl=trust, compress=15, max_msg_size=0) as socket:
            got.append(socket.compress)
            for message in messages:
                if isinstance(message, str):
                    await socket.send_str(message)
                else:
                    await socket.send_bytes(message)
                got.append((await socket.receive(20)).data)
                await socket.ping(PING)
    return got


async def test_websocket(tmp_path: Path, certificate: Path) -> None:
    """A WebSocket carries text and octets of all sizes, uncompressed whatever was offered, and ends as one line."""
    messages = ("hello", b"", b"\x00\xff" * 300_000, "\N{SNOWMAN}" * 100_000)
    async with Echo(certificate) as origin, a_proxy(tmp_path, inspect("good.test"), trust=certificate) as rig:
        assert await converse(rig, origin.port, messages) == [0, *messages]
        await rig.settled()
        (line,) = rig.ledger.lines
        octets = sum(len(message.encode() if isinstance(message, str) else message) for message in messages)
        assert line.outcome is not None
        frames = 2 * len(messages)  # with those that ask whether somebody is there
        beside = frames * FRAME + len(messages) * len(PING)
        heads = [line.outcome.octets_out - octets - beside - FRAME - len(CLOSE), line.outcome.octets_in - octets]
        heads[1] -= beside
        assert 100 < heads[0] < 500
        assert 100 < heads[1] < 500, "and the last pong may come too late"
        assert line.outcome.status == 101


async def test_a_message_without_an_end(tmp_path: Path, certificate: Path) -> None:
    """A message that is too large to be held ends its WebSocket, and the line says so."""
    async with Echo(certificate) as origin, a_proxy(tmp_path, inspect("good.test"), trust=certificate) as rig:
        got = await converse(rig, origin.port, [b"x" * (MOST_MESSAGE // 2)])
        assert got[1] == b"x" * (MOST_MESSAGE // 2)
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await converse(rig, origin.port, [b"x" * (MOST_MESSAGE * 2), b"more"])
        await until(lambda: rig.ledger.denials == [Reason.MALFORMED])
