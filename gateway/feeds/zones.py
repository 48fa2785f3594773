"""Response policy zones of the lists in force, as files that a server can send without reading the lists again.

A zone is a folder: `SERIAL.owners` holds the owner names, sorted, one a line, and `index.json` says which serial is
the newest. A few old ones stay, so that who has one of them is sent what has changed (IXFR). Sorted files are
compared line by line: however large a zone is, sending it needs little memory.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.feeds.export import Exported, owners
from gateway.feeds.store import write_atomically

KEPT = 8
"""Serials that differences can be asked from."""
PASSES = b"\t!"
"""Behind an owner that lets its name through."""
_INDEX = "index.json"
_SUFFIX = ".owners"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneIndex:
    """What there is of a zone."""

    serial: int
    made_of: str
    """What the newest was made of: with the same, it need not be made again."""
    digest: str
    serials: tuple[int, ...]
    """All that are there, the newest last."""


def zone_folder(state_dir: Path, zone: str) -> Path:
    """Return where the files of a zone are."""
    return state_dir / "zones" / zone


def read_index(folder: Path) -> ZoneIndex | None:
    """Return what there is of a zone; None when there is nothing yet."""
    try:
        data = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return ZoneIndex(**{**data, "serials": tuple(int(serial) for serial in data["serials"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_zone(folder: Path, found: Exported, *, made_of: str, now: float, longest: int) -> ZoneIndex:
    """Write what is in force, under a new serial if it is not what is there. Raises OSError.

    `longest` is how long an owner may be, because the name of the zone comes behind it.
    """
    before = read_index(folder)
    lines = sorted(
        owner.encode("ascii") + (PASSES if passes else b"")
        for owner, passes in owners(found)
        if len(owner) <= longest
    )
    data = b"".join(line + b"\n" for line in lines)
    digest = hashlib.sha256(data).hexdigest()
    if before is not None and before.digest == digest:
        index = ZoneIndex(serial=before.serial, made_of=made_of, digest=digest, serials=before.serials)
    else:
        # Seconds since the epoch tell a reader when; they grow, but for clocks that are set back (RFC 1982).
        serial = max(int(now), before.serial + 1 if before is not None else 1) & 0xFFFFFFFF
        serials = ((*before.serials, serial) if before is not None else (serial,))[-KEPT:]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(folder / f"{serial}{_SUFFIX}", data)
        index = ZoneIndex(serial=serial, made_of=made_of, digest=digest, serials=serials)
    write_atomically(folder / _INDEX, json.dumps(asdict(index)).encode())
    for path in folder.glob(f"*{_SUFFIX}"):
        if path.stem not in map(str, index.serials):
            with contextlib.suppress(OSError):  # it stays until the next time
                path.unlink()
    return index


def read_owners(folder: Path, serial: int) -> Iterator[bytes]:
    """Yield the lines of a serial, sorted. Raises OSError."""
    with (folder / f"{serial}{_SUFFIX}").open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def difference(folder: Path, old: int, new: int) -> Iterator[bytes]:
    """Yield the lines that are in one serial and not in the other. Raises OSError."""
    others = read_owners(folder, new)
    other = next(others, None)
    for line in read_owners(folder, old):
        while other is not None and other < line:
            other = next(others, None)
        if other == line:
            other = next(others, None)
        else:
            yield line
