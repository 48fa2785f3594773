"""The lock that one refresh at a time holds.

Opens and locks one file; writes nothing into it but its owner's process id.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path


class Busy(Exception):
    """Another refresh is running."""


@contextlib.asynccontextmanager
async def locked(path: Path, wait: float) -> AsyncIterator[None]:
    """Hold the lock. The kernel gives it back when the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            async with asyncio.timeout(wait):
                while not _lock(descriptor):  # noqa: ASYNC110  # the kernel has no event for this
                    await asyncio.sleep(0.1)
        except TimeoutError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise Busy(f"{path}: another refresh (process {owner}) has not ended within {wait:g} seconds") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
