"""Two proxy workers under load: policies put in force one after the other, and one of the workers killed."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.selfcheck.hello import a_hello
from tests.integration.hostile_rig import Gateway, a_gateway
from tests.peers.flood import ECHO_HELLO, tunnel
from tests.peers.namespace import wait_until

KEPT, DENIED = 300, 60
RELOADS = 3


def used(sock: socket.socket) -> bool:
    """Send something through a tunnel; whether it came back."""
    try:
        sock.sendall(ECHO_HELLO)
        return sock.recv(len(ECHO_HELLO), socket.MSG_WAITALL) == ECHO_HELLO
    except OSError:
        return False


@dataclass
class Load:
    """New tunnels at a steady rate, each used once, and open ones used in turn, from a thread."""

    gateway: Gateway
    open: list[socket.socket]
    opened: int = 0
    failed: list[str] = field(default_factory=list)
    dropped: set[socket.socket] = field(default_factory=set)
    """Of the open ones."""

    def run(self, stop: threading.Event) -> None:
        """Go on until told to stop."""
        at = 0
        while not stop.wait(0.005):
            try:
                with tunnel(self.gateway, f"echo.test:{self.gateway.echo}", "127.8.0.1") as sock:
                    if not used(sock):
                        self.failed.append("not used")
            except OSError as error:
                self.failed.append(repr(error))
            self.opened += 1
            for sock in self.open[at : at + 20]:
                if sock not in self.dropped and not used(sock):
                    self.dropped.add(sock)
            at = at + 20 if at + 20 < len(self.open) else 0


@contextmanager
def loaded(gateway: Gateway, count: int) -> Iterator[Load]:
    """Keep tunnels open and use them, and open others meanwhile."""
    sockets = [tunnel(gateway, f"echo.test:{gateway.echo}", f"127.8.1.{number % 5 + 1}") for number in range(count)]
    assert all(used(sock) for sock in sockets)
    load, stop = Load(gateway, sockets), threading.Event()
    thread = threading.Thread(target=load.run, args=(stop,))
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join(30)
        for sock in sockets:
            sock.close()
    assert not thread.is_alive()


@pytest.mark.timeout(60)
def test_reloads_under_load(tmp_path: Path) -> None:
    """No tunnel is dropped and none fails that is allowed; one that is denied now is closed, with its line."""
    with a_gateway(tmp_path, workers=2, more=", cut.test") as gateway, loaded(gateway, KEPT) as load:
        hello = a_hello(b"cut.test")
        doomed = [tunnel(gateway, f"cut.test:{gateway.echo}", "127.8.2.1") for _ in range(DENIED)]
        for sock in doomed:
            sock.sendall(hello)
            assert sock.recv(len(hello), socket.MSG_WAITALL) == hello
        log = gateway.folder / "gateway.log"
        for number in range(1, RELOADS + 1):
            gateway.rewrite(more="" if number % 2 else ", cut.test")
            wait_until(
                lambda: log.read_text().count("is in force") >= 2 * number,  # noqa: B023 -- asked at once
                "both workers to have the policy",
            )
            opened = load.opened
            wait_until(lambda: load.opened >= opened + 10, "new tunnels")  # noqa: B023
        for sock in doomed:
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""
            sock.close()
        gateway.await_reasons({"port": DENIED})  # no rule names the port any more
    assert load.opened >= 10 * RELOADS
    assert not load.failed
    assert not load.dropped


@pytest.mark.timeout(60)
def test_a_worker_killed_under_load(tmp_path: Path) -> None:
    """The tunnels of the other live on; new ones fail only while they were the dead one's to accept."""
    with a_gateway(tmp_path, workers=2) as gateway, loaded(gateway, KEPT) as load:
        first, second = gateway.workers
        held = gateway.clients_of(first)
        theirs = {sock for sock in load.open if sock.getsockname() in held}
        assert 0 < len(theirs) < KEPT
        wait_until(lambda: load.opened > 20, "new tunnels")
        assert not load.failed
        os.kill(first, signal.SIGKILL)
        opened = load.opened
        wait_until(lambda: load.opened >= opened + 100, "new tunnels")
        wait_until(lambda: len(set(gateway.workers) - {first}) == 2, "another worker")
        wait_until(lambda: load.dropped >= theirs, "its tunnels to break", 10)
        opened, failed = load.opened, len(load.failed)
        wait_until(lambda: load.opened >= opened + 50, "new tunnels")
        assert len(load.failed) == failed
        assert second in gateway.workers
    assert load.dropped == theirs
    assert failed <= 3
