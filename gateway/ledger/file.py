"""One growing file of whole lines: appending, rotating, removing what is old.

Errors are `OSError` and leave the file with whole lines; whoever calls tries again. One process writes one file, but
should a second one ever use the same name, lines still never mix: each batch is one write in append mode.
"""

import logging
import math
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path

_LOG = logging.getLogger(__name__)

DAY = 86400.0
SUFFIX = ".jsonl"
_NAME = re.compile(r"(?P<stream>[a-z][a-z-]*-[0-9]+)(?:\.(?P<rotated>[0-9]{8}T[0-9]{12}Z))?\.jsonl\Z")
_STARTS = re.compile(rb'\{"@timestamp":"([0-9T:.-]{23})Z"')


def stream_of(name: str) -> tuple[str, str] | None:
    """Split a file name into `<role>-<worker>` and the time of its rotation (empty: still written to).

    >>> stream_of("dns-0.20260102T030405000000Z.jsonl"), stream_of("notes.txt")
    (('dns-0', '20260102T030405000000Z'), None)
    """
    match = _NAME.match(name)
    return (match["stream"], match["rotated"] or "") if match else None


class LedgerFile:
    """The file `<role>-<worker>.jsonl` of one process. Opened at the first use, and again when it was moved away."""

    def __init__(self, directory: Path, role: str, worker: int, *, rotate: int, keep: float) -> None:
        name = f"{role}-{worker}{SUFFIX}"
        if stream_of(name) is None:
            raise ValueError(f"a role is a lower-case word and a worker a number, not {role!r} and {worker!r}")
        self.path = directory / name
        self._rotate = rotate
        self._keep = keep
        self._fd = -1
        self._size = 0
        self._started = 0.0
        self._torn = False
        self._swept = -math.inf

    def append(self, lines: bytes, now: float) -> int:
        """Write lines, and return how many octets are in the file for good: whole lines, at least one of them.

        Raises:
            OSError: not one line could be written. The file is as it was.
        """
        self._open(now)
        if self._size and (self._size + len(lines) > self._rotate or now - self._started >= DAY):
            try:
                self._turn(now)
            except OSError as error:  # a file that is too large is better than a line that is not written
                _LOG.warning("ledger: cannot rotate %s: %s", self.path, error)
            self._open(now)
        if self._torn:
            os.write(self._fd, b"\n")
            self._torn = False
        if not (start := os.fstat(self._fd).st_size):
            self._started = now
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._fd, memoryview(lines)[written:])
        except OSError:
            # Part of a line may be there: the disk was full in the middle of it.
            whole = lines.rfind(b"\n", 0, written) + 1
            if written > whole:
                self._cut(start + whole, start + written)
            if not whole:
                raise
            written = whole
        self._size = start + written
        return written

    def maintain(self, now: float) -> None:
        """Rotate a file that is a day old, and once an hour remove files older than `keep`.

        Rotating daily, too, is what lets a quiet worker's old lines go in time.

        Raises:
            OSError: the folder cannot be used.
        """
        self._open(now)
        if self._size and now - self._started >= DAY:
            self._turn(now)
        if not 0 <= now - self._swept < 3600:
            self._swept = now
            self._sweep(now)

    def close(self) -> None:
        """Close the file. Using it again opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, now: float) -> None:
        """Make sure that the open file is the one under our name: it, or its folder, may have been removed."""
        if self._fd >= 0:
            try:
                there, ours = self.path.stat(), os.fstat(self._fd)
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    return
            except FileNotFoundError:
                pass
            self.close()
        for folder in (self.path.parent.parent, self.path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size
        self._torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"  # a crash left half a line
        head = _STARTS.match(os.pread(self._fd, 64, 0))
        self._started = datetime.fromisoformat(head[1].decode() + "+00:00").timestamp() if head else now

    def _cut(self, whole: int, end: int) -> None:
        """Take back the first half of a line; if that is impossible, the next write starts on a line of its own."""
        try:
            if os.fstat(self._fd).st_size == end:
                os.ftruncate(self._fd, whole)
                return
        except OSError:
            pass
        self._torn = True

    def _turn(self, now: float) -> None:
        """Move the file to a name with the time in it. The next use starts a new one."""
        moment = int(now * 1_000_000)
        while True:
            text = datetime.fromtimestamp(moment / 1_000_000, UTC).strftime("%Y%m%dT%H%M%S%fZ")
            target = self.path.with_name(f"{self.path.stem}.{text}{SUFFIX}")
            if not target.exists():
                break
            moment += 1_000  # rename would replace it
        self.path.rename(target)
        self.close()

    def _sweep(self, now: float) -> None:
        """Remove files, whoever's, that were last written to longer ago than `keep`. Their lines are older still."""
        for path in self.path.parent.iterdir():
            if stream_of(path.name) is None or path == self.path:
                continue
            try:
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and now - status.st_mtime > self._keep:
                    path.unlink()
            except FileNotFoundError:
                pass  # another worker was quicker
            except OSError as error:
                _LOG.warning("ledger: cannot remove %s, which is older than ledger.keep: %s", path, error)
