"""Tests of `gateway.proxy.websocket`: messages pass, without compression, and none is endless."""

import asyncio
import contextlib
import struct
from pathlib import Path

import pytest

from addons.volume import FRAME
from gateway.decision import Budget, Reason
from gateway.proxy.websocket import MOST_FRAMES, MOST_MESSAGE
from tests.integration.proxy_rig import Rig, a_proxy, allow
from tests.peers.http_origin import Origin

UPGRADE = "\r\n".join(
    (
        "GET http://{0}/ HTTP/1.1",
        "Host: {0}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "",
        "",
    )
)
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + OFFER + b"\r\n"
)
TEXT, MORE, LAST = 0x01, 0x00, 0x80
CLOSE, PING, PONG = 0x88, 0x89, 0x8A


def frame(first: int, payload: bytes, *, masked: bool = False) -> bytes:
    """Return a frame (RFC 6455 section 5.2), masked with zeros where it is a client's."""
    mask, size = 0x80 if masked else 0, len(payload)
    head = bytes((first, mask | size)) if size < 126 else struct.pack(">BBH", first, mask | 126, size)
    return head + (bytes(4) if masked else b"") + payload


class Sockets(Origin):
    """Switches protocols; answers each octet string with `said`, again and again if it is to be endless."""

    said = frame(TEXT | LAST, b"hello")
    endless = b""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(SWITCHED)
        while data := await reader.read(65536):
            self.octets += len(data)
            writer.write(self.said)
            while self.endless:
                writer.write(self.endless)
                await writer.drain()


async def _switched(rig: Rig, origin: Origin) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await rig.connect()
    writer.write(UPGRADE.format(f"good.test:{origin.port}").encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"xtensions" not in head
    return reader, writer


async def test_messages_pass_uncompressed(tmp_path: Path) -> None:
    """Both ways; neither side is offered compression; one line tells of it at its end."""
    async with Sockets() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        reader, writer = await _switched(rig, origin)
        for message in (frame(TEXT | LAST, b"x" * 300, masked=True), frame(TEXT, b"a", masked=True)):
            writer.write(message)
            if message[0] & LAST:
                assert await reader.readexactly(7) == frame(TEXT | LAST, b"hello")
        writer.write(frame(MORE | LAST, b"b", masked=True))
        assert await reader.readexactly(7) == frame(TEXT | LAST, b"hello")
        writer.close()
        await rig.settled()
        assert b"xtensions" not in origin.requests[0]
        assert not rig.ledger.denials
        assert len(rig.ledger.ended) == 1


@pytest.mark.parametrize("who", ["client", "origin"])
async def test_a_message_has_an_end(tmp_path: Path, who: str) -> None:
    """One that does not is cut, with its reason, and nothing of it has gone on."""
    async with Sockets() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        if who == "origin":
            origin.said, origin.endless = frame(TEXT, b"x" * 60_000), frame(MORE, b"x" * 60_000)
        reader, writer = await _switched(rig, origin)
        sent = received = 0
        with contextlib.suppress(ConnectionError):
            writer.write(frame(TEXT | LAST, b"begin", masked=True))
            if who == "client":
                assert await reader.readexactly(7) == frame(TEXT | LAST, b"hello")
                writer.write(frame(TEXT, b"x" * 60_000, masked=True))
            while who == "client" and sent < 20 * MOST_MESSAGE and not reader.at_eof():
                writer.write(frame(MORE, b"x" * 60_000, masked=True))
                sent += 60_000
                await writer.drain()
            received = len(await asyncio.wait_for(reader.read(), 20))
        writer.close()
        await rig.settled()
        assert sent < 20 * MOST_MESSAGE
        assert received < 100
        assert origin.octets < 100
        assert rig.ledger.denials == [Reason.MALFORMED]
        assert len(rig.ledger.lines) == 1
        assert f"more than {MOST_MESSAGE} octets" in rig.ledger.lines[0].decision.detail


@pytest.mark.parametrize("kind", [PING, PONG, TEXT | LAST, TEXT])
async def test_all_that_leaves_is_charged(tmp_path: Path, kind: int) -> None:
    """Frames that control the connection hold up to 125 octets each, and frames without any say something too."""
    budget = Budget(10_000, 3600)
    async with Sockets() as origin, a_proxy(tmp_path, allow("good.test", upload=budget)) as rig:
        origin.said = b""
        reader, writer = await _switched(rig, origin)
        with contextlib.suppress(ConnectionError):
            writer.write(frame(TEXT, b"", masked=True) if kind == TEXT else b"")
            payload = b"x" * 125 if kind in (PING, PONG) else b""
            writer.write(frame(MORE if kind == TEXT else kind, payload, masked=True) * 2500)
            await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await rig.settled()
        assert rig.ledger.denials == [Reason.UPLOAD_BUDGET]
        assert origin.octets <= budget.octets


async def test_control_frames_are_recorded(tmp_path: Path) -> None:
    """What they are and hold counts as octets of the connection, both ways; how a WebSocket is closed, too."""
    async with Sockets() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        origin.said = frame(PONG, b"y" * 50)
        reader, writer = await _switched(rig, origin)
        writer.write(frame(PING, b"x" * 100, masked=True))
        assert await reader.readexactly(52) == frame(PONG, b"y" * 50)
        writer.write(frame(CLOSE, b"\x03\xe8" + b"z" * 30, masked=True))
        await reader.read()
        writer.close()
        await rig.settled()
        (line,) = rig.ledger.ended
        assert line.outcome is not None
        asked = UPGRADE.replace("http://{0}", "").format(f"good.test:{origin.port}")
        assert line.outcome.octets_out == len(asked) + FRAME + 100 + FRAME + 32
        assert line.outcome.octets_in == len(SWITCHED) - len(OFFER) + FRAME + 50


async def test_a_message_has_so_many_frames(tmp_path: Path) -> None:
    """Each takes memory, even when there is nothing in it."""
    async with Sockets() as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        reader, writer = await _switched(rig, origin)
        with contextlib.suppress(ConnectionError):
            writer.write(frame(TEXT, b"", masked=True))
            for _ in range(20):
                writer.write(frame(MORE, b"", masked=True) * MOST_FRAMES)
                await writer.drain()
            await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await rig.settled()
        assert origin.octets == 0
        assert rig.ledger.denials == [Reason.MALFORMED]
        assert f"more than {MOST_FRAMES} frames" in rig.ledger.lines[0].decision.detail
