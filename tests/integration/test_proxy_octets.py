"""What the ledger says that a request moved: heads, bodies and trailers, the same over every version of HTTP."""

import asyncio
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded, StreamReset

from gateway.decision import Budget, Reason
from gateway.policy import Policy
from gateway.selfcheck.client import start_tls
from tests.integration.proxy_rig import Rig, a_proxy, allow, client_context, inspect, until
from tests.peers.h2_origin import BODY, H2Origin
from tests.peers.http_origin import Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate

FIELDS = "Host: {0}\r\nX-Mine: yes\r\nContent-Length: 10\r\n\r\n"
ANSWERED = b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\nX-Its: own\r\n\r\nhello from the origin\n"
OVER_H2 = b'HTTP/1.1 200 \r\ncontent-type: application/grpc\r\netag: "x"\r\n\r\n' + BODY
TRAILERS = b"grpc-status: 0\r\ngrpc-message: fine\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test")


async def moved(rig: Rig) -> tuple[int, int]:
    """Return what the only line of the ledger says: octets out and in."""
    await rig.settled()
    (line,) = rig.ledger.lines
    assert line.outcome is not None
    return line.outcome.octets_out, line.outcome.octets_in


@pytest.mark.parametrize("chunked", [False, True])
async def test_plain(tmp_path: Path, chunked: bool) -> None:
    """Head and body count as they were sent, but for the place in the target and what is around chunks."""
    async with Origin(fields=("X-Its: own",)) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        target = f"good.test:{origin.port}"
        fields, body = FIELDS.format(target), "x" * 10
        if chunked:
            fields = fields.replace("Content-Length: 10", "Transfer-Encoding: chunked")
        sent = f"5\r\n{body[:5]}\r\n5\r\n{body[5:]}\r\n0\r\n\r\n" if chunked else body
        reader, writer = await rig.connect()
        writer.write(f"POST http://{target}/a HTTP/1.1\r\n{fields}{sent}".encode())
        assert await asyncio.wait_for(reader.readexactly(len(ANSWERED)), 20) == ANSWERED
        writer.close()
        assert await moved(rig) == (len(f"POST /a HTTP/1.1\r\n{fields}{body}"), len(ANSWERED))


async def test_inside(tmp_path: Path, certificate: Path) -> None:
    """Inside TLS the same counts, and not what TLS makes of it."""
    origin = TlsOrigin(certificate=certificate, fields=("X-Its: own",))
    async with origin, a_proxy(tmp_path, inspect("good.test"), trust=certificate) as rig:
        target = f"good.test:{origin.port}"
        reader, writer = await rig.tunnel(target)
        await start_tls(writer, client_context(rig.proxy.certificate), "good.test")
        sent = f"POST /a HTTP/1.1\r\n{FIELDS.format(target)}{'x' * 10}".encode()
        writer.write(sent)
        assert await asyncio.wait_for(reader.readexactly(len(ANSWERED)), 20) == ANSWERED
        writer.close()
        assert await moved(rig) == (len(sent), len(ANSWERED))


@pytest.mark.parametrize(
    ("path", "most"),
    [("/a", None), ("/trailers", None), ("/trailers", len(OVER_H2 + TRAILERS)), ("/trailers", len(OVER_H2))],
)
async def test_over_http2(tmp_path: Path, certificate: Path, path: str, most: int | None) -> None:
    """Over HTTP/2 what HTTP/1.1 would have sent counts, trailers with it: for the largest answer, too."""
    rule = inspect("good.test", paths=("/**",), max_response=most)
    async with H2Origin(certificate=certificate) as origin, a_proxy(tmp_path, rule, trust=certificate) as rig:
        target = f"good.test:{origin.port}"
        reader, writer = await rig.tunnel(target)
        await start_tls(writer, client_context(rig.proxy.certificate, alpn=("h2",)), "good.test")
        connection = H2Connection(H2Configuration(client_side=True))
        connection.initiate_connection()
        head = [(":method", "POST"), (":scheme", "https"), (":authority", target), (":path", path), ("x-mine", "yes")]
        connection.send_headers(1, head)
        connection.send_data(1, b"x" * 10, end_stream=True)
        writer.write(connection.data_to_send())
        ended: list[StreamEnded | StreamReset] = []
        while not ended:
            octets = await asyncio.wait_for(reader.read(65536), 20)
            assert octets
            found = connection.receive_data(octets)
            ended = [event for event in found if isinstance(event, StreamEnded | StreamReset)]
        writer.close()
        sent = len(f"POST {path} HTTP/1.1\r\nHost: {target}\r\nx-mine: yes\r\n\r\n") + 10
        whole = OVER_H2 + TRAILERS if path == "/trailers" else OVER_H2
        if most is None or most == len(whole):
            assert isinstance(ended[0], StreamEnded)
            assert await moved(rig) == (sent, len(whole))
        else:
            assert isinstance(ended[0], StreamReset)
            assert ended[0].error_code is not ErrorCodes.NO_ERROR
            assert await moved(rig) == (sent, len(OVER_H2))
            assert rig.ledger.denials == [Reason.BODY_SIZE]


async def test_a_budget_comes_while_a_request_is_under_way(tmp_path: Path) -> None:
    """The budget of a new policy counts for what is still sent of a request that began before it."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        target = f"good.test:{origin.port}"
        reader, writer = await rig.connect()
        writer.write(f"POST http://{target}/ HTTP/1.1\r\nHost: {target}\r\nContent-Length: 9000\r\n\r\n".encode())
        await until(lambda: origin.connections)
        rig.judge.policy = Policy(rules=[allow("good.test", upload=Budget(1000, 3600))])
        rig.judge.generation += 1
        for alive in tuple(rig.proxy._sweeper.alive):  # now, and not at its next tick
            alive.check(asyncio.get_running_loop().time())
        writer.write(b"x" * 9000)
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        await rig.settled()
        assert rig.ledger.denials == [Reason.UPLOAD_BUDGET]
