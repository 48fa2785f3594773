"""Tests of `gateway.proxy.arrivals`. Without descriptors: tests/integration/test_proxy_hostile.py."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.proxy.arrivals import Arrivals, is_gone
from tests.integration.proxy_rig import until


class Came:
    """A listening socket, and who has come."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=2000)
        self.listening.setblocking(False)
        self.accepted: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.breaks = False
        self.at_once: list[int] = []
        """How many had come when something else had its turn."""
        self.arrivals = Arrivals(self.listening, self.come)

    def come(self, accepted: socket.socket, address: str) -> None:
        """Remember who has come."""
        if self.breaks:
            raise RuntimeError("injected")
        assert address == "127.0.0.1"
        if not self.accepted:
            asyncio.get_running_loop().call_soon(lambda: self.at_once.append(len(self.accepted)))
        self.accepted.append(accepted)

    def connect(self, count: int = 1) -> list[socket.socket]:
        """Connect so many times."""
        made = [socket.create_connection(self.listening.getsockname()) for _ in range(count)]
        self.clients += made
        return made


@asynccontextmanager
async def arriving() -> AsyncIterator[Came]:
    """Yield a listening socket, on which nobody is accepted yet."""
    came = Came()
    try:
        yield came
    finally:
        came.arrivals.stop()
        for sock in (came.listening, *came.accepted, *came.clients):
            sock.close()


async def test_all_are_accepted_at_once() -> None:
    """Not one in each turn of the event loop: the last of a crowd is there as soon as the first."""
    async with arriving() as came:
        came.connect(100)
        came.arrivals.start()
        await until(lambda: came.at_once)
        assert came.at_once == [100]


async def test_others_have_their_turn() -> None:
    """A crowd without end does not keep the event loop: after so many, everything else goes on."""
    async with arriving() as came:
        came.connect(700)
        came.arrivals.start()
        await until(lambda: len(came.accepted) == 700)
        assert came.at_once[0] < 700


async def test_who_has_left_does_not_come() -> None:
    """Nothing is made for a client that has closed, or reset, its connection without a word."""
    async with arriving() as came:
        closed, reset, half, _ = came.connect(4)
        closed.close()
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        reset.close()
        half.send(b"GET")
        half.close()
        came.arrivals.start()
        await until(lambda: came.accepted)
        assert [is_gone(each) for each in came.accepted] == [False, False]


async def test_one_that_cannot_be_served(caplog: pytest.LogCaptureFixture) -> None:
    """It is closed, and the next is served."""
    async with arriving() as came:
        came.breaks = True
        came.arrivals.start()
        (first,) = came.connect()
        first.setblocking(False)
        with caplog.at_level(logging.CRITICAL):
            assert await asyncio.get_running_loop().sock_recv(first, 1) == b""
        came.breaks = False
        came.connect()
        await until(lambda: came.accepted)


async def test_stopping() -> None:
    """Nobody is accepted any more; who comes waits in the kernel for whoever goes on with the socket."""
    async with arriving() as came:
        came.arrivals.start()
        came.arrivals.stop()
        came.arrivals.stop()
        came.connect()
        await asyncio.sleep(0.05)
        assert not came.accepted
        accepted, _ = came.listening.accept()
        accepted.close()
