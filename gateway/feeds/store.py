"""The copies of lists on disk, and what is known of each: `feeds/NAME/VERSION.list` and `feeds/NAME/state.json`.

Reads and writes files; does not judge them. A version is a digest of the content, so a copy is never changed, and a
damaged one is recognised. Everything is written beside its place and moved there: whatever the instant the power
goes, each file is the old one or the new one.
"""

import contextlib
import json
import mmap
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from gateway.feeds.formats.lines import blocks
from gateway.feeds.guards import version_of

SNAPSHOT = "snapshot.egs"
"""File name of the compiled lists in the state directory."""

_STATE = "state.json"
_COPY = ".list"
_TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedState:
    """What is known of the last good copy of a feed. Times are seconds since the epoch."""

    version: str
    format: str
    column: str | None = None
    url: str = ""
    """Where it came from; its validators mean nothing elsewhere."""
    etag: str = ""
    last_modified: str = ""
    entries: int = 0
    rejected: int = 0
    origin: str = ""
    """How it was proven to be the publisher's: see `gateway.feeds.catalog.Verify.origin`."""
    last_success: float = 0.0
    """When it was last known to be what the publisher has."""
    last_change: float = 0.0
    """When its content last changed."""

    @property
    def file(self) -> str:
        """Name of the copy."""
        return f"{self.version}{_COPY}"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what was stored. Raises ValueError when it cannot be what was."""
        try:
            state = cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(str(error)) from None
        texts = (state.version, state.format, state.url, state.etag, state.last_modified, state.origin)
        numbers = (state.entries, state.rejected, state.last_success, state.last_change)
        if not all(isinstance(value, str) for value in texts) or not state.version.isalnum():
            raise ValueError("a text is not one")
        if not all(isinstance(value, int | float) for value in numbers):
            raise ValueError("a number is not one")
        return state


def write_atomically(path: Path, data: bytes) -> None:
    """Put a file in its place, whole and on the disk, or leave what is there.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor, for its mode
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    # The name is on the disk once the folder is.
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """The copies in a state directory. One process at a time may change them (see `gateway.feeds.refresh`)."""

    def __init__(self, state_dir: Path) -> None:
        self.snapshot = state_dir / SNAPSHOT
        self._folder = state_dir / "feeds"

    def state(self, name: str, format: str, column: str | None) -> FeedState | None:
        """Return what is known of a feed, if its copy is there and undamaged.

        When the state file is lost, the newest sound copy is used, with nothing known of where it came from.
        """
        folder = self._folder / name
        try:
            state = FeedState.from_json((folder / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            state = None
        if state is not None and self._is_sound(folder / state.file, state.version):
            return state
        dated = sorted(((path.stat().st_mtime, path) for path in folder.glob(f"*{_COPY}")), reverse=True)
        for modified, path in dated:
            if self._is_sound(path, path.stem):
                return FeedState(
                    version=path.stem, format=format, column=column, last_success=modified, last_change=modified
                )
        return None

    def _is_sound(self, path: Path, version: str) -> bool:
        try:
            with _mapped(path) as data:
                return version_of(data) == version
        except OSError:
            return False

    def save_copy(self, name: str, data: bytes, state: FeedState) -> None:
        """Store a new copy, beside the last good one. Raises OSError."""
        folder = self._folder / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_sound(folder / state.file, state.version):
            write_atomically(folder / state.file, data)

    def save_state(self, name: str, state: FeedState) -> None:
        """Store that this copy, which is there, is the last good one. Raises OSError."""
        text = json.dumps(asdict(state), indent=1)
        write_atomically(self._folder / name / _STATE, text.encode())

    def open(self, name: str, state: FeedState) -> contextlib.AbstractContextManager[mmap.mmap | bytes]:
        """Map a copy. Raises OSError."""
        return _mapped(self._folder / name / state.file)

    def clean(self, in_use: Collection[tuple[str, str]]) -> None:
        """Remove all copies but those (name and version), and what interrupted writes left behind."""
        names = {name for name, _ in in_use}
        for folder in [path for path in self._folder.iterdir() if path.is_dir()]:
            for path in list(folder.iterdir()):
                kept = path.name == _STATE if folder.name in names else False
                if not kept and (folder.name, path.stem) not in in_use:
                    path.unlink()
            if folder.name not in names:
                folder.rmdir()


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""  # nothing cannot be mapped
            return
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield data
        finally:
            # A parser that was stopped half-way still looks at it; the map then goes when the parser does.
            with contextlib.suppress(BufferError):
                data.close()


def read_line(state_dir: Path, name: str, version: str, line: int) -> str | None:
    """Return a line of a list as it was published, from the stored copy; None when that copy is gone.

    For lists that are JSON documents, it is the item or object of that number. The text is a stranger's.
    """
    try:
        with _mapped(state_dir / "feeds" / name / f"{version}{_COPY}") as data:
            # No other format has a brace in front of everything.
            return _item(bytes(data), line) if data[:1] == b"{" else _line(data, line)
    except (OSError, ValueError):
        return None


def _line(data: mmap.mmap | bytes, line: int) -> str | None:
    before = 0
    for lines in blocks(data):
        if before < line <= before + len(lines):
            return lines[line - before - 1]
        before += len(lines)
    return None


def _item(data: bytes, number: int) -> str | None:
    document = json.loads(data.decode("utf-8-sig"))
    for key in ("list", "objects"):
        items = document.get(key) if isinstance(document, dict) else None
        if isinstance(items, list) and 0 < number <= len(items):
            item = items[number - 1]
            return item if isinstance(item, str) else json.dumps(item)
    return None
