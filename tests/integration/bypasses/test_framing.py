"""Bypasses 26 and 27: messages that end at different places for different readers."""

from pathlib import Path

import pytest

from gateway.decision import Reason
from tests.gateway.proxy.test_head import REFUSED
from tests.integration.bypasses.world import a_world

_FRAMES = sorted(set(REFUSED) - {"too many fields", "too long", "endless"})


@pytest.mark.parametrize("name", _FRAMES)
async def test_refused(tmp_path: Path, name: str) -> None:
    """26 and 27: a head that could be read in two ways is refused, and nothing behind it is looked at."""
    sent, status, _ = REFUSED[name]
    async with a_world(tmp_path) as world:
        behind = f"GET http://{world.target}/ HTTP/1.1\r\nHost: {world.target}\r\n\r\n".encode()
        answer = await world.rig.ask(sent + (b"" if name == "TLS" else behind))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        await world.held(answer, Reason.MALFORMED)


@pytest.mark.parametrize(
    "body",
    [
        b"-1\r\nx\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
        b"fffffffffffffffffffffffff\r\nx",
        b"1\nx\n0\n\n",
        b"g\r\nx\r\n",
    ],
)
async def test_chunks(tmp_path: Path, body: bytes) -> None:
    """27: chunk sizes are plain hexadecimal numbers, or the request goes no further."""
    async with a_world(tmp_path) as world:
        head = f"POST http://{world.target}/ HTTP/1.1\r\nHost: {world.target}\r\nTransfer-Encoding: chunked\r\n\r\n"
        behind = f"GET http://{world.target}/smuggled HTTP/1.1\r\nHost: {world.target}\r\n\r\n"
        await world.rig.ask(head.encode() + body + behind.encode())
        await world.rig.settled()
        assert not any(b"/smuggled" in request for request in world.good.requests)
        assert len(world.rig.ledger.lines) == 1
