"""The supervisor's own parts; whole processes are in tests/integration/test_service.py."""

import asyncio
import errno
import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.config import EXIT_CONFIG, Config, load
from gateway.service import (
    Listener,
    Supervisor,
    listen_problem,
    listeners,
    prepare_state_dir,
    worker_count,
)


def a_config(folder: Path, text: str) -> Config:
    """Return the configuration of a policy file with these sections."""
    (folder / "gateway.yaml").write_text("version: 1\n" + text)
    return load(folder / "gateway.yaml")


def test_listeners_are_those_of_the_roles(tmp_path: Path) -> None:
    """Each role adds its own places, IPv6 included."""
    config = a_config(
        tmp_path, 'proxy: {listen: ["[::1]:3128"]}\ndns: {listen: ["udp://127.0.0.1:53", "tcp://127.0.0.1:53"]}\n'
    )
    assert [str(listener) for listener in listeners(config, ("dns", "proxy"))] == [
        "udp 127.0.0.1:53",
        "tcp 127.0.0.1:53",
        "tcp [::1]:3128",
    ]
    assert [str(listener) for listener in listeners(config, ("proxy",))] == ["tcp [::1]:3128"]


def test_health_and_metrics_have_their_ports_too(tmp_path: Path) -> None:
    """Whichever role runs, and only when the configuration says so."""
    config = a_config(tmp_path, 'control: {listen: ["127.0.0.1:9353", "[::1]:9353"]}\nproxy: {listen: []}\n')
    assert list(map(str, listeners(config, ("proxy",)))) == ["tcp 127.0.0.1:9353", "tcp [::1]:9353"]
    assert list(listeners(a_config(tmp_path, "proxy: {listen: []}\n"), ("proxy",))) == []


def test_encrypted_listeners_are_tcp(tmp_path: Path) -> None:
    """The ports of DoT and DoH are looked at as well, whatever the path."""
    listen = 'dns: {listen: ["tls://127.0.0.1:853", "https://[::1]:443/dns-query"], certificate: {cert: a, key: b}}\n'
    assert list(map(str, listeners(a_config(tmp_path, listen), ("dns",)))) == ["tcp 127.0.0.1:853", "tcp [::1]:443"]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_others_share_counts_as_in_use(kind: socket.SocketKind) -> None:
    """A socket with SO_REUSEPORT would let a second gateway join; the check does not."""
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        problem = listen_problem(Listener(kind, "127.0.0.1", other.getsockname()[1]))
    assert problem is not None
    assert "the port is in use" in problem


def test_a_free_port_is_no_problem() -> None:
    """The check leaves no trace."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    listener = Listener(socket.SOCK_STREAM, "127.0.0.1", port)
    assert listen_problem(listener) is None
    assert listen_problem(listener) is None


def test_an_address_of_another_machine_is_said() -> None:
    """A typing error in an address is not a mystery."""
    problem = listen_problem(Listener(socket.SOCK_STREAM, "198.51.100.77", 3128))
    assert problem is not None
    assert "does not have that address" in problem


def test_auto_is_one_worker_a_core() -> None:
    """`auto` follows the cores this process may use, not those of the machine."""
    assert worker_count("auto") == len(os.sched_getaffinity(0))
    assert worker_count(3) == 3


def test_the_state_directory_is_private(tmp_path: Path) -> None:
    """It holds keys and evidence."""
    assert prepare_state_dir(tmp_path / "a" / "state") is None
    assert (tmp_path / "a" / "state").stat().st_mode & 0o777 == 0o700


def test_a_state_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """A file in its place is named."""
    (tmp_path / "state").write_text("")
    problem = prepare_state_dir(tmp_path / "state")
    assert problem is not None
    assert "File exists" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_state_directory_of_another_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Root is warned: what it writes there its owner cannot read; anybody else would be refused."""
    os.chown(tmp_path, 12345, 12345)
    assert prepare_state_dir(tmp_path) is None
    assert f"state_dir {tmp_path} belongs to uid 12345, who cannot read what root writes there" in caplog.text


@pytest.mark.parametrize(
    ("text", "roles", "planned"),
    [
        ("dns: {listen: [], workers: 1}\nproxy: {workers: 2}", ("dns", "proxy"), [("proxy", 0), ("proxy", 1)]),
        ("proxy: {listen: [], workers: 2}\ndns: {workers: 1}", ("dns", "proxy"), [("dns", 0)]),
        ("proxy: {listen: []}\ndns: {listen: []}", ("dns", "proxy"), []),
        ("proxy: {listen: []}", ("proxy",), []),
    ],
    ids=["no DNS", "no proxy", "neither", "not what was asked for"],
)
def test_roles_that_listen_nowhere(
    tmp_path: Path, text: str, roles: tuple[str, ...], planned: list[tuple[str, int]]
) -> None:
    """A role without a place to listen has no workers."""
    supervisor = Supervisor(a_config(tmp_path, text), roles, lambda: None, lambda _: None)
    assert supervisor._plan() == planned


async def test_a_token_that_is_no_good_stops_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is served before somebody has looked at it."""
    config = a_config(tmp_path, 'state_dir: .\ncontrol: {listen: "127.0.0.1:0"}\nproxy: {listen: ["127.0.0.1:0"]}\n')
    (tmp_path / "control.token").write_text("weak")
    assert await Supervisor(config, ("proxy",), lambda: None, lambda _: None).run() == EXIT_CONFIG
    (line,) = [message for message in caplog.messages if message.startswith("control: ")]
    assert "control.token holds no token of at least 32 letters and digits" in line


async def test_nothing_to_serve(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With no place to listen at all, the service does not start, and one line says which keys are empty."""
    supervisor = Supervisor(
        a_config(tmp_path, "proxy: {listen: []}\ndns: {listen: []}"), ("dns", "proxy"), lambda: None, lambda _: None
    )
    assert await supervisor.run() == EXIT_CONFIG
    (line,) = caplog.messages
    assert line.endswith("gateway.yaml: dns.listen and proxy.listen: empty, so there is nothing to serve")


@dataclass
class ToldInBetween(Supervisor):
    """Is told to stop while it starts a worker that died, and has ended the others before that one is there."""

    begun: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def _spawn(self, role: str, index: int) -> tuple[asyncio.subprocess.Process, asyncio.Future[bool]]:
        process, ready = await super()._spawn(role, index)
        self.begun.append(process)
        if len(self.begun) == 1:
            self.on_ready = process.kill
        else:
            self._stopping.set()
            while not self._board.draining:  # noqa: ASYNC110 -- nobody tells of it
                await asyncio.sleep(0)
        return process, ready


async def test_a_worker_that_was_being_started_ends_with_the_others(tmp_path: Path) -> None:
    """Nobody is left who serves, and the service comes to its end."""
    config = a_config(tmp_path, 'state_dir: .\nproxy: {listen: ["127.0.0.1:0"], workers: 1}\n')
    supervisor = ToldInBetween(config, ("proxy",), lambda: None, lambda _: None)
    async with asyncio.timeout(60):
        assert await supervisor.run() == 0
    assert len(supervisor.begun) == 2
    assert all(process.returncode is not None for process in supervisor.begun)


def test_what_a_reload_does_not_change_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another place to listen, and another number of workers, wait for a restart, and say so."""
    supervisor = Supervisor(a_config(tmp_path, "dns: {workers: 1}\n"), ("dns",), lambda: None, lambda _: None)
    supervisor._put_in_force(a_config(tmp_path, "dns: {workers: 1}\n"))
    assert "at the next start" not in caplog.text
    supervisor._put_in_force(a_config(tmp_path, 'dns: {workers: 2, listen: ["udp://127.0.0.1:1"]}\n'))
    assert "listeners changed: they take effect at the next start" in caplog.text
    assert "numbers of workers changed: they take effect at the next start" in caplog.text


async def test_a_worker_that_cannot_be_started_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When there is no process more, the others go on, and it is tried again; no descriptor is lost on it."""
    config = a_config(tmp_path, 'state_dir: .\nproxy: {listen: ["127.0.0.1:0"], workers: 1}\n')
    supervisor = Supervisor(config, ("proxy",), lambda: None, lambda _: None)
    start, tries = asyncio.create_subprocess_exec, 0

    async def short(*argv: str, **given: Any) -> asyncio.subprocess.Process:
        """Start something that serves and dies at once, but for the second time."""
        nonlocal tries
        tries += 1
        if tries == 2:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        if tries == 3:
            supervisor._stopping.set()
        ready = argv[argv.index("--ready-fd") + 1]
        return await start(sys.executable, "-I", "-S", "-c", f"import os; os.write({ready}, b'!')", **given)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", short)
    monkeypatch.setattr("gateway.service._FIRST_PAUSE", 0.01)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with asyncio.timeout(60):
        assert await supervisor.run() == 0
    assert tries == 3
    assert any("cannot be started: Resource temporarily unavailable; trying" in line for line in caplog.messages)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


_HEARS = (
    "import os, signal, sys; ready, go = map(int, sys.argv[1:]); os.read(go, 1);"
    "signal.signal(signal.SIGHUP, lambda *_: os._exit(7)); os.write(ready, b'!'); signal.pause()"
)


async def test_a_worker_that_is_being_started_is_told_of_a_reload_once_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, the signal would end it, and with it a service that has only just begun."""
    text = 'state_dir: .\nproxy: {listen: ["127.0.0.1:0"], workers: 1}\n'
    supervisor = Supervisor(a_config(tmp_path, text), ("proxy",), lambda: None, lambda _: None)
    start, loop, tries = asyncio.create_subprocess_exec, asyncio.get_running_loop(), 0
    go, tell = os.pipe()

    def reload() -> None:
        supervisor._put_in_force(a_config(tmp_path, text))
        os.write(tell, b"!")

    async def slow(*argv: str, pass_fds: tuple[int, ...], **given: Any) -> asyncio.subprocess.Process:
        """Start something that listens once there was a reload, and ends when it hears of it."""
        nonlocal tries
        tries += 1
        if tries == 2:
            supervisor._stopping.set()
            raise BlockingIOError(errno.EAGAIN, "enough")
        ready = argv[argv.index("--ready-fd") + 1]
        begun = await start(
            *(sys.executable, "-I", "-S", "-c", _HEARS, ready, str(go)), pass_fds=(*pass_fds, go), **given
        )
        loop.call_soon(reload)
        return begun

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    monkeypatch.setattr("gateway.service._FIRST_PAUSE", 0.01)
    async with asyncio.timeout(60):
        assert await supervisor.run() == 0
    os.close(go)
    os.close(tell)
    assert any("died (exit code 7)" in line for line in caplog.messages)


async def test_a_worker_for_which_there_are_no_descriptors_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are short, each further try would leave less."""
    config = a_config(tmp_path, 'state_dir: .\nproxy: {listen: ["127.0.0.1:0"], workers: 1}\n')
    supervisor = Supervisor(config, ("proxy",), lambda: None, lambda _: None)
    pipe, pipes = os.pipe, 0

    def last() -> tuple[int, int]:
        """Return one pipe, and no other."""
        nonlocal pipes
        pipes += 1
        if pipes > 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return pipe()

    monkeypatch.setattr(os, "pipe", last)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(OSError, match="Too many open files"):
        await supervisor._spawn("proxy", 0)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
