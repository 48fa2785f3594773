"""Tests of `gateway.proxy.parent`. Whole requests through a parent are in tests/integration/test_proxy_parent.py."""

import asyncio

import pytest

from gateway.proxy.parent import Asking, ParentError, parse_parent
from tests.builders import an_address
from tests.gateway.proxy.fakes import FakeTransport


def test_where_a_parent_is() -> None:
    """A name or an address, and a port."""
    assert parse_parent("http://proxy.example:3128") == ("proxy.example", 3128)
    assert parse_parent("http://[2001:db8::1]:8080") == (an_address("2001:db8::1"), 8080)


async def ask(address: str, *answer: bytes) -> tuple[FakeTransport, asyncio.Protocol]:
    """Ask for a tunnel, and answer in pieces."""
    transport, asking = FakeTransport(), Asking()
    asking.connection_made(transport)
    task = asyncio.get_running_loop().create_task(asking.tunnel(an_address(address), 443, asyncio.Protocol))
    await asyncio.sleep(0)
    for piece in answer:
        asking.data_received(piece)
    if not answer:
        asking.connection_lost(None)
    return transport, await task


@pytest.mark.parametrize(
    ("address", "target"), [("203.0.113.5", b"203.0.113.5:443"), ("2001:db8::5", b"[2001:db8::5]:443")]
)
async def test_what_is_asked(address: str, target: bytes) -> None:
    """CONNECT to the address; the answer may come in pieces, and then the connection is another's."""
    transport, made = await ask(address, b"HTTP/1.1 200 Conn", b"ection established\r\nVia: x\r\n\r", b"\n")
    assert bytes(transport.sent) == b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n\r\n"
    assert transport.protocol is made
    assert transport.calls == ["pause_reading", "resume_reading"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([], "closed the connection"),
        ([b"HTTP/1.1 403 Forbidden\r\n\r\n"], "answered 403 to CONNECT 203.0.113.5:443"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], "answered 100"),
        ([b"HTTP/2 200\r\n\r\n"], "no HTTP"),
        ([b"HTTP/1.1 2000 OK\r\n\r\n"], "no HTTP"),
        ([b"HTTP/1.1 200 OK\r\n\r\nmore"], "more than its answer"),
        ([b"HTTP/1.1 200 OK\r\n\r\n\r\n\r\n"], "more than its answer"),
        ([b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 20000], "more than 16384 octets"),
    ],
)
async def test_what_is_no_tunnel(answer: list[bytes], told: str) -> None:
    """Anything but a 2xx and silence behind it is an error that says what it was."""
    with pytest.raises(ParentError, match=told):
        await ask("203.0.113.5", *answer)


async def test_a_parent_that_is_gone_again() -> None:
    """A connection that closed behind its answer is no tunnel."""
    transport, asking = FakeTransport(), Asking()
    asking.connection_made(transport)
    asking.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    transport.closing = True
    with pytest.raises(ParentError, match="closed the connection behind its answer"):
        await asking.tunnel(an_address("203.0.113.5"), 443, asyncio.Protocol)
