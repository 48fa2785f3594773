"""Tests of `gateway.proxy.door`: bounds. What clients of it see is in tests/integration/test_proxy_identity.py."""

import asyncio
from pathlib import Path

from gateway.decision import Reason
from gateway.proxy.tls import TlsFiles
from tests.integration.proxy_rig import a_proxy, allow, until
from tests.peers.http_origin import Origin
from tests.peers.tls_origin import make_certificate

HEADER = b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 3128\r\n"


async def test_a_header_that_never_comes(tmp_path: Path) -> None:
    """A load balancer that says nothing, or half a header, is cut off after the time for a head."""
    section = {"proxy_protocol_from": ["127.0.0.0/8"], "timeouts": {"head": "1s"}}
    async with a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        assert set(await asyncio.gather(rig.ask(b""), rig.ask(HEADER[:-2]))) == {b""}
        assert rig.ledger.denials == [Reason.MALFORMED] * 2
        assert rig.ledger.lines[0].decision.detail == "no PROXY header within 1 s"


async def test_a_handshake_that_never_comes(tmp_path: Path) -> None:
    """A client that does not finish its handshake is cut off, and counted while it waits."""
    both = make_certificate(tmp_path / "both.pem", "127.0.0.1")
    section = {"listen": ["tls://127.0.0.1:0"], "timeouts": {"head": "1s"}, "limits": {"connections_per_client": 2}}
    async with a_proxy(tmp_path, allow("good.test"), section=section, tls=TlsFiles(both, both)) as rig:
        first, second = await rig.connect(), await rig.connect()
        await until(lambda: rig.proxy.open_connections == 2)
        assert await rig.ask(b"") == b""
        assert rig.ledger.denials == [Reason.RATE_LIMIT]
        assert set(await asyncio.gather(first[0].read(), second[0].read())) == {b""}
        await rig.settled()
        for _, writer in (first, second):
            writer.close()


async def test_clients_are_counted_by_their_own_address(tmp_path: Path) -> None:
    """Behind a load balancer, the limit is each client's, not the balancer's."""
    section = {"proxy_protocol_from": ["127.0.0.0/8"], "limits": {"connections_per_client": 1}}
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        get = f"GET http://good.test:{origin.port}/ HTTP/1.1\r\nHost: good.test:{origin.port}\r\n\r\n".encode()
        reader, writer = await rig.connect()
        writer.write(HEADER + get)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)).startswith(b"HTTP/1.1 200 ")
        assert await rig.ask(HEADER + get) == b""
        assert rig.ledger.denials == [Reason.RATE_LIMIT]
        other = HEADER.replace(b"192.0.2.7", b"192.0.2.8")
        closing = get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert (await rig.ask(other + closing)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await rig.settled()


async def test_stopping(tmp_path: Path) -> None:
    """Who is still at the door when the gateway stops is sent away."""
    section = {"proxy_protocol_from": ["127.0.0.0/8"]}
    async with a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        reader, writer = await rig.connect()
        writer.write(HEADER[:9])
        await writer.drain()
        await rig.proxy.stop()
        try:
            assert await asyncio.wait_for(reader.read(), 20) == b""
        except ConnectionResetError:
            pass
        writer.close()
