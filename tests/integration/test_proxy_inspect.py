"""The proxy as clients see it: plain HTTP and inspected TLS, through mitmproxy's layers."""

import asyncio
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamEnded
from hyperframe.frame import DataFrame

from gateway.decision import Decision, Reason
from gateway.proxy import inspect as inspecting
from gateway.proxy.clienthello import Hello, HelloReader
from gateway.request import Dial, HttpRequest, Request
from gateway.selfcheck.client import start_tls
from tests.builders import an_address, networks
from tests.integration.proxy_rig import Bench, Rig, a_proxy, allow, client_context, inspect, run, until
from tests.peers.http_origin import Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test", "other.test")


async def inside(rig: Rig, target: str, *, alpn: tuple[str, ...] = ()) -> tuple[Any, asyncio.StreamWriter]:
    """Open an inspected tunnel and do the handshake with the gateway's certificate."""
    reader, writer = await rig.tunnel(target)
    host = target.partition(":")[0]
    await start_tls(writer, client_context(rig.proxy.certificate, alpn=alpn), host)
    return reader, writer


async def exchange(rig: Rig, target: str, sent: bytes) -> bytes:
    """Send octets inside an inspected tunnel and return what comes until the end."""
    reader, writer = await inside(rig, target)
    writer.write(sent)
    try:
        return bytes(await asyncio.wait_for(reader.read(), 20))
    finally:
        writer.close()


@dataclass(slots=True)
class Greeted(Origin):
    """Reads the ClientHello of each client, and says nothing to it."""

    hellos: list[Hello] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        hello = HelloReader()
        found = None
        while found is None:
            found = hello.feed(await reader.read(65536))
        assert isinstance(found, Hello)
        self.hellos.append(found)


OFFERS = {
    ("h2", "http/1.1"): (b"h2", b"http/1.1"),
    ("http/1.1", "x" * 200, "imap", "http/1.1", "h2"): (b"http/1.1", b"h2"),
    ("http/1.1",): (b"http/1.1",),
}


@pytest.mark.parametrize("offered", OFFERS)
async def test_what_an_origin_is_offered(tmp_path: Path, offered: tuple[str, ...]) -> None:
    """Of the protocols that a client offers, those of HTTP: the others could be its words to anybody."""
    async with Greeted() as origin, a_proxy(tmp_path, inspect("good.test")) as rig:
        target = f"good.test:{origin.port}"
        _, writer = await inside(rig, target, alpn=offered)
        if offered[0] == "h2":
            connection = H2Connection(H2Configuration(client_side=True))
            connection.initiate_connection()
            fields = ((":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", target))
            connection.send_headers(1, fields, end_stream=True)
            writer.write(connection.data_to_send())
        else:
            writer.write(f"GET / HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        await until(lambda: origin.hellos)
        writer.close()
        assert origin.hellos[0].alpn == OFFERS[offered]


@dataclass(slots=True)
class Chunks(TlsOrigin):
    """Reads requests as a server of HTTP/1.1 does: bodies have a length, or are in chunks, or there is none."""

    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client ends."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            body = b""
            while b"chunked" in head.lower():
                size = int(await reader.readuntil(b"\r\n"), 16)
                body += (await reader.readexactly(size + 2))[:-2]
                if not size:
                    break
            self.bodies.append(body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("empty", [False, True])
async def test_no_request_inside_a_body(tmp_path: Path, certificate: Path, empty: bool) -> None:
    """A body that comes over HTTP/2 without a length is a body to an origin of HTTP/1.1 too, and no request.

    Nor does a frame without octets end it: behind the end, a request would begin that nobody has judged.
    """
    rule = inspect("good.test", methods=frozenset({"POST"}), paths=("/ok",))
    async with Chunks(certificate=certificate) as origin, a_proxy(tmp_path, rule, trust=certificate) as rig:
        target = f"good.test:{origin.port}"
        reader, writer = await inside(rig, target, alpn=("h2",))
        connection = H2Connection(H2Configuration(client_side=True))
        connection.initiate_connection()
        fields = ((":method", "POST"), (":scheme", "https"), (":path", "/ok"), (":authority", target))
        connection.send_headers(1, fields)
        smuggled = f"DELETE /secret HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
        if empty:
            connection.send_data(1, b"")
        connection.send_data(1, smuggled, end_stream=True)
        writer.write(connection.data_to_send())
        answered = False
        async with asyncio.timeout(20):
            while not answered:
                found = connection.receive_data(await reader.read(65536))
                answered = any(isinstance(event, StreamEnded) for event in found)
        writer.close()
        await rig.settled()
        assert [head.split(b"\r\n")[0] for head in origin.requests] == [b"POST /ok HTTP/1.1"]
        assert origin.bodies == [smuggled]
        assert not rig.ledger.denials


INTERNATIONAL = ("xn--bcher-kva.test", "xn--ls8h.test")
"""A name, and one that IDNA does not allow (an emoji), and that is used all the same."""


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_international_names(tmp_path: Path, version: str) -> None:
    """Names are asked for, judged and recorded as they are in the DNS."""
    certificate = make_certificate(tmp_path / "origin.pem", *INTERNATIONAL)
    async with (
        TlsOrigin(certificate=certificate) as secure,
        Origin() as plain,
        a_proxy(tmp_path, inspect(*INTERNATIONAL), trust=certificate) as rig,
    ):
        urls = [f"https://{name}:{secure.port}/a" for name in INTERNATIONAL]
        urls += [f"http://{name}:{plain.port}/b" for name in INTERNATIONAL]
        ran = await rig.curl(version, "--cacert", str(rig.proxy.certificate), *urls)
        assert (ran.code, ran.out) == (0, "hello from the origin\n" * 4)
        assert not rig.ledger.denials


async def test_a_name_that_no_idna_can_write_out(tmp_path: Path) -> None:
    """mitmproxy reads no plain request for it: that is recorded, and said in our words, behind another one too."""
    async with Origin() as origin, a_proxy(tmp_path, inspect("good.test", "xn--zzzzzz.test")) as rig:
        heads = [
            f"GET http://{name}:{origin.port}/ HTTP/1.1\r\nHost: {name}:{origin.port}\r\n\r\n"
            for name in ("xn--zzzzzz.test", "good.test")
        ]
        alone, behind = await rig.ask(heads[0].encode()), await rig.ask((heads[1] + heads[0]).encode())
        assert b"X-Gateway-Reason: malformed" in alone
        assert behind.startswith(b"HTTP/1.1 200 ")
        assert b"X-Gateway-Reason: malformed" in behind
        await rig.settled()
        assert rig.ledger.denials == [Reason.MALFORMED] * 2
        assert len(rig.ledger.lines) == 3
        refused = heads[1].replace("HTTP/1.1", "HTTP/9.9")
        assert (await rig.ask((heads[1] + refused).encode())).count(b"X-Gateway-Reason") == 1
        await rig.settled()
        assert len(rig.ledger.lines) == 5


async def test_a_target_without_a_path(tmp_path: Path) -> None:
    """It may have a query all the same, and is asked for with a slash (RFC 9112 section 3.2.1)."""
    async with Origin() as origin, a_proxy(tmp_path, inspect("good.test", paths=("/",))) as rig:
        for target in (f"http://good.test:{origin.port}", f"http://good.test:{origin.port}?x=/y"):
            head = f"GET {target} HTTP/1.1\r\nHost: good.test:{origin.port}\r\nConnection: close\r\n\r\n"
            assert (await rig.ask(head.encode())).startswith(b"HTTP/1.1 200 ")
        assert [request.split(b" ")[1] for request in origin.requests] == [b"/", b"/?x=/y"]
        await rig.settled()
        assert not rig.ledger.denials
        assert len(rig.ledger.ended) == 2


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_curl(tmp_path: Path, certificate: Path, version: str) -> None:
    """A client that trusts the CA is served over HTTP/1.1 and HTTP/2, with every request judged and recorded."""
    rule = inspect("good.test", methods=frozenset({"GET"}))
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, rule, trust=certificate) as rig:
        url = f"https://good.test:{origin.port}"
        ran = await rig.curl(version, "--cacert", str(rig.proxy.certificate), f"{url}/a", f"{url}/b")
        assert (ran.code, ran.out) == (0, "hello from the origin\n" * 2)
        denied = await rig.curl(version, "--cacert", str(rig.proxy.certificate), "-d", "x", "-i", f"{url}/a")
        assert " 403" in denied.out
        assert "x-gateway-reason: " in denied.out.lower()
        assert "-d" not in "".join(str(request) for request in origin.requests)
        await rig.settled()
        assert len(rig.ledger.denials) == 1
        assert [line.request.path for line in rig.ledger.ended if isinstance(line.request, HttpRequest)] == [
            "/a",
            "/b",
        ]
        for line in rig.ledger.ended:
            assert isinstance(line.request, HttpRequest)
            assert line.request.hello is not None
            assert line.request.hello.ja4.startswith("t13d")
            assert line.decision.rule == "inspected"
            assert line.outcome is not None
            head = "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n"
            assert (line.outcome.octets_in, line.outcome.status) == (len(head) + 22, 200)


async def status_of(reader: asyncio.StreamReader, connection: H2Connection, stream: int) -> str:
    """Return the status of a whole answer over HTTP/2."""
    status = ""
    while True:
        octets = await asyncio.wait_for(reader.read(65536), 20)
        assert octets, "the connection ended"
        for event in connection.receive_data(octets):
            if isinstance(event, ResponseReceived) and event.stream_id == stream:
                status = dict(event.headers)[b":status"].decode()
            elif isinstance(event, StreamEnded) and event.stream_id == stream:
                return status


async def test_a_refused_client_stops_sending(tmp_path: Path, certificate: Path) -> None:
    """Over HTTP/2 a client may end its body early once it was refused, as curl does: that is one denial, and its
    other requests go on.
    """
    rule = inspect("good.test", methods=frozenset({"GET"}))
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, rule, trust=certificate) as rig:
        reader, writer = await inside(rig, f"good.test:{origin.port}", alpn=("h2",))
        connection = H2Connection(H2Configuration(client_side=True))
        connection.initiate_connection()
        head = [(":scheme", "https"), (":authority", f"good.test:{origin.port}"), (":path", "/a")]
        connection.send_headers(1, [(":method", "POST"), *head, ("content-length", "1")])
        writer.write(connection.data_to_send())
        assert await status_of(reader, connection, 1) == "403"
        writer.write(DataFrame(1, flags=("END_STREAM",)).serialize())
        connection.send_headers(3, [(":method", "GET"), *head], end_stream=True)
        writer.write(connection.data_to_send())
        assert await status_of(reader, connection, 3) == "200"
        writer.close()
        await rig.settled()
        assert len(rig.ledger.denials) == 1


async def test_plain(tmp_path: Path) -> None:
    """Plain requests are judged one by one on a connection that is kept."""
    rule = allow("good.test")
    async with Origin() as origin, Origin() as forbidden, a_proxy(tmp_path, rule) as rig:
        ran = await rig.curl(
            f"http://good.test:{origin.port}/a",
            f"http://good.test:{origin.port}/b",
            f"http://evil.test:{forbidden.port}/",
        )
        assert ran.out.startswith("hello from the origin\n" * 2 + "The egress gateway denied evil.test")
        assert origin.connections == 1
        assert b"Proxy-Connection" not in origin.requests[0]
        assert forbidden.untouched
        await rig.settled()
        assert rig.ledger.denials == [Reason.PORT]
        assert len(rig.ledger.lines) == 3
        assert rig.names.asked == ["good.test"]


async def test_posted_body(tmp_path: Path) -> None:
    """Bodies stream through and are counted."""
    body = b"x" * 300_000
    async with Origin(body=b"y" * 200_000) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        path = tmp_path / "body"
        path.write_bytes(body)
        ran = await rig.curl("--data-binary", f"@{path}", "-H", "Expect:", f"http://good.test:{origin.port}/")
        assert len(ran.out) == 200_000
        assert origin.requests[0].endswith(body)
        await rig.settled()
        (line,) = rig.ledger.lines
        assert line.outcome is not None
        assert line.outcome.octets_out == len(origin.requests[0] + b"Proxy-Connection: Keep-Alive\r\n")
        assert line.outcome.octets_in == len(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n") + 200_000


async def test_denied_before_the_body(tmp_path: Path, certificate: Path) -> None:
    """A denial is answered while the body is still to come, and nothing of the body goes on."""
    rule = inspect("good.test", methods=frozenset({"GET"}))
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, rule, trust=certificate) as rig:
        reader, writer = await inside(rig, f"good.test:{origin.port}")
        writer.write(f"POST / HTTP/1.1\r\nHost: good.test:{origin.port}\r\nContent-Length: 1000000\r\n\r\nx".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 403 ")
        assert b"Connection: close" in head
        writer.close()
        assert origin.untouched


REFUSED: dict[str, tuple[bytes, Reason]] = {
    "other Host": (b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", Reason.HOST_MISMATCH),
    "other port": (b"GET / HTTP/1.1\r\nHost: good.test:1\r\n\r\n", Reason.HOST_MISMATCH),
    "userinfo": (b"GET / HTTP/1.1\r\nHost: x@good.test\r\n\r\n", Reason.HOST_MISMATCH),
    "two names": (b"GET / HTTP/1.1\r\nHost: good.test,evil.test\r\n\r\n", Reason.HOST_MISMATCH),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: good.test\r\nHost: evil.test\r\n\r\n", Reason.MALFORMED),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", Reason.MALFORMED),
    "absolute-form": (b"GET http://evil.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", Reason.MALFORMED),
    "CONNECT": (b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n", Reason.MALFORMED),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: good.test\r\nX: a\rb\r\n\r\n", Reason.MALFORMED),
    "fold": (b"GET / HTTP/1.1\r\nHost: good.test\r\nX: a\r\n b\r\n\r\n", Reason.MALFORMED),
    "CL and TE": (
        b"GET / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        Reason.MALFORMED,
    ),
    "h2c": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.MALFORMED),
    "too large": (b"GET / HTTP/1.1\r\nHost: good.test\r\nX: " + b"x" * 40_000, Reason.MALFORMED),
    "not HTTP": (b"\x00\x01\x02\x03", Reason.MALFORMED),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_refused_inside(tmp_path: Path, certificate: Path, name: str) -> None:
    """Inside an inspected tunnel, too, a request that names another place or is unclean gets nowhere."""
    sent, reason = REFUSED[name]
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, inspect("good.test")) as rig:
        answer = await exchange(rig, f"good.test:{origin.port}", sent)
        assert answer.startswith(b"HTTP/1.1 4") or answer.startswith(b"HTTP/1.1 505 ")
        assert f"X-Gateway-Reason: {reason}\r\n".encode() in answer
        assert rig.ledger.denials == [reason]
        assert len(rig.ledger.lines) == 1
        assert origin.untouched


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"absolute-form", "too large", "not HTTP"}))
async def test_refused_second(tmp_path: Path, name: str) -> None:
    """The second request on a kept plain connection is read as strictly as the first."""
    sent, reason = REFUSED[name]
    first = b"GET http://good.test:%d/ HTTP/1.1\r\nHost: good.test:%d\r\n\r\n"
    sent = sent.replace(b"GET / ", b"GET http://good.test/ ")
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        reader, writer = await rig.connect()
        writer.write(first % (origin.port, origin.port))
        await reader.readuntil(b"origin\n")
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        assert f"X-Gateway-Reason: {reason}\r\n".encode() in answer
        assert rig.ledger.denials == [reason]
        assert len(origin.requests) == 1


async def test_pipelined_after_denial(tmp_path: Path) -> None:
    """What a client sent behind a denied request is not looked at."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        good = b"GET http://good.test:%d/ HTTP/1.1\r\nHost: good.test:%d\r\n\r\n" % (origin.port, origin.port)
        answer = await rig.ask(b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n" + good)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert origin.untouched


async def test_h2_authority(tmp_path: Path, certificate: Path) -> None:
    """5: an `:authority` or Host that names another place is denied in HTTP/2 as well."""
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, inspect("good.test")) as rig:
        ran = await rig.curl(
            "--http2", "-i", "--cacert", str(rig.proxy.certificate), "-H", "Host: evil.test",
            f"https://good.test:{origin.port}/",
        )  # fmt: skip
        assert "HTTP/2 403" in ran.out
        assert "x-gateway-reason: host-mismatch" in ran.out
        assert rig.ledger.denials == [Reason.HOST_MISMATCH]
        assert origin.untouched


async def test_unverified_origin(tmp_path: Path, certificate: Path) -> None:
    """An origin whose certificate is not trusted gets no request, and the client learns why."""
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, inspect("good.test")) as rig:
        ran = await rig.curl("-i", "--cacert", str(rig.proxy.certificate), f"https://good.test:{origin.port}/")
        assert " 502" in ran.out
        assert "x-gateway-reason: upstream-failure" in ran.out.lower()
        assert "ertificate verify failed" in ran.out
        assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE]
        assert origin.requests == []


async def test_other_name_in_the_certificate(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An origin with a trusted certificate for another name gets no request."""
    wrong = make_certificate(tmp_path_factory.mktemp("tls") / "wrong.pem", "other.test")
    async with TlsOrigin(certificate=wrong) as origin, a_proxy(tmp_path, inspect("good.test"), trust=wrong) as rig:
        ran = await rig.curl("-i", "--cacert", str(rig.proxy.certificate), f"https://good.test:{origin.port}/")
        assert " 502" in ran.out
        assert origin.requests == []


@pytest.mark.parametrize(
    ("names", "reason", "status"),
    [
        ({"good.test": "10.0.0.1"}, Reason.DNS_REBINDING, b"403"),
        ({"good.test": "169.254.169.254"}, Reason.METADATA_ADDRESS, b"403"),
        ({"good.test": ()}, Reason.NAME_UNRESOLVABLE, b"502"),
    ],
)
async def test_denied_address(tmp_path: Path, names: dict[str, Any], reason: Reason, status: bytes) -> None:
    """A plain request to a name that leads nowhere good is told so."""
    async with a_proxy(tmp_path, allow("good.test"), names=names) as rig:
        answer = await rig.ask(b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert f"X-Gateway-Reason: {reason}\r\n".encode() in answer
        assert rig.ledger.denials == [reason]


async def test_address_settles_every_request(tmp_path: Path) -> None:
    """A kept connection to an address carries only requests that may be sent to that address."""
    narrow = inspect("good.test", paths=("/a",))
    # Without addresses of its own the rule for /b does not lift the protection of loopback addresses.
    wide = allow("good.test", name="elsewhere", addresses=networks("192.0.2.0/24"))
    async with Origin() as origin, a_proxy(tmp_path, narrow, wide) as rig:
        url = f"http://good.test:{origin.port}"
        ran = await rig.curl(f"{url}/a", f"{url}/b")
        assert ran.out.startswith("hello from the origin\nThe egress gateway denied")
        assert len(origin.requests) == 1
        assert rig.ledger.denials == [Reason.DNS_REBINDING]


async def test_rebinding(tmp_path: Path) -> None:
    """A name is resolved once for a decision and its connection: what was judged is what is dialled."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test")) as rig:

        def flip(_: str) -> None:
            if len(rig.names.asked) > 1:
                rig.names.table = {"good.test": (an_address("10.0.0.1"),)}

        rig.names.before = flip
        ran = await rig.curl(f"http://good.test:{origin.port}/")
        assert ran.code == 0
        assert rig.names.asked == ["good.test"]


async def test_unreachable(tmp_path: Path) -> None:
    """A server that refuses the connection is a 502 with its reason, and one line."""
    async with Origin() as origin:
        port = origin.port
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl("-i", f"http://good.test:{port}/")
        assert ran.out.startswith("HTTP/1.1 502 ")
        assert "X-Gateway-Reason: upstream-failure" in ran.out
        assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE]
        assert len(rig.ledger.lines) == 1


async def test_origin_hangs_up(tmp_path: Path) -> None:
    """A server that ends without an answer is a 502 with its reason, and one line."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with Origin(behave=hang_up) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl("-i", f"http://good.test:{origin.port}/")
        assert ran.out.startswith("HTTP/1.1 502 ")
        assert "X-Gateway-Reason: upstream-failure" in ran.out
        assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE]


async def test_upgrade_is_left_out(tmp_path: Path) -> None:
    """An offer to speak something else is not passed on, and the answer comes in HTTP/1.1."""
    async with Origin(fields=('Alt-Svc: h3=":443"',)) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl(
            "-i", "-H", "Connection: Upgrade, HTTP2-Settings", "-H", "Upgrade: h2c", "-H", "HTTP2-Settings: AAMAAABk",
            f"http://good.test:{origin.port}/",
        )  # fmt: skip
        assert ran.out.startswith("HTTP/1.1 200 ")
        assert b"h2c" not in origin.requests[0]
        assert "Alt-Svc" not in ran.out


async def test_unasked_switch(tmp_path: Path) -> None:
    """A server that switches protocols unasked gets no further octet."""
    got = bytearray()

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        got.extend(await reader.read())

    async with Origin(behave=switch) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        head = b"GET http://good.test:%d/ HTTP/1.1\r\nHost: good.test:%d\r\n\r\n" % (origin.port, origin.port)
        reader, writer = await rig.connect()
        writer.write(head)
        await asyncio.wait_for(reader.read(), 20)
        writer.write(b"secret")
        writer.close()
        await rig.settled()
        assert not got


async def test_old_tls(tmp_path: Path, certificate: Path) -> None:
    """Inspected tunnels need TLS 1.2."""
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, inspect("good.test")) as rig:
        ran = await run(
            "openssl", "s_client", "-proxy", f"127.0.0.1:{rig.port}", "-connect", f"good.test:{origin.port}",
            "-servername", "good.test", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0",
        )  # fmt: skip
        assert ran.code
        assert "no peer certificate available" in ran.out
        assert origin.untouched


@pytest.mark.parametrize(("version", "served"), [("-tls1_1", False), ("-tls1_2", True)])
async def test_old_tls_of_an_origin(tmp_path: Path, certificate: Path, version: str, served: bool) -> None:
    """Origins need TLS 1.2, too: with an older one there is no request, and the client is told."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_server", "-accept", "127.0.0.1:0", "-www", version, "-cipher", "ALL:@SECLEVEL=0",
        "-cert", str(certificate), "-key", str(certificate),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = 0
        async with asyncio.timeout(20):
            while not port:
                line = (await process.stdout.readline()).decode()
                assert line, "openssl ended"
                port = int(line.rpartition(":")[2]) if line.startswith("ACCEPT") else 0
        drain = asyncio.get_running_loop().create_task(process.stdout.read())
        async with a_proxy(tmp_path, inspect("good.test"), trust=certificate) as rig:
            ran = await rig.curl("-i", "--cacert", str(rig.proxy.certificate), f"https://good.test:{port}/")
            assert ("s_server" in ran.out) == served
            assert ("upstream-failure" in ran.out) != served
    finally:
        process.terminate()
        await process.wait()
        await drain


async def test_ca(tmp_path: Path) -> None:
    """The key of the CA is for the owner alone, is of an elliptic curve, and stays the same."""
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        folder = rig.proxy.certificate.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        key = folder / "mitmproxy-ca.pem"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        before = key.read_bytes()
        shown = await run("openssl", "x509", "-in", str(rig.proxy.certificate), "-noout", "-text")
        assert "id-ecPublicKey" in shown.out
    async with a_proxy(tmp_path, allow("good.test")):
        assert key.read_bytes() == before


async def test_lifetime(tmp_path: Path) -> None:
    """A kept connection has a lifetime, and what is under way is recorded."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await reader.read()

    section = {"timeouts": {"lifetime": "200ms"}}
    async with Origin(behave=wait) as origin, a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        await rig.ask(b"GET http://good.test:%d/ HTTP/1.1\r\nHost: good.test:%d\r\n\r\n" % (origin.port, origin.port))
        await rig.settled()
        assert len(rig.ledger.lines) == 1


class _Broken(Bench):
    """Raises at one kind of request."""

    breaks: type[object] = object
    armed = True

    def decide(self, request: Request) -> Decision:
        if self.armed and isinstance(request, self.breaks) and not getattr(request, "flaw", None):
            raise RuntimeError("injected")
        return super().decide(request)


@pytest.mark.parametrize("kind", [HttpRequest, Dial])
async def test_broken_policy(tmp_path: Path, kind: type[object]) -> None:
    """A decision that breaks is a denial, recorded as such, and nothing is sent."""
    from gateway.policy import Policy

    judge = _Broken(Policy(rules=[allow("good.test")]))
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test"), judge=judge) as rig:
        judge.breaks = kind
        answer = await rig.ask(
            b"GET http://good.test:%d/ HTTP/1.1\r\nHost: good.test:%d\r\n\r\n" % (origin.port, origin.port)
        )
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"X-Gateway-Reason: internal-error" in answer
        assert rig.ledger.denials == [Reason.INTERNAL_ERROR]
        assert origin.untouched


HOOKS = ["tls_start_client", "tls_start_server", "requestheaders", "request", "responseheaders"]


@pytest.mark.parametrize("hook", HOOKS)
async def test_broken_hook(tmp_path: Path, certificate: Path, hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """33: a hook that raises ends the connection: no request that it should have judged goes through."""
    real = inspecting._hooks

    def broken(*arguments: Any) -> dict[str, Any]:
        def fail(*_: object) -> None:
            raise RuntimeError("injected")

        return {**real(*arguments), hook: [fail]}

    monkeypatch.setattr(inspecting, "_hooks", broken)
    async with (
        TlsOrigin(certificate=certificate) as origin,
        a_proxy(tmp_path, inspect("good.test"), trust=certificate) as rig,
    ):
        request = f"GET / HTTP/1.1\r\nHost: good.test:{origin.port}\r\n\r\n".encode()
        try:
            answer = await exchange(rig, f"good.test:{origin.port}", request)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
            answer = b""
        assert b"hello from the origin" not in answer
        await until(lambda: not rig.proxy.open_connections)
        if hook not in ("responseheaders",):
            assert origin.requests == []


@pytest.mark.parametrize("octet", [b"\r", b"\0", b"\x0b"], ids=["CR", "NUL", "VT"])
async def test_strange_answer(tmp_path: Path, octet: bytes) -> None:
    """An answer whose fields hold control characters does not reach the client: some readers end a line at them."""

    async def smuggle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: a" + octet + b"Set-Cookie: b=c\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async with Origin(behave=smuggle) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl("-i", f"http://good.test:{origin.port}/")
        assert ran.out.startswith("HTTP/1.1 502 ")
        assert "X-Gateway-Reason: upstream-failure" in ran.out
        assert "Set-Cookie" not in ran.out
        await rig.settled()
        assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE]
        assert len(rig.ledger.lines) == 1


async def test_a_name_that_never_resolves(tmp_path: Path) -> None:
    """A look-up that never ends is a denial after the time to connect, told as such."""
    async with (
        Origin() as origin,
        a_proxy(tmp_path, allow("good.test"), section={"timeouts": {"connect": "200ms"}}) as rig,
    ):
        rig.names.before = lambda _: asyncio.Event().wait()
        target = f"good.test:{origin.port}"
        answer = await rig.ask(f"GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert rig.ledger.denials == [Reason.NAME_UNRESOLVABLE]
        assert origin.untouched


@pytest.mark.parametrize("hook", ["response", "error"])
async def test_broken_last_hook(tmp_path: Path, hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that breaks when all was sent ends the connection, and the next request on it with it."""
    real = inspecting._hooks

    def broken(*arguments: Any) -> dict[str, Any]:
        def fail(*_: object) -> None:
            raise RuntimeError("injected")

        return {**real(*arguments), hook: [fail]}

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if hook == "response":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    monkeypatch.setattr(inspecting, "_hooks", broken)
    async with Origin(behave=hang_up) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        one = b"GET http://good.test:%d/ HTTP/1.1\r\nHost: good.test:%d\r\n\r\n" % (origin.port, origin.port)
        answer = await rig.ask(one + one)
        assert answer.count(b"HTTP/1.1 200 ") <= 1
        await rig.settled()
        assert origin.connections == 1
