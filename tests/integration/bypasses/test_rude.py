"""Bypass 32: clients that are slow, endless or idle, one at a time: what is said to them, and what is recorded."""

import asyncio
from pathlib import Path

import pytest

from gateway.decision import Reason
from gateway.selfcheck.client import hear
from tests.gateway.proxy.samples import a_hello
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import a_proxy, allow, until
from tests.peers.http_origin import Origin

QUICK = {"timeouts": {"head": "200ms", "hello": "200ms"}}
ENDLESS: dict[str, bytes] = {
    "100,000 fields": b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "101 fields": b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    "one endless field": b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\nX: " + b"y" * 40_000,
    "an endless path": b"GET http://good.test/" + b"a" * 40_000,
    "an endless CONNECT": b"CONNECT " + b"a" * 40_000,
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_endless_heads(tmp_path: Path, name: str) -> None:
    """32: a head that is too long is refused when it is, and nobody waits for its end."""
    async with a_world(tmp_path) as world:
        answer = await world.rig.ask(ENDLESS[name])
        assert answer.startswith(b"HTTP/1.1 431 ")
        await world.held(answer, Reason.MALFORMED)


SLOW: dict[str, bytes] = {
    "half a line": b"GET http://good",
    "half a head": b"GET http://good.test/ HTTP/1.1\r\nHost: ",
    "half a CONNECT": b"CONNECT good.test:443 HTTP/1.1\r\n",
}


@pytest.mark.parametrize("dribbled", [False, True], ids=["silent", "octet by octet"])
@pytest.mark.parametrize("name", SLOW)
async def test_slow_heads(tmp_path: Path, name: str, dribbled: bool) -> None:
    """32: a head has so much time as a whole: octets that come one by one do not lengthen it."""
    async with a_world(tmp_path, section=QUICK) as world:
        reader, writer = await world.rig.connect()
        writer.write(SLOW[name])
        told = asyncio.get_running_loop().create_task(hear(reader, 5))
        while dribbled and not told.done():
            writer.write(b"a")
            await asyncio.sleep(0.02)
        answer = await told
        writer.transport.abort()
        assert b"HTTP/1.1 408 " in answer
        await world.held(answer, Reason.MALFORMED)


async def test_slow_hello(tmp_path: Path) -> None:
    """32: a ClientHello that dribbles has so much time as a whole."""
    async with a_world(tmp_path, section=QUICK) as world:
        reader, writer = await world.rig.tunnel(world.target)
        told = asyncio.get_running_loop().create_task(hear(reader, 5))
        for octet in a_hello()[:-1]:
            if told.done():
                break
            writer.write(bytes([octet]))
            await asyncio.sleep(0.01)
        answer = await told
        writer.transport.abort()
        await world.held(answer, Reason.NOT_TLS)


async def test_nothing_at_all(tmp_path: Path) -> None:
    """32: a connection on which nothing is said is closed, and nothing of it recorded: nobody asked for anything."""
    async with a_world(tmp_path, section=QUICK) as world:
        assert await world.rig.ask(b"") == b""
        await world.rig.settled()
        assert world.rig.ledger.lines == []
        assert world.good.untouched


@pytest.mark.parametrize("half", [False, True], ids=["idle", "half closed"])
async def test_idle_tunnels(tmp_path: Path, half: bool) -> None:
    """32: a tunnel on which nothing moves is closed on both sides, also when one side has ended already."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        await until(writer.is_closing)

    section = {"timeouts": {"idle": "200ms"}}
    async with Origin(behave=wait) as origin, a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        reader, writer = await rig.tunnel(f"good.test:{origin.port}")
        writer.write(a_hello())
        await until(lambda: origin.connections == 1)
        if half:
            writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await rig.settled()
        (line,) = rig.ledger.lines
        assert line.outcome is not None
        assert line.outcome.error == "idle for too long"
