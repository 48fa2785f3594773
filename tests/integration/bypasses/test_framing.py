"""Bypasses 26 and 27: bodies that end at different places for different readers. Heads are in the battery."""

import asyncio
from pathlib import Path

import pytest

from gateway.decision import Reason
from gateway.selfcheck.client import hear
from gateway.selfcheck.framing import CHUNKS
from tests.integration.bypasses.world import World, a_world

REFUSED: dict[str, bytes] = {
    **{f"size {name}": body for name, body in CHUNKS.items()},
    "plus": b"+1\r\nx\r\n0\r\n\r\n",
    "space before": b" 1\r\nx\r\n0\r\n\r\n",
    "many zeros": b"0" * 30 + b"1\r\nx\r\n0\r\n\r\n",
    "extension behind bare LF": b"1;a\nx\r\n0\r\n\r\n",
    "longer than its size": b"1\r\nxy\r\n0\r\n\r\n",
    "no end of line": b"1\r\nx0\r\n\r\n",
    "no size": b"\r\nx\r\n0\r\n\r\n",
    "bare CR at the end": b"1\r\nx\r\n0\r\r\n\r\n",
    "trailers": b"1\r\nx\r\n0\r\nX: y\r\n\r\n",
    "framing in trailers": b"1\r\nx\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
}
MENDED: dict[str, bytes] = {
    "extension": b"1;a=b\r\nx\r\n0\r\n\r\n",
    "extension with bare CR": b"1;a\rb\r\nx\r\n0\r\n\r\n",
    "extension with NUL": b"1;\0\r\nx\r\n0\r\n\r\n",
    "space behind": b"1 \r\nx\r\n0\r\n\r\n",
    "bare LF at the end": b"1\r\nx\r\n0\r\n\n",
}


async def chunked(world: World, body: bytes) -> bytes:
    """Send a chunked body with a request behind it."""
    head = f"POST http://{world.target}/first HTTP/1.1\r\nHost: {world.target}\r\nTransfer-Encoding: chunked\r\n\r\n"
    behind = f"GET http://{world.target}/behind HTTP/1.1\r\nHost: {world.target}\r\nConnection: close\r\n\r\n"
    reader, writer = await world.rig.connect()
    writer.write(head.encode() + body + behind.encode())
    answer = await hear(reader, 5)
    writer.transport.abort()
    await world.rig.settled()
    return answer


@pytest.mark.parametrize("name", REFUSED)
async def test_chunks_that_are_refused(tmp_path: Path, name: str) -> None:
    """27: a chunk that two readers could end at different places ends the connection; nothing behind it is read."""
    async with a_world(tmp_path) as world:
        assert (await chunked(world, REFUSED[name]))[:13] in (b"", b"HTTP/1.1 400 ")
        assert world.rig.ledger.denials == [Reason.MALFORMED]
        assert len(world.rig.ledger.lines) == 1
        assert not any(b"behind" in request for request in world.good.requests)
        assert world.evil.untouched


@pytest.mark.parametrize("name", MENDED)
async def test_chunks_that_are_mended(tmp_path: Path, name: str) -> None:
    """27: what is read one way here goes on in the one form that everybody reads so."""
    async with a_world(tmp_path) as world:
        assert (await chunked(world, MENDED[name])).count(b"HTTP/1.1 200 ") >= 1
        sent = b"".join(world.good.requests)
        assert sent.count(b"1\r\nx\r\n0\r\n\r\n") == 1
        assert b";" not in sent
        assert world.rig.ledger.denials == []


async def test_a_length_and_more(tmp_path: Path) -> None:
    """26: what is behind a body of a given length is the next request, and refused if it is none."""
    async with a_world(tmp_path) as world:
        head = f"POST http://{world.target}/ HTTP/1.1\r\nHost: {world.target}\r\nContent-Length: 1\r\n\r\nx"
        answer = await asyncio.wait_for(world.rig.ask(head.encode() + b"xGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 10)
        assert answer.count(b"HTTP/1.1 200 ") == 1
        assert b"X-Gateway-Reason: malformed" in answer
        await world.rig.settled()
        assert world.rig.ledger.denials == [Reason.MALFORMED]
        assert len(world.rig.ledger.lines) == 2
