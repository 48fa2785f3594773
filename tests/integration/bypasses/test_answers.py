"""Bypass 28: answers that say more than one thing, or never end."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.decision import Reason
from gateway.selfcheck.world import ANSWERS, POISON
from tests.integration.proxy_rig import a_proxy, allow
from tests.peers.http_origin import Origin

type Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(words: bytes) -> Behaviour:
    """Return an origin that answers every request with these octets."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(words)
            await writer.drain()

    return behave


ANSWERED: dict[str, tuple[bytes, Reason | None]] = {
    "unasked 101": (ANSWERS[b"/switch"], Reason.UPSTREAM_FAILURE),
    "more than its length": (ANSWERS[b"/longer"], None),
    "length and coding": (ANSWERS[b"/both"], Reason.UPSTREAM_FAILURE),
    "two lengths": (ANSWERS[b"/lengths"], Reason.UPSTREAM_FAILURE),
    "signed length": (ANSWERS[b"/signed"], Reason.UPSTREAM_FAILURE),
    "unknown coding": (ANSWERS[b"/coding"], Reason.UPSTREAM_FAILURE),
    "space before the colon": (ANSWERS[b"/spaced"], Reason.UPSTREAM_FAILURE),
    "negative chunk": (ANSWERS[b"/chunk"], None),
    "body behind 204": (ANSWERS[b"/empty"], None),
    "body behind 304": (ANSWERS[b"/same"], None),
    "bare CR": (ANSWERS[b"/split"], Reason.UPSTREAM_FAILURE),
    "interim answers": (ANSWERS[b"/flood"], Reason.UPSTREAM_FAILURE),  # more of them than anybody needs
    "no status line": (b"hello\r\n\r\n" + POISON, Reason.UPSTREAM_FAILURE),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Reason.UPSTREAM_FAILURE),
    "fold": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", Reason.UPSTREAM_FAILURE),
}


@pytest.mark.parametrize("name", ANSWERED)
async def test_answers(tmp_path: Path, name: str) -> None:
    """28: an answer is one answer: what an origin smuggles in or behind it does not reach the client."""
    words, reason = ANSWERED[name]
    async with Origin(behave=saying(words)) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        target = f"good.test:{origin.port}"
        one = f"GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n"
        answer = await rig.ask(one.encode())
        assert b"poison" not in answer
        assert len(answer) < 200_000
        assert b"a\rSet-Cookie" not in answer
        await rig.settled()
        assert rig.ledger.denials == ([reason] if reason else [])
        assert len(rig.ledger.lines) == 1
        assert origin.connections == 1


async def test_shorter_than_its_length(tmp_path: Path) -> None:
    """28: an answer that breaks off is not passed on as a whole one."""

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nok")

    async with Origin(behave=short) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl(f"http://good.test:{origin.port}/")
        assert ran.code in (18, 52, 56)  # curl: partial file, empty reply, failure in receiving
        await rig.settled()
        assert len(rig.ledger.lines) == 1
