"""The snapshot file: how its octets are laid out, and the keys that entries are found by.

Pure: no I/O, no clock. Shared by the writer and the reader, so that neither can disagree with the other.

    header    magic, version, length of the meta data, length of the file, BLAKE2b checksum of all other octets
    key       16 random octets for the keyed hashes below
    meta      JSON, padded with spaces: the lists, and the names and lengths of the sections that follow
    sections  arrays in the byte order of the machine that wrote them, each padded to 8 octets

Sections: `hashes` (u64, sorted) and `refs` (u32, parallel to them) hold names, URLs and hosts of URLs; `filter` (u16)
answers "not listed" for most names without hashing them; `starts4`, `values4`, `highs6`, `lows6`, `values6` are
disjoint runs of addresses; `groups` holds the refs of runs that several ranges share; `broken` and `bounds` the
true ends of ranges that others cut into several runs.

A ref is flags and a line: lines are numbered through all lists, so that 32 bits say which list and which line of it.
"""

import itertools
import json
import struct
from collections.abc import Buffer, Mapping
from hashlib import blake2b
from typing import Any

MAGIC = b"EGWSNAP1"
VERSION = 1
"""Raised with every change of the layout: a snapshot is cheap to build again, so no reader reads an older one."""

KEY_LENGTH = 16

EXCEPTION = 1 << 31
EXACT = 1 << 30
BELOW = 1 << 29
HOST = 1 << 28
"""The list has URLs on exactly this host."""
PATH = 1 << 27
"""The key is host and path."""
LINE = (1 << 27) - 1
GROUP = 1 << 30
"""In the values of address runs: an index into `groups` (a count, and that many refs), not a ref."""

MAX_SEGMENTS = 64
"""Deepest path of a URL entry. Keeps a request with thousands of slashes from costing thousands of look-ups.

Entries that are deeper are not compiled, so looking at the first 64 segments of a request finds everything, and no
request escapes by a long path.
"""

FILTER_MASKS = tuple(
    sum(1 << bit for bit in bits) for bits in itertools.islice(itertools.combinations(range(16), 3), 0, 512, 2)
)
"""Three bits of a 16-bit filter word, by the top octet of a checksum."""

_HEADER = struct.Struct("=8sIIQ32s")
_CHECKSUM_AT = 24


class SnapshotError(ValueError):
    """A file is no snapshot that can be used. One line: what is wrong, and what to do about it."""


def hasher(key: bytes) -> "blake2b":
    """Return the keyed hash that turns an entry into 64 bits; copy it before each use.

    Keyed with random octets, so that nobody who writes a feed can make two of its entries collide on purpose. By
    chance, one look-up in 10^13 would find a stranger's entry in a snapshot of a million.
    """
    return blake2b(key=key, digest_size=8)


def octets(text: str) -> bytes:
    """Return the octets of a name or path; total, because names off the wire and paths may be anything."""
    return text.encode("utf-8", "surrogatepass")


def is_too_deep(path: str) -> bool:
    """Say whether a path has more segments than are ever looked at."""
    return path.partition("?")[0].count("/") > MAX_SEGMENTS


def pack(key: bytes, meta: Mapping[str, Any], sections: Mapping[str, Buffer]) -> bytes:
    """Return the file."""
    sizes = [(name, memoryview(data).nbytes) for name, data in sections.items()]
    text = json.dumps({**meta, "sections": sizes}, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-(_HEADER.size + KEY_LENGTH + len(text)) % 8)
    parts: list[Buffer] = [key, text]
    for (_, size), data in zip(sizes, sections.values(), strict=True):
        parts += [data, bytes(-size % 8)]
    total = _HEADER.size + sum(memoryview(part).nbytes for part in parts)
    head = _HEADER.pack(MAGIC, VERSION, len(text), total, b"")[:_CHECKSUM_AT]
    digest = blake2b(head, digest_size=32)
    for part in parts:
        digest.update(part)
    return b"".join([head, digest.digest(), *parts])


def unpack(data: memoryview) -> tuple[bytes, dict[str, Any], dict[str, memoryview]]:
    """Return key, meta data and sections of a file.

    Raises:
        SnapshotError: it is not a whole and undamaged snapshot of this version.
    """
    if not len(data):
        raise SnapshotError("is empty")
    if data[:8] != MAGIC[: len(data)]:
        raise SnapshotError("is not a list snapshot")
    if len(data) < _HEADER.size:
        raise SnapshotError("is cut short")
    _, version, meta_size, total, checksum = _HEADER.unpack_from(data)
    if version != VERSION:
        raise SnapshotError("was written by another release, or on another kind of machine")
    if len(data) != total:
        raise SnapshotError(f"is cut short or overlong: {len(data)} octets instead of {total}")
    digest = blake2b(data[:_CHECKSUM_AT], digest_size=32)
    digest.update(data[_HEADER.size :])
    if digest.digest() != checksum:
        raise SnapshotError("is damaged: the checksum does not fit")
    at = _HEADER.size + KEY_LENGTH
    key, meta = bytes(data[_HEADER.size : at]), json.loads(bytes(data[at : at + meta_size]))
    at += meta_size
    sections: dict[str, memoryview] = {}
    for name, size in meta["sections"]:
        sections[name] = data[at : at + size]
        at += size + -size % 8
    return key, meta, sections
