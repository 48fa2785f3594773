"""Tests of `gateway.proxy.front`: who accepts, and that nobody is lost when that changes. Under floods:
tests/integration/test_proxy_hostile_rush.py.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from http.client import HTTPResponse
from pathlib import Path

import pytest
import uvloop

from gateway.proxy import front as module
from gateway.proxy.front import DEEP, Front, turn_away, waiting_in_kernel
from tests.integration.proxy_rig import Rig, a_proxy, allow, until

CONNECT = b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n"


def front_of(rig: Rig) -> Front:
    """Return the only listener of a proxy."""
    (found,) = rig.proxy._fronts
    return found


def crowd(rig: Rig, count: int, words: bytes = CONNECT) -> list[socket.socket]:
    """Connect so many times while the event loop does nothing."""
    made = [socket.create_connection(("127.0.0.1", rig.port), 10) for _ in range(count)]
    for sock in made:
        sock.sendall(words)
    return made


async def answers(socks: Iterable[socket.socket]) -> list[bytes]:
    """Return how each answer begins."""
    loop = asyncio.get_running_loop()
    found = []
    for sock in socks:
        sock.setblocking(False)
        found.append((await asyncio.wait_for(loop.sock_recv(sock, 4096), 20))[:13])
        sock.close()
    return found


def test_how_many_wait_in_the_kernel() -> None:
    """The kernel says how many connections wait to be accepted."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        socks = [socket.create_connection(listening.getsockname()) for _ in range(7)]
        assert waiting_in_kernel(listening) == 7
        listening.accept()[0].close()
        assert waiting_in_kernel(listening) == 6
        for sock in socks:
            sock.close()


def test_a_crowd_is_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody in it is answered; with nobody waiting for a while, the event loop accepts again."""
    monkeypatch.setattr(module, "_CALM", 0.1)

    async def main() -> None:
        async with a_proxy(tmp_path, allow("good.test")) as rig:
            front = front_of(rig)
            assert front._server is not None
            for _ in range(3):
                socks = crowd(rig, 300)
                await until(lambda: front._server is None)
                assert set(await answers(socks)) == {b"HTTP/1.1 403 "}
                await until(lambda: front._server is not None)
            assert len(rig.ledger.denials) == 900
            await rig.settled()
            assert not front._tasks

    uvloop.run(main())


def test_a_few_are_left_to_the_event_loop(tmp_path: Path) -> None:
    """However often they come: what is done for a crowd costs more."""

    async def main() -> None:
        async with a_proxy(tmp_path, allow("good.test")) as rig:
            front = front_of(rig)
            for _ in range(20):
                assert set(await answers(crowd(rig, DEEP))) == {b"HTTP/1.1 403 "}
                assert front._server is not None

    uvloop.run(main())


def test_stopping_while_many_wait(tmp_path: Path) -> None:
    """Whoever has come is answered or cut off, and the proxy ends."""

    async def main() -> None:
        async with a_proxy(tmp_path, allow("good.test"), grace=0.01) as rig:
            front = front_of(rig)
            socks = crowd(rig, 400)
            await until(lambda: front._server is None)
            await asyncio.wait_for(rig.proxy.stop(), 20)
            assert not rig.proxy.open_connections
            for sock in socks:
                sock.settimeout(10)
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(4096)[:9] in (b"HTTP/1.1 ", b"")
                sock.close()

    uvloop.run(main())


def test_without_a_descriptor_for_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes is served all the same, and it is tried again."""
    monkeypatch.setattr(module, "_CALM", 0.1)

    async def main() -> None:
        async with a_proxy(tmp_path, allow("good.test")) as rig:
            front = front_of(rig)
            tries = 0
            served_by_loop = front._served_by_loop

            async def fails_twice() -> asyncio.Server:
                nonlocal tries
                tries += 1
                if tries < 3:
                    raise OSError(24, "Too many open files")
                return await served_by_loop()

            monkeypatch.setattr(front, "_served_by_loop", fails_twice)
            assert set(await answers(crowd(rig, 100))) == {b"HTTP/1.1 403 "}
            await until(lambda: tries == 1)
            assert set(await answers(crowd(rig, 1))) == {b"HTTP/1.1 403 "}
            await until(lambda: front._server is not None)
            assert tries == 3

    uvloop.run(main())


def test_what_is_said_at_the_door() -> None:
    """Who is turned away can read why, as HTTP, even if it has sent more than anybody would read."""
    ours, theirs = socket.socketpair()
    theirs.sendall(CONNECT)
    turn_away(ours, True)
    answer = HTTPResponse(theirs)
    answer.begin()
    assert (answer.status, answer.headers["X-Gateway-Reason"]) == (503, "rate-limit")
    assert answer.read() == b""
    assert theirs.recv(4096) == b""
    theirs.close()
    gone, other = socket.socketpair()
    other.close()
    turn_away(gone, True)
    assert gone.fileno() == -1
    ours, theirs = socket.socketpair()
    turn_away(ours, False)
    assert theirs.recv(4096) == b""
    theirs.close()
