"""A real `gateway proxy` under clients that hold on to what they get: tunnels, heads, handshakes, descriptors."""

import contextlib
import resource
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.integration.hostile_rig import Gateway, a_gateway, many_descriptors, polite
from tests.peers.flood import ECHO_HELLO, first_flight, tunnel, unverified
from tests.peers.namespace import wait_until

TUNNELS = 10_000
SOURCES = 50
"""Loopback addresses that they come from: one client may only have so many."""
EACH = 16 * 1024
"""Octets of memory that an idle tunnel may take, with all that the process grows by besides."""
KEPT = 64 << 20
"""Octets that the processes may have more than before, when all is over: kept by the allocators for the next time."""
AGAIN = 16 << 20
"""And how many more after the same once more: what is kept is used again."""


def idle_tunnels(gateway: Gateway, count: int) -> list[socket.socket]:
    """Open tunnels, each used once."""
    sockets = []
    for number in range(count):
        sock = gateway.connect(f"127.1.{number % SOURCES}.1")
        target = b"echo.test:%d" % gateway.echo
        sock.sendall(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target) + ECHO_HELLO)
        sockets.append(sock)
        if not number % 25:
            time.sleep(0.01)
    return sockets


@pytest.mark.timeout(120)
def test_ten_thousand_idle_tunnels(tmp_path: Path) -> None:
    """Two workers hold them at little memory, others are served as if they were not there, and all comes back."""
    with many_descriptors(TUNNELS + 2000), a_gateway(tmp_path, workers=2) as gateway:
        with polite(gateway, "quiet"):
            time.sleep(0.1)
        before, descriptors = gateway.memory, gateway.descriptors
        sockets = idle_tunnels(gateway, TUNNELS)
        try:
            wait_until(lambda: gateway.descriptors >= descriptors + 2 * TUNNELS, "all tunnels to be open", 30)
            with polite(gateway, f"{TUNNELS} idle tunnels"):
                time.sleep(2)
            assert gateway.memory - before < TUNNELS * EACH
            answers = [sock.recv(4096) for sock in sockets[::500]]
            assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        finally:
            for sock in sockets:
                sock.close()
        wait_until(lambda: gateway.descriptors <= descriptors + 20, "the tunnels to go", 30)
        wait_until(lambda: gateway.memory < before + KEPT, "the memory to be free again", 20)

        def told() -> int:
            return sum("echo.test" in str(line) for line in gateway.ledger)

        wait_until(lambda: told() == TUNNELS, f"a line for each tunnel, not for {told()}", 10)
        assert not gateway.reasons()
        once = gateway.memory
        sockets = idle_tunnels(gateway, TUNNELS // 4)
        for sock in sockets:
            sock.close()
        wait_until(lambda: gateway.descriptors <= descriptors + 20, "the tunnels to go again", 30)
        wait_until(lambda: gateway.memory < once + AGAIN, "the memory to be free again", 20)


def half_a_request(gateway: Gateway, number: int) -> socket.socket:
    """Begin a request head."""
    return gateway.connect(f"127.2.{number % SOURCES}.1")


def half_a_hello(gateway: Gateway, number: int) -> socket.socket:
    """Open a tunnel, and begin a ClientHello."""
    return tunnel(gateway, f"echo.test:{gateway.echo}", f"127.2.{number % SOURCES}.1")


def half_a_handshake(gateway: Gateway, number: int) -> socket.socket:
    """Begin a handshake with the gateway itself."""
    return gateway.connect(f"127.2.{number % SOURCES}.1", gateway.tls)


def nothing_in_a_tunnel(gateway: Gateway, number: int) -> socket.socket:
    """Open a tunnel, and say nothing."""
    return half_a_hello(gateway, number)


def half_closed(gateway: Gateway, number: int) -> socket.socket:
    """Open a tunnel and end one direction, to an origin that does not mind."""
    sock = tunnel(gateway, f"echo.test:{gateway.deaf}", f"127.2.{number % SOURCES}.1")
    sock.sendall(ECHO_HELLO)
    assert sock.recv(len(ECHO_HELLO), socket.MSG_WAITALL) == ECHO_HELLO
    sock.shutdown(socket.SHUT_WR)
    return sock


SLOW = 80
"""Of each kind, at the same time."""
KINDS: dict[Callable[[Gateway, int], socket.socket], bytes] = {
    half_a_request: b"GET http://seen.test/ HTTP/1.1\r\nHost: seen.test\r\nX-Slow: " + b"x" * 1000,
    half_a_hello: ECHO_HELLO,
    half_a_handshake: first_flight("polite.test"),
    nothing_in_a_tunnel: b"",
    half_closed: b"",
}


@pytest.mark.timeout(60)
def test_slow_clients(tmp_path: Path) -> None:
    """Heads, hellos and handshakes that trickle are ended in time, each with a line; so are half-closed tunnels."""
    with a_gateway(tmp_path, timeouts="head: 2s, hello: 2s, idle: 2s") as gateway:
        with polite(gateway, "quiet"):
            time.sleep(0.1)
        before, descriptors, lines = gateway.memory, gateway.descriptors, len(gateway.ledger)
        with polite(gateway, "slow clients"):
            open_now = {(make(gateway, number), words) for make, words in KINDS.items() for number in range(SLOW)}
            for at in range(40):
                for sock, words in tuple(open_now):
                    with contextlib.suppress(OSError):
                        if at < len(words) - 1:
                            sock.send(words[at : at + 1])
                time.sleep(0.1)
        wait_until(lambda: gateway.descriptors <= descriptors + 10, "the gateway to close them", 15)
        for sock, _ in open_now:
            sock.close()
        wait_until(lambda: gateway.memory < before + KEPT // 4, "the memory to be free again", 15)
        gateway.await_reasons({"malformed": SLOW, "not-tls": 3 * SLOW}, lines)
        assert sum("idle for too long" in str(line) for line in gateway.ledger[lines:]) == SLOW


def refused(sockets: list[socket.socket]) -> int:
    """Return how many were told that they are too many."""
    return sum(sock.recv(4096).startswith(b"HTTP/1.1 503 ") for sock in sockets)


def test_one_client_may_have_so_many_connections(tmp_path: Path) -> None:
    """Those beyond are told so, each has a line, and nobody else is concerned; those that were there go on."""
    with (
        a_gateway(tmp_path, limits="connections_per_client: 50") as gateway,
        polite(gateway, "one client with too many"),
    ):
        first = [tunnel(gateway, f"echo.test:{gateway.echo}") for _ in range(50)]
        others = [gateway.connect() for _ in range(300)]
        assert refused(others) == 300
        gateway.await_reasons({"rate-limit": 300})
        for sock in first:
            sock.sendall(ECHO_HELLO)
            assert sock.recv(len(ECHO_HELLO), socket.MSG_WAITALL) == ECHO_HELLO
        for sock in first + others:
            sock.close()


@pytest.mark.parametrize("where", ["plain", "tls"])
def test_when_there_are_no_descriptors_left(tmp_path: Path, where: str) -> None:
    """Whoever comes then is refused, with a line; the process does not spin, and serves again as soon as it can."""
    with a_gateway(tmp_path, descriptors=-200) as gateway:
        port = gateway.tls if where == "tls" else gateway.port
        sockets = []
        for number in range(500):
            sockets.append(gateway.connect(f"127.1.{number % SOURCES}.1", port))
            time.sleep(0.001)
        gateway.await_reasons({"rate-limit": 500 - 75})
        spent = gateway.seconds
        time.sleep(1)
        assert gateway.seconds - spent < 0.5
        for sock in sockets:
            sock.close()
        wait_until(lambda: gateway.descriptors < 60, "the connections to go", 20)
        with polite(gateway, "afterwards"):
            time.sleep(1)


def test_a_door_without_descriptors(tmp_path: Path) -> None:
    """It says so once and does not spin, serves who waits as soon as it can, and says once that it does."""
    failing, again = "no connection can be accepted", "connections are accepted again"
    with a_gateway(tmp_path) as gateway, contextlib.ExitStack() as stack:

        def said(words: str, times: int) -> bool:
            return (tmp_path / "gateway.log").read_text().count(words) == times

        (worker,) = gateway.workers
        limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        for times in (1, 2):
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, limits[1]))
            spent = gateway.seconds
            sock = stack.enter_context(gateway.connect(port=gateway.tls))
            wait_until(partial(said, failing, times), "the line", 10)
            time.sleep(1)  # ten tries more
            assert gateway.seconds - spent < 0.3
            assert said(failing, times)
            assert said(again, times - 1)
            resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
            secure = stack.enter_context(unverified().wrap_socket(sock))
            assert secure.version()
            wait_until(partial(said, again, times), "the other line", 10)
            assert said(failing, times)
