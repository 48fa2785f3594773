"""Tests of `gateway.proxy.inspect`: the life of inspected connections.

What is judged in them is in tests/addons/test_gate.py and tests/integration/test_proxy_inspect.py.
"""

import asyncio
from pathlib import Path

from gateway.decision import Reason
from tests.integration.proxy_rig import a_proxy, allow, until
from tests.peers.http_origin import Origin


def request_for(port: int) -> bytes:
    """Return a plain request to good.test."""
    return f"GET http://good.test:{port}/ HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n".encode()


async def test_a_kept_alive_connection_is_closed_when_the_proxy_stops(tmp_path: Path) -> None:
    """Nothing is under way on it, so there is nothing to wait for."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test"), grace=30) as rig:
        reader, writer = await rig.connect()
        writer.write(request_for(origin.port))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await reader.readuntil(origin.body)
        async with asyncio.timeout(10):
            await rig.proxy.stop()
            assert await reader.read() == b""
        writer.close()


async def test_two_requests_on_one_connection_share_one_to_the_origin(tmp_path: Path) -> None:
    """Keep-alive works on both sides, and each request has its own line at its end."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        reader, writer = await rig.connect()
        for _ in range(2):
            writer.write(request_for(origin.port))
            await reader.readuntil(origin.body)
        writer.close()
        await rig.settled()
        assert origin.connections == 1
        assert len(rig.ledger.ended) == 2


async def test_only_a_judged_address_is_connected_to(tmp_path: Path) -> None:
    """A name whose only address is denied: no connection, and one line that says why."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test"), names={"good.test": "10.9.9.9"}) as rig:
        answer = await rig.ask(request_for(origin.port))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert rig.ledger.denials == [Reason.DNS_REBINDING]
        assert origin.untouched


async def test_a_client_that_leaves_is_counted_out(tmp_path: Path) -> None:
    """Its connection to the origin goes with it, and the request is recorded as ended."""
    held = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.set()
        await reader.read()

    async with Origin(behave=hold) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        _, writer = await rig.connect()
        writer.write(request_for(origin.port))
        await held.wait()
        writer.close()
        await rig.settled()
        await until(lambda: rig.ledger.ended)
        assert [str(line.outcome.address) for line in rig.ledger.ended if line.outcome] == ["127.0.0.1"]
