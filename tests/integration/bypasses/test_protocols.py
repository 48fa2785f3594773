"""Bypasses 21, 22 and 25: who speaks first, who never ends, who offers a way round. The rest is in the battery."""

import asyncio
from pathlib import Path

import pytest

from gateway.decision import Reason
from gateway.selfcheck.world import ANSWERS
from tests.gateway.proxy.samples import a_hello
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import a_proxy, allow
from tests.peers.http_origin import Origin


async def test_server_first(tmp_path: Path) -> None:
    """21: a server that would speak first never gets the chance: the client has to."""
    section = {"timeouts": {"hello": "150ms"}}
    async with a_world(tmp_path, section=section) as world:
        reader, writer = await world.rig.tunnel(world.target)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await world.held(answer, Reason.NOT_TLS)


async def test_never_completed(tmp_path: Path) -> None:
    """22: a ClientHello that dribbles and never ends does not reach the origin."""
    section = {"timeouts": {"hello": "150ms"}}
    async with a_world(tmp_path, section=section) as world:
        await world.held(await world.rig.in_tunnel(world.target, a_hello()[:-1]), Reason.NOT_TLS)


_UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-x\r\n",
        b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        a_hello(b"evil.test"),
        b"\0" * 64,
    ],
    ids=["ssh", "a request", "a hello", "zeros"],
)
async def test_raw_octets_in_a_websocket(tmp_path: Path, sent: bytes) -> None:
    """24: behind an upgrade to WebSocket only frames of WebSocket go on; anything else ends both connections."""
    got = bytearray()

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWERS[b"/websocket"])
        while data := await reader.read(65536):
            got.extend(data)

    async with Origin(behave=switch) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        target = f"good.test:{origin.port}"
        reader, writer = await rig.connect()
        writer.write(f"GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n".encode() + _UPGRADE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(sent)
        await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await rig.settled()
        assert sent not in bytes(got)
        assert not got or got[0] == 0x88  # a close frame of the gateway's own
        assert len(got) < 64
        assert len(rig.ledger.lines) == 1


@pytest.mark.parametrize("upgrade", ["h2c", "websocket2", "TLS/1.2", "h2c, websocket", "connect-udp"])
async def test_other_upgrades(tmp_path: Path, upgrade: str) -> None:
    """24: an offer to switch to anything but WebSocket is left out, and the answer comes in HTTP/1.1."""
    async with Origin() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        target = f"good.test:{origin.port}"
        fields = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n"
        ran = await rig.curl("-i", *(x for f in fields.splitlines() for x in ("-H", f)), f"http://{target}/")
        assert ran.out.startswith("HTTP/1.1 200 ")
        assert b"upgrade:" not in origin.requests[0].lower()
        assert b"http2-settings:" not in origin.requests[0].lower()
        await rig.settled()
        assert rig.ledger.denials == []


async def test_alt_svc(tmp_path: Path) -> None:
    """25: an offer of HTTP/3, which would go round the gateway, does not reach the client."""
    async with (
        Origin(fields=('Alt-Svc: h3=":443"; ma=86400', "X-Kept: yes")) as origin,
        a_proxy(tmp_path, allow("good.test")) as rig,
    ):
        ran = await rig.curl("-i", f"http://good.test:{origin.port}/")
        assert "X-Kept: yes" in ran.out
        assert "alt-svc" not in ran.out.lower()
