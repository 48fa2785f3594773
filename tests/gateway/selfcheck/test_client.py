"""Tests of `gateway.selfcheck.client`, against a server that is no proxy at all."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.decision import Reason
from gateway.selfcheck.cases import Case, Where
from gateway.selfcheck.client import Target
from tests.peers.http_origin import Origin

type Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def echo(answer: bytes) -> Behaviour:
    """Answer a CONNECT, and send back what comes behind it."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        while data := await reader.read(100):
            writer.write(data)

    return behave


def test_filled() -> None:
    """Places in what is sent become names with ports."""
    filled = Target("127.0.0.1", 1, 2, 3).fill(b"{good} {seen} {evil} {port}")
    assert filled == b"good.test:2 seen.test:2 evil.test:3 3"


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "octet by octet"])
async def test_in_a_tunnel(slow: bool) -> None:
    """Octets for a tunnel come behind the CONNECT, and what comes back is told."""
    async with Origin(behave=echo(b"HTTP/1.1 200 OK\r\n\r\n")) as origin:
        case = Case(21, "x", b"x" * 100, Reason.NOT_TLS, Where.TUNNEL, slow=slow)
        assert await Target("127.0.0.1", origin.port, 1, 2).attempt(case, 0.2) == b"x" * 100


async def test_a_refused_tunnel() -> None:
    """A CONNECT that is refused is the answer."""
    refusal = b"HTTP/1.1 403 Forbidden\r\n\r\n"
    async with Origin(behave=echo(refusal)) as origin:
        case = Case(21, "x", b"x", Reason.NOT_TLS, Where.TUNNEL)
        assert await Target("127.0.0.1", origin.port, 1, 2).attempt(case, 0.2) == refusal


async def test_no_handshake() -> None:
    """Where there is no TLS, nothing can be sent inside it."""
    async with Origin(behave=echo(b"HTTP/1.1 200 OK\r\n\r\n")) as origin:
        case = Case(4, "x", b"x", Reason.HOST_MISMATCH, Where.INSIDE)
        assert await Target("127.0.0.1", origin.port, 1, 2).attempt(case, 0.2) == b""
