"""Tests of `gateway.proxy.pipes`."""

import asyncio

from gateway.proxy.pipes import READ_BUFFER, Pipe
from tests.gateway.proxy.fakes import FakeTransport


def a_pipe(received: bytes = b"") -> tuple[Pipe, FakeTransport]:
    """Return a pipe that took a transport over."""
    pipe, transport = Pipe(), FakeTransport()
    pipe.take(transport, received)
    return pipe, transport


async def test_replay() -> None:
    """What was read before is read again, then what comes."""
    pipe, _ = a_pipe(b"first")
    assert await pipe.read(3) == b"fir"
    pipe.data_received(b"more")
    assert await pipe.read(100) == b"stmore"


async def test_waiting() -> None:
    """Reading waits for octets, and ends at the end."""
    pipe, _ = a_pipe()
    loop = asyncio.get_running_loop()
    loop.call_soon(pipe.data_received, b"x")
    assert await pipe.read(100) == b"x"
    loop.call_soon(pipe.eof_received)
    assert await pipe.read(100) == b""


async def test_who_is_told_that_the_peer_has_left() -> None:
    """Whoever keeps a peer waiting learns that it says nothing more, or is gone."""
    pipe, _ = a_pipe()
    pipe.connection_lost(None)
    told: list[str] = []
    for gone in (True, False):
        pipe, _ = a_pipe()
        pipe.lost = lambda: told.append("left")
        pipe.data_received(b"x")
        assert not told
        assert not pipe.ended
        if gone:
            pipe.connection_lost(None)
        else:
            pipe.eof_received()
        assert told.pop() == "left"
        assert pipe.ended


async def test_bounded() -> None:
    """A peer that sends faster than it is read is stopped, and goes on later."""
    pipe, transport = a_pipe()
    pipe.data_received(bytes(READ_BUFFER + 1))
    assert transport.calls[-1] == "pause_reading"
    left = READ_BUFFER + 1
    while left > READ_BUFFER // 2:
        assert transport.calls[-1] == "pause_reading"
        left -= len(await pipe.read(READ_BUFFER))
    assert transport.calls[-1] == "resume_reading"


async def test_what_takes_long_is_given_in_smaller_pieces() -> None:
    """A reader that needed long for a piece gets less the next time, and more again when it is quick."""
    pipe, _ = a_pipe(bytes(1 << 20))
    sizes = []
    for seconds in (0.02, 0.02, 0.001, 0.0001, 0.0001):
        sizes.append(len(await pipe.read(65536)))
        pipe.took(seconds)
    sizes.append(len(await pipe.read(65536)))
    assert sizes == [4096, 1024, 512, 512, 1024, 2048]
    for _ in range(20):
        pipe.took(1)
    assert len(await pipe.read(65536)) == 512
    for _ in range(20):
        pipe.took(0)
    assert len(await pipe.read(65536)) == 65536
    assert len(await pipe.read(100)) == 100


async def test_octets_are_given_when_it_is_their_turn() -> None:
    """Where reading is rationed, it waits for its turn, and only once there is something."""
    turns: list[str] = []

    async def turn() -> None:
        turns.append("asked")

    pipe, transport = Pipe(turn), FakeTransport()
    pipe.take(transport, b"")
    waiting = asyncio.get_running_loop().create_task(pipe.read(100))
    await asyncio.sleep(0)
    assert turns == []
    pipe.data_received(b"x")
    assert await waiting == b"x"
    assert turns == ["asked"]


async def test_drain() -> None:
    """Draining waits while the peer is behind, and no longer than the connection lasts."""
    pipe, _ = a_pipe()
    await pipe.drain()
    for release in (pipe.resume_writing, lambda: pipe.connection_lost(None)):
        pipe.pause_writing()
        asyncio.get_running_loop().call_soon(release)
        await asyncio.wait_for(pipe.drain(), 5)


async def test_writing() -> None:
    """Octets are written until the connection is lost; after that nothing happens."""
    pipe, transport = a_pipe()
    pipe.write(b"x")
    pipe.write_eof()
    assert not pipe.is_closing()
    pipe.connection_lost(None)
    pipe.write(b"y")
    pipe.write_eof()
    assert pipe.is_closing()
    assert bytes(transport.sent) == b"x"
    assert transport.calls.count("write_eof") == 1
    pipe.close()
    pipe.abort()
    assert pipe.get_extra_info("peername") == ("10.1.0.5", 4711)
    assert Pipe().get_extra_info("peername", "nobody") == "nobody"
