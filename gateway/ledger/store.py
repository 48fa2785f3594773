"""Reading the ledger: the files of all roles and workers as one stream in the order of time.

Reads while others write and rotate. Torn lines (a crash in the middle of a write) and lines that are no events are
counted and passed over. Memory does not grow with the size of the ledger.
"""

import heapq
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gateway.ledger.event import Event
from gateway.ledger.file import stream_of
from gateway.ledger.text import timestamp

_LONGEST = 1 << 20  # octets; a longer line is none of ours, and is not to fill the memory
_SLACK = 120.0  # seconds by which lines of one file may be out of order (clock steps)
_HEAD = b'{"@timestamp":"'


def parse(line: bytes) -> Event | None:
    """Read one line; None when it is no event."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("@timestamp"), str) else None


class _Tail:
    """An open file, of which whole lines are taken as they come."""

    def __init__(self, handle: BinaryIO, name: str) -> None:
        self.handle = handle
        self.name = name
        status = os.fstat(handle.fileno())
        self.identity = (status.st_dev, status.st_ino)
        self._skipping = False
        self.skipped = 0

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines that are there; a last one without its newline stays for the next time."""
        while True:
            start = self.handle.tell()
            line = self.handle.readline(_LONGEST)
            if not line.endswith(b"\n"):
                if len(line) < _LONGEST:
                    if not self._skipping:
                        self.handle.seek(start)
                    return
                self._skipping = True  # too long: the rest is passed over, too
            elif self._skipping:
                self._skipping = False
                self.skipped += 1
            elif line != b"\n":
                yield line

    def rest(self) -> bytes:
        """Return what is left of a line whose end will never come."""
        return self.handle.read(_LONGEST)


class Store:
    """The ledger in a folder. One reading at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tails: dict[tuple[int, int], _Tail] = {}
        self._done: set[str] = set()
        self._since = b""
        self.unreadable = 0
        """Lines passed over so far because they are torn or no events."""

    def read(self, *, since: float | None = None, until: float | None = None) -> Iterator[Event]:
        """Yield the events there are, in the order of time, with `since` <= time < `until` (seconds since the epoch).

        A missing folder is an empty ledger.
        """
        try:
            yield from self._history(since, until)
        finally:
            self._close()

    def follow(
        self,
        *,
        since: float | None = None,
        stop: Callable[[], bool] = lambda: False,
        poll: float = 0.25,
        pause: Callable[[float], object] = time.sleep,
    ) -> Iterator[Event]:
        """Yield the events there are, and then those that are added, until `stop` says so. None twice.

        What is added between two looks comes in the order of time.
        """
        try:
            yield from self._history(since, None)
            while not stop():
                fresh = list(self._added())
                fresh.sort(key=_time)
                yield from fresh
                if not fresh:
                    pause(poll)
        finally:
            self._close()

    # -- what is there -----------------------------------------------------------------------------------------

    def _history(self, since: float | None, until: float | None) -> Iterator[Event]:
        self._since = timestamp(since).encode() if since is not None else b""
        last = timestamp(until) if until is not None else None
        # First the files still written to: once open, they stay ours when they are moved. What is moved between
        # the two looks turns up in the second under its new name.
        for name in self._names(rotated=False):
            self._track(name)
        streams: dict[str, list[str | _Tail]] = {}
        for name in self._names(rotated=True):
            self._done.add(name)
            path = self._directory / name
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # too old, and removed just now
            if (status.st_dev, status.st_ino) in self._tails or (since is not None and status.st_mtime < since):
                continue
            streams.setdefault(_stream(name), []).append(name)
        for tail in self._tails.values():
            streams.setdefault(_stream(tail.name), []).append(tail)
        for event in heapq.merge(
            *(self._timed(parts, until) for parts in streams.values()), key=lambda pair: pair[0]
        ):
            if last is None or _time(event[1]) < last:
                yield event[1]

    def _timed(self, parts: list[str | _Tail], until: float | None) -> Iterator[tuple[str, Event]]:
        """Yield the events of one worker, with times that never fall: merging needs that, and clocks are set back."""
        latest = ""
        end = timestamp(until + _SLACK) if until is not None else None
        for part in parts:
            for event in self._events(part) if isinstance(part, _Tail) else self._rotated(part):
                latest = max(latest, _time(event))
                if end is not None and latest >= end:
                    return
                yield latest, event

    def _rotated(self, name: str) -> Iterator[Event]:
        try:
            handle = (self._directory / name).open("rb")
        except FileNotFoundError:
            return
        with handle:
            tail = _Tail(handle, name)
            yield from self._events(tail)
            self.unreadable += bool(tail.rest())

    def _events(self, tail: _Tail) -> Iterator[Event]:
        since = self._since
        for line in tail.lines():
            # The time is at the same place in every line of ours: most of a large file is passed over unparsed.
            if since and line.startswith(_HEAD) and line[15:39] < since:
                continue
            event = parse(line)
            if event is None:
                self.unreadable += 1
            elif not since or _time(event).encode("ascii", "replace") >= since:
                yield event
        self.unreadable += tail.skipped
        tail.skipped = 0

    # -- what is added -----------------------------------------------------------------------------------------

    def _added(self) -> Iterator[Event]:
        """Yield what was added since the last look, and keep track of files that come, move and go."""
        names: dict[tuple[int, int], str] = {}
        for name in (*self._names(rotated=True), *self._names(rotated=False)):
            if name in self._done:
                continue
            try:
                status = (self._directory / name).stat()
            except FileNotFoundError:
                continue
            names[status.st_dev, status.st_ino] = name
            if (status.st_dev, status.st_ino) not in self._tails:
                self._track(name)
        for identity, tail in list(self._tails.items()):
            yield from self._events(tail)
            name = names.get(identity, "")
            # A file that was moved during this look is under neither name: it turns up in the next one.
            moved = bool(name) and not _is_written_to(name)
            if moved or not os.fstat(tail.handle.fileno()).st_nlink:
                # Its writer was done with it before it was moved, and we have read it to the end since.
                if moved:
                    self._done.add(name)
                self.unreadable += bool(tail.rest())
                tail.handle.close()
                del self._tails[identity]

    def _track(self, name: str) -> None:
        try:
            handle = (self._directory / name).open("rb")
        except FileNotFoundError:
            return
        tail = _Tail(handle, name)
        # The name may have come to mean another file since it was looked up; that one may be known already.
        if tail.identity in self._tails:
            handle.close()
        else:
            self._tails[tail.identity] = tail

    def _names(self, *, rotated: bool) -> list[str]:
        """Return the names of ledger files; by the time of rotation within each worker."""
        try:
            names = [path.name for path in self._directory.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if stream_of(name) and _is_written_to(name) is not rotated)

    def _close(self) -> None:
        for tail in self._tails.values():
            tail.handle.close()
        self._tails.clear()
        self._done.clear()


def _stream(name: str) -> str:
    parts = stream_of(name)
    return parts[0] if parts else name


def _is_written_to(name: str) -> bool:
    parts = stream_of(name)
    return parts is not None and not parts[1]


def _time(event: Event) -> str:
    return str(event["@timestamp"])
