"""The supervisor: one parent that starts worker processes, restarts what dies, passes signals on, drains.

It serves no traffic itself. Workers share their ports (SO_REUSEPORT), so the parent looks first whether somebody else
holds one: the kernel would let a second gateway join silently and take half of the traffic.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.binding import remedy
from gateway.config import EXIT_CONFIG, Config, load
from gateway.control.board import Board
from gateway.control.station import Station
from gateway.control.token import TokenError
from gateway.dns.certificate import certificate_problem
from gateway.document import ConfigError
from gateway.proxy.tls import TlsFiles, tls_problem

_LOG = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
"""How long workers may take to finish what they have begun."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0  # between restarts of a worker that keeps dying
_HEALTHY_SECONDS = 60.0  # a worker that lived this long starts again without a pause
_SECRET = 32  # octets, that workers are told


@dataclass(frozen=True, slots=True)
class Listener:
    """A place to listen, as the parent checks it."""

    kind: socket.SocketKind
    host: str
    port: int

    def __str__(self) -> str:
        protocol = "udp" if self.kind is socket.SOCK_DGRAM else "tcp"
        return f"{protocol} {f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def listeners(config: Config, roles: tuple[str, ...]) -> Iterator[Listener]:
    """Yield every place that the roles will listen on."""
    if "dns" in roles:
        for url in config.file.dns.listen:
            scheme, _, rest = url.partition("://")
            kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
            yield _listener(kind, rest.partition("/")[0])
    if "proxy" in roles:
        for authority in config.file.proxy.listen:
            yield _listener(socket.SOCK_STREAM, authority.removeprefix("tls://"))
    for address, port in config.control_places:
        yield Listener(socket.SOCK_STREAM, str(address), port)


def _listener(kind: socket.SocketKind, authority: str) -> Listener:
    host, _, port = authority.rpartition(":")
    return Listener(kind, host.strip("[]"), int(port))


def listen_problem(listener: Listener) -> str | None:
    """Try to bind a listener alone; return what is in the way and what to do, or None."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with socket.socket(family, listener.kind) as probe:
        if listener.kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((listener.host, listener.port))
        except OSError as error:
            return f"cannot listen on {listener}: {remedy(error, listener.kind, listener.port)}"
    return None


def worker_count(setting: int | str) -> int:
    """Return the number of worker processes: `auto` is one for each core this process may use."""
    return len(os.sched_getaffinity(0)) if setting == "auto" else int(setting)


class StartError(Exception):
    """A worker could not start, and said why on standard error."""


@dataclass(slots=True)
class Supervisor:
    """Keeps the workers of some roles running until told to stop."""

    config: Config
    roles: tuple[str, ...]
    on_ready: Callable[[], None]
    prepare: Callable[[Config], str | None]
    """Brings the snapshot up to date with a configuration, in another thread; returns what is in the way, or None."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reloads: set[asyncio.Task[None]] = field(default_factory=set)
    _workers: dict[tuple[str, int], asyncio.subprocess.Process] = field(default_factory=dict)
    _serving: dict[tuple[str, int], asyncio.subprocess.Process] = field(default_factory=dict)
    """Those of them that have said so: a signal to reload would end one that does not listen for it yet."""
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(_SECRET), repr=False)
    """What the workers of this run have in common and nobody else knows: DNS cookies are made with it."""
    _board: Board = field(init=False)
    _station: Station | None = None
    """Answers for health and metrics, if the configuration has `control`."""

    def __post_init__(self) -> None:
        self._board = Board.of(self._plan())

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT. Returns the exit code."""
        if not self._plan():
            keys = " and ".join(f"{role}.listen" for role in self.roles)
            _LOG.error("%s: %s: empty, so there is nothing to serve", self.config.path, keys)
            return EXIT_CONFIG
        problems = [found for listener in listeners(self.config, self.roles) if (found := listen_problem(listener))]
        if "dns" in self.roles and (found := certificate_problem(self.config.dns_certificate)):
            problems.append(found)
        files = self.config.proxy_tls
        if "proxy" in self.roles and (found := tls_problem(None if files is None else TlsFiles(*files))):
            problems.append(found)
        if problems:
            for problem in problems:
                _LOG.error("%s", problem)
            return EXIT_CONFIG
        try:
            await self._open_station()
        except (TokenError, OSError) as error:
            _LOG.error("control: %s", error)
            return EXIT_CONFIG
        try:
            return await self._serve()
        finally:
            if self._station is not None:
                await self._station.close()

    async def _open_station(self) -> None:
        if self.config.file.control is not None:
            self._station = Station(self.config, self._board)
            await self._station.start()

    async def _serve(self) -> int:
        """Keep the workers running until told to stop. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        code = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                started = [
                    loop.create_future() for _ in self._plan()
                ]  # one for each worker: set when it serves for the first time
                for (role, index), future in zip(self._plan(), started, strict=True):
                    tasks.create_task(self._keep(role, index, future))
                await asyncio.gather(*started)
                if not self._stopping.is_set():
                    self.on_ready()
                await self._stopping.wait()
                await self._drain()
        except* StartError as group:
            for error in group.exceptions:
                _LOG.error("%s", error)
            code = EXIT_CONFIG
            await self._drain()
        return code

    def _plan(self) -> list[tuple[str, int]]:
        sizes = _sizes(self.config)
        listens = {"dns": self.config.file.dns.listen, "proxy": self.config.file.proxy.listen}
        roles = [role for role in self.roles if listens[role]]
        return [(role, index) for role in roles for index in range(worker_count(sizes[role]))]

    async def _keep(self, role: str, index: int, started: asyncio.Future[None]) -> None:
        """Start a worker and start it again whenever it dies."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            born, seen = loop.time(), self.config
            try:
                process, ready = await self._spawn(role, index)
            except OSError as error:  # no memory at the moment, or no process more
                why = error.strerror or error
                if not started.done():
                    raise StartError(f"{role} worker {index} cannot be started: {why}") from None
                pause = min(pause * 2, _LONGEST_PAUSE)
                _LOG.error("%s worker %s cannot be started: %s; trying again in %.1fs", role, index, why, pause)
                await self._rest(pause)
                continue
            self._workers[role, index] = process
            if self._stopping.is_set():  # since it was begun: whoever ends the workers did not see this one
                _send(process, signal.SIGTERM)
            self._board.born(role, index, process.pid)
            if await ready:
                self._board.serves(role, index)
                self._serving[role, index] = process
                if self.config is not seen:  # it may have read the old policy, and was not told of the new one
                    _send(process, signal.SIGHUP)
                if not started.done():
                    started.set_result(None)
            code = await process.wait()
            del self._workers[role, index]
            self._serving.pop((role, index), None)
            self._board.died(role, index)
            if self._stopping.is_set():
                break
            if not started.done():
                raise StartError(f"{role} worker {index} ended with code {code} before it served")
            pause = _FIRST_PAUSE if loop.time() - born > _HEALTHY_SECONDS else min(pause * 2, _LONGEST_PAUSE)
            _LOG.error("%s worker %s died (%s); starting it again in %.1fs", role, index, _cause(code), pause)
            await self._rest(pause)
        if not started.done():
            started.set_result(None)

    async def _rest(self, seconds: float) -> None:
        """Wait for a while, or until everything is to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _spawn(self, role: str, index: int) -> tuple[asyncio.subprocess.Process, asyncio.Future[bool]]:
        """Start one worker. Its standard input is a lifeline: when this process is gone, the worker sees its end."""
        station = self._station
        counting = () if station is None else ("--counters-fd", str(station.descriptor))
        with contextlib.ExitStack() as given, contextlib.ExitStack() as unless_started:
            read_end, write_end = os.pipe()
            unless_started.callback(os.close, read_end)
            given.callback(os.close, write_end)
            told, tell = os.pipe()
            given.callback(os.close, told)
            os.write(tell, self._secret)
            os.close(tell)
            process = await asyncio.create_subprocess_exec(
                # -P: not what lies in the folder that the gateway is started in, which -m looks through first
                *(sys.executable, "-P", "-m", "gateway.worker", "--config", str(self.config.path)),
                *("--role", role, "--index", str(index), "--ready-fd", str(write_end), "--secret-fd", str(told)),
                *(*counting, "--slot", str(self._board.number(role, index))),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(write_end, told) if station is None else (write_end, told, station.descriptor),
            )
            unless_started.pop_all()
        return process, _readable(read_end)

    def _begin_reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        async with self._reloading:
            try:
                config = await asyncio.to_thread(load, self.config.path)
                problems = [problem] if (problem := await asyncio.to_thread(self.prepare, config)) else []
            except ConfigError as error:
                problems = [str(problem) for problem in error.problems]
            if problems:
                for line in problems:
                    _LOG.error("%s", line)
                _LOG.error("reload refused: the old policy stays in force")
                self._board.reloaded(refused=True)
                return
            self._put_in_force(config)

    def _put_in_force(self, config: Config) -> None:
        if tuple(listeners(config, self.roles)) != tuple(listeners(self.config, self.roles)):
            _LOG.warning("listeners changed: they take effect at the next start")
        if _sizes(config) != _sizes(self.config):
            _LOG.warning("numbers of workers changed: they take effect at the next start")
        self.config = config
        self._board.reloaded(refused=False)
        if self._station is not None:
            self._station.use(config)
        _LOG.info("reloading %s workers", len(self._workers))
        for process in self._serving.values():
            _send(process, signal.SIGHUP)

    async def _drain(self) -> None:
        """Ask all workers to finish, and end those that do not in time."""
        self._stopping.set()
        self._board.draining = True
        processes = list(self._workers.values())
        for process in processes:
            _send(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                for process in processes:
                    await process.wait()
        except TimeoutError:
            _LOG.error("some workers did not finish within %s s and are ended", DRAIN_SECONDS)
            for process in processes:
                _send(process, signal.SIGKILL)


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a worker, which may have died in this moment."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _readable(read_end: int) -> "asyncio.Future[bool]":
    """Return a future for the first octet from a pipe: true when one came, false at its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def on_readable() -> None:
        loop.remove_reader(read_end)
        told = bool(os.read(read_end, 1))
        os.close(read_end)
        if not future.done():  # whoever waited may have given up, because another worker cannot start
            future.set_result(told)

    loop.add_reader(read_end, on_readable)
    return future


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _sizes(config: Config) -> dict[str, int | str]:
    """Return how many workers each role is to have."""
    return {"dns": config.file.dns.workers, "proxy": config.file.proxy.workers}


def prepare_state_dir(state_dir: Path) -> str | None:
    """Create the state directory, private to its owner; return what is in the way, or None."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner, own = state_dir.stat().st_uid, os.geteuid()
        if own and owner != own:
            return f"state_dir {state_dir} belongs to another user (uid {owner}): run this as that user"
        if owner != own:
            _LOG.warning("state_dir %s belongs to uid %s, who cannot read what root writes there", state_dir, owner)
        state_dir.chmod(0o700)
    except OSError as error:
        return f"state_dir {state_dir} cannot be used: {error.strerror or error}; give another in the policy file"
    if not os.access(state_dir, os.W_OK | os.X_OK):
        return f"state_dir {state_dir} is not writable for this user; give another in the policy file"
    return None
