"""The proxy as clients see it: tunnels that are passed on as they are."""

import asyncio
import contextlib
import gc
import resource
import socket
import struct
from pathlib import Path

import pytest

from gateway.decision import Reason
from gateway.policy import Policy
from gateway.proxy.listener import ClientConnection
from gateway.proxy.live import LiveTunnel
from gateway.proxy.responses import ALERT_ACCESS_DENIED, ALERT_INTERNAL_ERROR, ALERT_UNRECOGNIZED_NAME
from gateway.proxy.splice import Half, Splice
from gateway.request import HttpRequest, TlsHello
from gateway.selfcheck.client import start_tls
from tests.gateway.proxy.samples import a_hello, a_message, in_records, server_name, versions
from tests.integration.proxy_rig import Names, Rig, a_proxy, allow, client_context, until
from tests.peers.http_origin import Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test", "evil.test")


@pytest.fixture(autouse=True, params=[False, True], ids=["asked", "at hand"])
def remembers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the resolver has to be asked, or has at hand what a name resolves to: these are two ways to dial."""
    monkeypatch.setattr(Names, "remembers", request.param)


async def test_curl(tmp_path: Path, certificate: Path) -> None:
    """A real client reaches an allowed server end to end, and the ledger has one line with what was moved."""
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl("--cacert", str(certificate), f"https://good.test:{origin.port}/x")
        assert (ran.code, ran.out) == (0, "hello from the origin\n")
        await rig.settled()
        (line,) = rig.ledger.lines
        assert isinstance(line.request, TlsHello)
        assert line.request.tool == "curl" or line.request.ja4
        assert line.request.alpn == ("h2", "http/1.1")
        assert line.decision.rule == "allowed"
        assert line.outcome is not None
        assert line.outcome.octets_out > 500
        assert line.outcome.octets_in > 500
        assert str(line.outcome.address) == "127.0.0.1"
        assert origin.server_names == ["good.test"]
        assert rig.names.asked == ["good.test"]


async def test_a_tunnel_is_gone_with_its_end(tmp_path: Path, certificate: Path) -> None:
    """Nothing of it is left to the garbage collector, which stops a busy proxy for the longer, the more there is."""

    def left() -> int:
        kinds = (ClientConnection, LiveTunnel, Splice, Half)
        return sum(type(each) in kinds for each in gc.get_objects())

    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        gc.collect()
        gc.disable()
        try:
            before = left()
            for _ in range(3):
                ran = await rig.curl("--cacert", str(certificate), f"https://good.test:{origin.port}/x")
                assert ran.code == 0
            await rig.settled()
            await until(lambda: left() == before)
        finally:
            gc.enable()


async def test_another_policy_while_connecting(tmp_path: Path, certificate: Path) -> None:
    """A tunnel that was decided before a new policy came, and begins after, is judged by the new one too."""
    async with TlsOrigin(certificate=certificate) as origin, a_proxy(tmp_path, allow("good.test")) as rig:

        def reload(_: str) -> None:
            rig.judge.policy = Policy(rules=[allow("good.test")], inspected=["good.test"])
            rig.judge.generation += 1

        rig.names.before = reload
        reader, writer = await rig.tunnel(f"good.test:{origin.port}")
        writer.write(a_hello())
        with contextlib.suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await rig.settled()
        assert rig.ledger.denials == [Reason.PROTOCOL]
        assert "wants to look inside" in rig.ledger.lines[0].decision.detail


async def test_denied_name(tmp_path: Path) -> None:
    """A denied name is told to curl with its reason, is not looked up, and leaves one line."""
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl("-v", "https://bad.test/")
        assert ran.code == 56
        assert "CONNECT tunnel failed, response 403" in ran.err
        assert "< X-Gateway-Reason: default-deny" in ran.err
        assert "< X-Gateway-Decision: id-1" in ran.err
        assert 'Proxy-Status: egress-gateway; error=http_request_denied; details="default-deny' in ran.err
        assert rig.ledger.denials == [Reason.DEFAULT_DENY]
        assert rig.names.asked == []


async def test_denied_plain_request(tmp_path: Path) -> None:
    """A denied plain request gets the sentence to read, in JSON where that is asked for."""
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        plain = await rig.curl("http://bad.test/")
        assert plain.out.startswith(
            "The egress gateway denied bad.test:80: no rule allows it (reason: default-deny)."
        )
        structured = await rig.curl("-H", "Accept: application/json", "http://bad.test/")
        assert '"reason": "default-deny"' in structured.out
        assert rig.ledger.denials == [Reason.DEFAULT_DENY] * 2
        assert all(isinstance(line.request, HttpRequest) for line in rig.ledger.lines)
        assert rig.names.asked == []


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (a_hello(b"evil.test"), Reason.SNI_MISMATCH),
        (in_records(a_message(versions(0x0304))), Reason.SNI_MISSING),
        (in_records(a_message(server_name(b"good.test", b"evil.test"))), Reason.SNI_MISMATCH),
        (in_records(a_message(server_name(b"good.test"), server_name(b"evil.test"))), Reason.SNI_MISMATCH),
        (in_records(a_message(server_name(b"127.0.0.1"))), Reason.SNI_MISMATCH),
        (a_hello(b"good.test", (0xFE0D, bytes(40))), Reason.ECH),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Reason.NOT_TLS),
        (b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", Reason.NOT_TLS),
        (b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n", Reason.NOT_TLS),
        (b"\x05\x01\x00", Reason.NOT_TLS),
        (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff", Reason.MALFORMED),
    ],
    ids=[
        "other name",
        "no name",
        "two names",
        "name twice",
        "address",
        "ech",
        "ssh",
        "http",
        "connect",
        "socks",
        "16 MB",
    ],
)
async def test_denied_hello(tmp_path: Path, hello: bytes, reason: Reason) -> None:
    """What does not prove to be TLS for the host of the tunnel ends in an alert, and never reaches an origin."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test"), names={"evil.test": "127.0.0.1"}) as rig:
        answer = await rig.in_tunnel(f"good.test:{origin.port}", hello)
        assert answer == ALERT_ACCESS_DENIED
        assert rig.ledger.denials == [reason]
        assert len(rig.ledger.lines) == 1
        assert rig.names.asked == []
        assert origin.untouched


async def test_hello_in_pieces(tmp_path: Path) -> None:
    """A hello in one-octet records and segments is read whole, judged, and passed on octet for octet."""
    sent = in_records(a_message(server_name(b"good.test"), versions(0x0304)), 1)
    got = bytearray()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(got) < len(sent):
            got.extend(await reader.read(4096))

    async with Origin(behave=keep) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        reader, writer = await rig.tunnel(f"good.test:{origin.port}")
        for octet in sent:
            writer.write(bytes([octet]))
            await writer.drain()
        assert await reader.read() == b""
        assert bytes(got) == sent
        writer.close()


async def test_hello_with_the_connect(tmp_path: Path) -> None:
    """Octets behind a CONNECT in the same segment belong to the tunnel."""
    sent = a_hello() + b"\x14\x03\x03\x00\x01\x01"
    got = bytearray()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(got) < len(sent):
            got.extend(await reader.read(4096))
        writer.write(b"answer")

    async with Origin(behave=keep) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        head = f"CONNECT good.test:{origin.port} HTTP/1.1\r\n\r\n".encode()
        answer = await rig.ask(head + sent)
        assert answer == b"HTTP/1.1 200 Connection established\r\n\r\nanswer"
        assert bytes(got) == sent


async def test_half_close(tmp_path: Path) -> None:
    """Each direction ends by itself: a client that has said everything still gets the answer."""

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read()
        writer.write(b"%d" % len(received))

    async with Origin(behave=count) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        reader, writer = await rig.tunnel(f"good.test:{origin.port}")
        writer.write(a_hello() + b"x" * 1000)
        writer.write_eof()
        assert await reader.read() == b"%d" % (len(a_hello()) + 1000)
        writer.close()
        await rig.settled()
        (line,) = rig.ledger.ended
        assert line.outcome is not None
        assert line.outcome.octets_out == len(a_hello()) + 1000


async def test_slow_reader(tmp_path: Path) -> None:
    """A client that does not read stops the origin from sending, and costs no memory."""
    size = 50 * 1024 * 1024
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(100)
        chunk = bytes(64 * 1024)
        while sent < size:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    async with Origin(behave=pour) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reader, writer = await rig.tunnel(f"good.test:{origin.port}")
        writer.write(a_hello())
        last = -1
        while last != sent:  # until nothing moves any more
            last = sent
            await asyncio.sleep(0.2)
        assert sent < size / 2
        received = 0
        while data := await reader.read(1 << 20):
            received += len(data)
        writer.close()
        assert received == size
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024  # KiB


@pytest.mark.parametrize(
    ("timeouts", "error"),
    [({"idle": "200ms"}, "idle for too long"), ({"lifetime": "200ms"}, "open for too long")],
)
async def test_limits(tmp_path: Path, timeouts: dict[str, str], error: str) -> None:
    """A tunnel that is idle, or old, is cut off, and the ledger says so."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        Origin(behave=wait) as origin,
        a_proxy(tmp_path, allow("good.test"), section={"timeouts": timeouts}) as rig,
    ):
        assert await rig.in_tunnel(f"good.test:{origin.port}", a_hello()) == b""
        await rig.settled()
        (line,) = rig.ledger.lines
        assert line.outcome is not None
        assert line.outcome.error == error


@pytest.mark.parametrize(
    ("sent", "answer", "denials"),
    [
        (b"", b"", []),
        (b"CONNECT good.test", b"HTTP/1.1 408 ", [Reason.MALFORMED]),
        (b"CONNECT good.test:443 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 ", [Reason.NOT_TLS]),
        (b"CONNECT good.test:443 HTTP/1.1\r\n\r\n" + a_hello()[:9], b"HTTP/1.1 200 ", [Reason.NOT_TLS]),
    ],
    ids=["nothing", "half a head", "no hello", "half a hello"],
)
async def test_slow_clients(tmp_path: Path, sent: bytes, answer: bytes, denials: list[Reason]) -> None:
    """A client that does not finish what it began is let go, and denied if it had begun."""
    section = {"timeouts": {"head": "150ms", "hello": "150ms"}}
    async with a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        assert (await rig.ask(sent)).startswith(answer)
        assert rig.ledger.denials == denials
        assert rig.names.asked == []


async def test_unresolvable(tmp_path: Path) -> None:
    """A name that does not exist ends the tunnel with an alert that says so: it was no denial, and nothing broke."""
    async with a_proxy(tmp_path, allow("*.test")) as rig:
        answer = await rig.in_tunnel("gone.test:443", a_hello(b"gone.test"))
        assert answer == ALERT_UNRECOGNIZED_NAME
        assert rig.ledger.denials == [Reason.NAME_UNRESOLVABLE]


async def test_refused_connection(tmp_path: Path) -> None:
    """A server that does not answer is a failure, and recorded as one."""
    async with Origin() as origin:
        port = origin.port
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        assert await rig.in_tunnel(f"good.test:{port}", a_hello()) == ALERT_INTERNAL_ERROR
        assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE]


async def test_connect_timeout(tmp_path: Path) -> None:
    """A look-up or connection that takes too long is given up."""
    async with a_proxy(tmp_path, allow("good.test"), section={"timeouts": {"connect": "200ms"}}) as rig:
        rig.names.before = lambda _: asyncio.Event().wait()
        assert await rig.in_tunnel("good.test:443", a_hello()) == ALERT_INTERNAL_ERROR
        (line,) = rig.ledger.lines
        assert line.decision.reason is Reason.UPSTREAM_FAILURE
        assert "did not answer within 0.2 s" in line.decision.detail


async def test_client_leaves_while_dialling(tmp_path: Path) -> None:
    """A client that is gone before its server is found ends the tunnel."""
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        rig.names.before = lambda _: asyncio.Event().wait()
        _, writer = await rig.tunnel("good.test:443")
        writer.write(a_hello())
        await until(lambda: rig.names.asked)
        reset(writer)
        await rig.settled()
        (line,) = rig.ledger.lines
        assert line.outcome is not None
        assert line.outcome.error == "the client left"


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection the hard way: with RST, not FIN."""
    found = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_unused_tunnel(tmp_path: Path) -> None:
    """A tunnel that is opened and closed again leaves one line."""
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        assert await _close_at_once(rig) == b""
        await rig.settled()
        (line,) = rig.ledger.lines
        assert line.outcome is not None
        assert not line.decision.denied


async def _close_at_once(rig: Rig) -> bytes:
    reader, writer = await rig.tunnel("good.test:443")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_private_answer(tmp_path: Path) -> None:
    """A public name that leads to a private address is denied, with nothing sent there."""
    rule = allow("good.test", addresses=())
    async with Origin() as origin, a_proxy(tmp_path, rule) as rig:
        assert await rig.in_tunnel(f"good.test:{origin.port}", a_hello()) == ALERT_ACCESS_DENIED
        assert rig.ledger.denials == [Reason.DNS_REBINDING]
        assert origin.untouched


async def test_mixed_answers(tmp_path: Path, certificate: Path) -> None:
    """Of several addresses only the allowed ones are dialled, and the denied ones leave one line."""
    names = {"good.test": ("169.254.169.254", "10.0.0.1", "127.0.0.1")}
    async with (
        TlsOrigin(certificate=certificate) as origin,
        a_proxy(tmp_path, allow("good.test"), names=names) as rig,
    ):
        ran = await rig.curl("--cacert", str(certificate), f"https://good.test:{origin.port}/")
        assert ran.code == 0
        await rig.settled()
        assert rig.ledger.denials == [Reason.METADATA_ADDRESS]
        assert len(rig.ledger.ended) == 1


async def test_black_hole_first(tmp_path: Path, certificate: Path) -> None:
    """An address that does not answer does not keep the next one waiting for long."""
    names = {"good.test": ("127.1.2.3", "127.0.0.1")}
    async with (
        TlsOrigin(certificate=certificate) as origin,
        a_proxy(tmp_path, allow("good.test"), names=names) as rig,
    ):
        ran = await rig.curl("--cacert", str(certificate), f"https://good.test:{origin.port}/")
        assert ran.code == 0


async def test_literal_address(tmp_path: Path) -> None:
    """An address that a rule names is dialled as it is, without SNI; one that none names is denied."""
    got = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        got.set()

    rule = allow(domains=(), addresses=allow().addresses)
    async with Origin(behave=note) as origin, a_proxy(tmp_path, rule) as rig:
        await rig.in_tunnel(f"127.0.0.1:{origin.port}", in_records(a_message(versions(0x0304))))
        assert got.is_set()
        assert rig.names.asked == []
        denied = await rig.ask(b"CONNECT 10.0.0.1:443 HTTP/1.1\r\n\r\n")
        assert b"X-Gateway-Reason: private-address" in denied


async def test_itself(tmp_path: Path) -> None:
    """The gateway does not connect to itself, whatever a rule allows."""
    async with a_proxy(tmp_path, allow("good.test")) as rig:
        assert await rig.in_tunnel(f"good.test:{rig.port}", a_hello()) == ALERT_ACCESS_DENIED
        assert rig.ledger.denials == [Reason.PRIVATE_ADDRESS]


async def test_too_many_connections(tmp_path: Path) -> None:
    """A client has a bounded number of connections, and gets them back."""
    section = {"limits": {"connections_per_client": 2}}
    async with a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        first, second = await rig.connect(), await rig.connect()
        await until(lambda: rig.proxy.open_connections == 2)
        answer = await rig.ask(b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert rig.ledger.denials == [Reason.RATE_LIMIT]
        for _, writer in (first, second):
            writer.close()
        await rig.settled()
        assert b" 200 " in await rig.ask(b"CONNECT good.test:443 HTTP/1.1\r\n\r\nx")


async def test_drain(tmp_path: Path, certificate: Path) -> None:
    """A tunnel that is open when the proxy stops may go on until it ends; new clients are not accepted."""
    async with TlsOrigin(certificate=certificate) as origin:
        async with a_proxy(tmp_path, allow("good.test"), grace=10) as rig:
            reader, writer = await rig.tunnel(f"good.test:{origin.port}")
            await start_tls(writer, client_context(certificate), "good.test")
            stopping = asyncio.get_running_loop().create_task(rig.proxy.stop())
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await rig.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n")
            assert await reader.readuntil(b"origin\n")
            assert not stopping.done()
            writer.close()
            await asyncio.wait_for(stopping, 5)
        assert len(rig.ledger.ended) == 1
