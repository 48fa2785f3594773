"""Where all workers of the service keep what names have told the outside: a file in the state directory that all map.

It outlives workers, reloads and restarts. Its blocks are reserved when it is made, so that a full disk cannot hurt
later; windows of other lengths have a file of their own, which takes over what the one before held.
"""

import fcntl
import logging
import mmap
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from gateway.tunnelling.accounts import KEY, LAYOUT, SharedTable, size

_LOG = logging.getLogger(__name__)
_FOLDER = "tunnelling"
_START = KEY + len(LAYOUT)


class FileLock:
    """A lock between processes, which the kernel takes from a process that dies. It may be taken again inside."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._depth = 0

    def __enter__(self) -> None:
        if not self._depth:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def table_path(state_dir: Path, seconds: Iterable[float]) -> Path:
    """Return where the table for windows of these lengths is."""
    return state_dir / _FOLDER / "-".join(["accounts", *(f"{span:g}" for span in seconds)])


def open_table(state_dir: Path, seconds: Iterable[float], now: float) -> SharedTable | None:
    """Return the table for windows of these lengths, a new one if there is none.

    None when there can be none, which is logged: each worker then has accounts of its own.
    """
    spans = tuple(seconds)
    path = table_path(state_dir, spans)
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "key", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with FileLock(descriptor):  # one worker at a time, so that only one makes or takes over a table
                return _open(path, _key(descriptor), spans, now)
        finally:
            os.close(descriptor)
    except OSError as error:
        _LOG.error("accounts of what names tell are not shared between workers: %s", error)
        return None


def _key(descriptor: int) -> bytes:
    key = os.pread(descriptor, KEY, 0)
    if len(key) < KEY:
        key = secrets.token_bytes(KEY)
        os.pwrite(descriptor, key, 0)
    return key


def _open(path: Path, key: bytes, spans: tuple[float, ...], now: float) -> SharedTable:
    others = [other for other in path.parent.glob("accounts-*") if other != path]
    if path.exists() or not others:
        return _map(path, key, spans)
    before = max(others, key=lambda other: other.stat().st_mtime_ns)
    table = _map(path, key, spans)
    lengths = _lengths(before)
    if lengths and _is_whole(before, key, len(lengths)):
        former = _map(before, key, lengths)
        with former.lock, table.lock:
            table.adopt(now, former)
    for other in others:
        other.unlink()  # who has it mapped still goes on with it until the configuration is read there too
    return table


def _lengths(path: Path) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in path.name.split("-")[1:])
    except ValueError:
        return ()


def _is_whole(path: Path, key: bytes, spans: int) -> bool:
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size == size(spans) and file.read(_START) == key + LAYOUT


def _map(path: Path, key: bytes, spans: tuple[float, ...]) -> SharedTable:
    octets = size(len(spans))
    if path.exists() and not _is_whole(path, key, len(spans)):
        if path.stat().st_size:
            _LOG.warning("%s is torn, or of another version: accounts of what names tell begin anew", path)
        path.unlink()  # a file of its own, since somebody may have that one mapped
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not os.fstat(descriptor).st_size:
            try:
                os.posix_fallocate(descriptor, 0, octets)
                os.pwrite(descriptor, key + LAYOUT, 0)
            except OSError:
                path.unlink()  # what there was room for is for others
                raise
        # The lock is on the descriptor, which stays open.
        return SharedTable(memoryview(mmap.mmap(descriptor, octets)), spans, FileLock(descriptor))
    except OSError:
        os.close(descriptor)
        raise
