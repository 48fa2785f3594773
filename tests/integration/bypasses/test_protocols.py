"""Bypasses 20 to 25: other ports, and other protocols than the port is for."""

import asyncio
from pathlib import Path

import pytest

from gateway.decision import Reason
from tests.gateway.proxy.samples import a_hello, a_message, in_records, server_name
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import a_proxy, allow
from tests.peers.http_origin import Origin


@pytest.mark.parametrize("port", [1, 22, 25, 53, 853, 3128, 6379, 8080, 65535])
async def test_port(tmp_path: Path, port: int) -> None:
    """20: an allowed name is allowed on the web's ports alone."""
    async with a_proxy(tmp_path, allow("good.test", ports=())) as rig:
        answer = await rig.ask(f"CONNECT good.test:{port} HTTP/1.1\r\n\r\n".encode())
        assert b"X-Gateway-Reason: port\r\n" in answer
        assert rig.ledger.denials == [Reason.PORT]
        assert rig.names.asked == []


_SPEECH: dict[str, tuple[bytes, Reason]] = {
    "21 ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", Reason.NOT_TLS),
    "21 http": (b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", Reason.NOT_TLS),
    "21 http without a line's end": (b"GET ", Reason.NOT_TLS),
    "21 socks 5": (b"\x05\x01\x00", Reason.NOT_TLS),
    "21 socks 4": (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", Reason.NOT_TLS),
    "21 dns": (b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", Reason.NOT_TLS),
    "21 connect": (b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n", Reason.NOT_TLS),
    "21 smtp": (b"EHLO x\r\n", Reason.NOT_TLS),
    "22 junk in front": (b"\0" + a_hello(), Reason.NOT_TLS),
    "22 sslv2": (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", Reason.NOT_TLS),
    "22 over 16 KB": (in_records(a_message(server_name(b"good.test"), (21, bytes(17000)))), Reason.MALFORMED),
    "22 application data first": (b"\x17\x03\x03\x00\x05hello", Reason.NOT_TLS),
    "22 server hello": (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", Reason.MALFORMED),
    "24 h2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.NOT_TLS),
}


@pytest.mark.parametrize("step", [1 << 20, 1], ids=["whole", "octet by octet"])
@pytest.mark.parametrize("name", sorted(_SPEECH))
async def test_not_tls(tmp_path: Path, name: str, step: int) -> None:
    """21 and 22: inside a tunnel nothing but TLS is spoken, and nothing else reaches the origin."""
    sent, reason = _SPEECH[name]
    async with a_world(tmp_path) as world:
        reader, writer = await world.rig.tunnel(world.target)
        for at in range(0, min(len(sent), 200 if step == 1 else len(sent)), step):
            writer.write(sent[at : at + step])
            if step == 1:
                await asyncio.sleep(0)
        writer.write(sent[200:] if step == 1 else b"")
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await world.held(answer, reason)


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


async def test_alt_svc(tmp_path: Path) -> None:
    """25: an offer of HTTP/3, which would go round the gateway, does not reach the client."""
    async with (
        Origin(fields=('Alt-Svc: h3=":443"; ma=86400', "X-Kept: yes")) as origin,
        a_proxy(tmp_path, allow("good.test")) as rig,
    ):
        ran = await rig.curl("-i", f"http://good.test:{origin.port}/")
        assert "X-Kept: yes" in ran.out
        assert "alt-svc" not in ran.out.lower()
