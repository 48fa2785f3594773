"""Where all workers of the service keep what names have told the outside: a file in the state directory that all map.

It outlives workers, reloads and restarts. Its blocks are reserved when it is made, so that a full disk cannot hurt
later; each window layout has a file of its own, so that nobody maps a file that another worker cuts.
"""

import fcntl
import logging
import mmap
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from gateway.tunnelling.accounts import KEY, SharedTable, size

_LOG = logging.getLogger(__name__)
_FOLDER = "tunnelling"


class FileLock:
    """A lock between processes, which the kernel takes from a process that dies. It may be taken again inside."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._depth = 0

    def __enter__(self) -> None:
        if not self._depth:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def open_table(state_dir: Path, seconds: Iterable[float]) -> SharedTable | None:
    """Return the table for windows of these lengths, a new one if there is none.

    None when there can be none, which is logged: each worker then has accounts of its own.
    """
    spans = sorted(set(seconds))
    folder = state_dir / _FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _key(folder / "key")
        return _map(folder / "-".join(["accounts", *(f"{span:g}" for span in spans)]), key, spans)
    except OSError as error:
        _LOG.error("accounts of what names tell are not shared between workers: %s", error)
        return None


def _key(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with FileLock(descriptor):
            key = os.pread(descriptor, KEY, 0)
            if len(key) < KEY:
                key = secrets.token_bytes(KEY)
                os.pwrite(descriptor, key, 0)
            return key
    finally:
        os.close(descriptor)


def _map(path: Path, key: bytes, spans: list[float]) -> SharedTable:
    octets = size(len(spans))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lock = FileLock(descriptor)
        with lock:
            if os.fstat(descriptor).st_size != octets or os.pread(descriptor, KEY, 0) != key:
                # Made just now, or cut short, or of another key: nobody has it mapped who could be served by it.
                os.posix_fallocate(descriptor, 0, octets)
                os.ftruncate(descriptor, octets)
                os.pwrite(descriptor, bytes(octets), 0)
                os.pwrite(descriptor, key, 0)
        # A lock that another descriptor of this process closes is gone, hence one that stays open.
        return SharedTable(memoryview(mmap.mmap(descriptor, octets)), spans, lock)
    except OSError:
        os.close(descriptor)
        raise
