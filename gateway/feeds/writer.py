"""Building a snapshot: entries in, one file out.

Pure: no I/O, no clock; the random key and the time are arguments, so the same lists give the same octets.
"""

import itertools
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never
from zlib import crc32

from gateway.feeds import runs
from gateway.feeds.entry import Entry, NameEntry, PathEntry, RangeEntry
from gateway.feeds.layout import (
    BELOW,
    EXACT,
    EXCEPTION,
    FILTER_MASKS,
    GROUP,
    HOST,
    KEY_LENGTH,
    LINE,
    PATH,
    hasher,
    octets,
    pack,
)
from gateway.feeds.runs import Range, Run

_SCOPES = tuple((EXACT if scope & 1 else 0) | (BELOW if scope & 2 else 0) for scope in range(4))
_BUCKETS = 256
_LOW_64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class SourceList:
    """A list to go into a snapshot."""

    name: str
    version: str
    categories: tuple[str, ...]
    entries: "Iterable[Entry] | Hashed"
    source: str = ""
    """File name of the stored copy that the entries were read from."""


@dataclass(slots=True)
class _Added:
    """A list that went in."""

    name: str
    version: str
    categories: tuple[str, ...]
    source: str
    base: int
    """Number that its lines are counted on from."""
    entries: int = 0
    duplicates: int = 0
    has_exceptions: bool = False


class Hashed:
    """The entries of one list as a snapshot holds them, in 16 octets each. Reads them to their end.

    What is judged before it is compiled is so read once and not twice.

    Raises:
        ValueError: it has more lines than a snapshot can number.
    """

    def __init__(self, entries: Iterable[Entry], key: bytes) -> None:
        self.key = key
        # By the top octet of the hash: 256 small sorts need a fraction of the memory of one large one, and no
        # Python object for each entry: 12 octets in arrays, where a list of tuples takes 150.
        self.hashes = [array("Q") for _ in range(_BUCKETS)]
        self.refs = [array("I") for _ in range(_BUCKETS)]
        """Flags, and lines of this list."""
        self.checksums = array("I")
        self.ranges: dict[int, list[Range]] = {4: [], 6: []}
        self.lines = 0
        """The last line that has an entry."""
        self.entries = 0
        self.has_exceptions = False
        self._hasher = hasher(key)
        last_host = ""
        for entry in entries:
            line = entry.line
            if line > self.lines:
                self.lines = line
                if line > LINE:
                    raise ValueError(f"has more than {LINE} lines")
            self.entries += 1
            ref = line
            if entry.exception:
                self.has_exceptions = True
                ref |= EXCEPTION
            if isinstance(entry, NameEntry):
                self._put_name(entry.name, ref | _SCOPES[entry.scope])
            elif isinstance(entry, PathEntry):
                self._put(path := octets(entry.host + entry.path), crc32(path), ref | PATH)
                if entry.host != last_host and not entry.exception:
                    self._put_name(entry.host, line | HOST)
                    last_host = entry.host
            elif isinstance(entry, RangeEntry):
                self.ranges[entry.version].append(Range(entry.first, entry.last, ref))
            else:
                assert_never(entry)

    def _put_name(self, name: str, ref: int) -> None:
        # The checksum goes from the right, label by label, so that a look-up gets those of all parents in one pass.
        key = octets(name)
        checksum = 0
        for label in reversed(key.split(b".")):
            checksum = crc32(label, checksum)
        self._put(key, checksum, ref)

    def _put(self, key: bytes, checksum: int, ref: int) -> None:
        hashed = self._hasher.copy()
        hashed.update(key)
        digest = hashed.digest()
        bucket = digest[7]
        self.hashes[bucket].append(int.from_bytes(digest, "little"))
        self.refs[bucket].append(ref)
        self.checksums.append(checksum)


class Writer:
    """Takes lists one after the other, each only once it has been read to its end, and makes the file."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_LENGTH:
            raise ValueError(f"the key of a snapshot has {KEY_LENGTH} octets")
        self._key = key
        self._hashes = [array("Q") for _ in range(_BUCKETS)]
        self._refs = [array("I") for _ in range(_BUCKETS)]
        self._checksums = array("I")
        self._ranges: dict[int, list[Range]] = {4: [], 6: []}
        self._lists: list[_Added] = []
        self._bases: list[int] = []
        self._lines = 0
        self._sections: dict[str, array[int]] = {}

    def add(self, source: SourceList) -> None:
        """Take the entries of a list.

        Raises:
            ValueError: all lists together have more lines than a snapshot can number.
        """
        hashed = source.entries if isinstance(source.entries, Hashed) else Hashed(source.entries, self._key)
        if hashed.key != self._key:
            raise ValueError("the entries were hashed with another key")
        base = self._lines
        if base + hashed.lines > LINE:
            raise ValueError(f"all lists together have more than {LINE} lines")
        added = _Added(source.name, source.version, source.categories, source.source, base)
        added.entries, added.has_exceptions = hashed.entries, hashed.has_exceptions
        self._lists.append(added)
        self._bases.append(base)
        self._lines = base + hashed.lines
        for mine, its in zip(self._hashes, hashed.hashes, strict=True):
            mine.extend(its)
        for mine, its in zip(self._refs, hashed.refs, strict=True):
            mine.extend(array("I", [ref + base for ref in its]) if base else its)
        self._checksums.extend(hashed.checksums)
        for version, ranges in hashed.ranges.items():
            self._ranges[version] += [item._replace(ref=item.ref + base) for item in ranges] if base else ranges

    def settle(self) -> dict[str, int]:
        """Take no more lists; return how many entries each has more than once, beyond the first."""
        self._sections["hashes"], self._sections["refs"] = self._sort()
        self._sections["filter"] = self._filter()
        self._sections.update(self._addresses())
        return {item.name: item.duplicates for item in self._lists}

    def finish(self, created: float, notes: Mapping[str, Any] | None = None) -> bytes:
        """Return the file, after `settle`. `notes` is anything that goes into JSON, for whoever opens it."""
        meta = {
            "created": created,
            "lists": [
                {
                    "name": item.name,
                    "version": item.version,
                    "categories": item.categories,
                    "source": item.source,
                    "base": item.base,
                    "entries": item.entries - item.duplicates,
                    "exceptions": item.has_exceptions,
                }
                for item in self._lists
            ],
            "notes": dict(notes or {}),
        }
        return pack(self._key, meta, self._sections)

    def _owner(self, ref: int) -> int:
        return bisect_left(self._bases, ref & LINE) - 1

    def _sort(self) -> tuple["array[int]", "array[int]"]:
        """Return all hashes in order, with their refs, each entry of a list once: with its first line."""
        hashes, refs = array("Q"), array("I")
        for bucket in range(_BUCKETS):
            # One integer for both sorts in half the time of a pair.
            joined = [
                hashed << 32 | ref for hashed, ref in zip(self._hashes[bucket], self._refs[bucket], strict=True)
            ]
            self._hashes[bucket], self._refs[bucket] = array("Q"), array("I")
            joined.sort()
            last = (-1, 0, 0)
            for item in joined:
                hashed, ref = item >> 32, item & 0xFFFFFFFF
                if hashed == last[0]:
                    this = (hashed, ref & ~LINE, self._owner(ref))
                    if (last[0], last[1] & ~LINE, self._owner(last[1])) == this:
                        if not ref & HOST:
                            self._lists[this[2]].duplicates += 1
                        continue
                last = (hashed, ref, 0)
                hashes.append(hashed)
                refs.append(ref)
        return hashes, refs

    def _filter(self) -> "array[int]":
        """Return one word for each key on average: 97 of 100 names that are not listed find a bit missing."""
        size = max(1, len(self._checksums))
        words = array("H", bytes(2 * size))
        for checksum in self._checksums:
            words[checksum % size] |= FILTER_MASKS[checksum >> 24]
        self._checksums = array("I")
        return words

    def _addresses(self) -> dict[str, "array[int]"]:
        groups: dict[tuple[int, ...], int] = {}
        flat = array("I")
        by_version: dict[int, list[Run]] = {}
        values: dict[int, array[int]] = {}
        bounds: list[Range] = []
        for version, top in ((4, 1 << 32), (6, 1 << 128)):
            ranges = self._first_of_each(self._ranges[version])
            found = list(runs.flatten(ranges, lambda ref: self._owner(ref) << 1 | ref >> 31))
            by_version[version] = [run for run in found if run.start < top]
            values[version] = array("I", [_value(run.refs, groups, flat) for run in by_version[version]])
            bounds += runs.broken(ranges, found, top)
        bounds.sort(key=lambda item: item.ref)
        return {
            "starts4": array("I", [run.start for run in by_version[4]]),
            "values4": values[4],
            "highs6": array("Q", [run.start >> 64 for run in by_version[6]]),
            "lows6": array("Q", [run.start & _LOW_64 for run in by_version[6]]),
            "values6": values[6],
            "groups": flat,
            "broken": array("I", [item.ref for item in bounds]),
            "bounds": array("Q", itertools.chain.from_iterable(map(_halves, bounds))),
        }

    def _first_of_each(self, ranges: Sequence[Range]) -> list[Range]:
        """Return the ranges without those that the same list has already given in an earlier line."""
        seen: set[tuple[int, int, int, int]] = set()
        kept = []
        for item in ranges:
            owner = self._owner(item.ref)
            identity = (item.first, item.last, owner, item.ref & EXCEPTION)
            if identity in seen:
                self._lists[owner].duplicates += 1
            else:
                seen.add(identity)
                kept.append(item)
        return kept


def _value(refs: tuple[int, ...], groups: dict[tuple[int, ...], int], flat: "array[int]") -> int:
    if len(refs) < 2:
        return refs[0] if refs else 0
    if refs not in groups:
        groups[refs] = len(flat)
        flat.append(len(refs))
        flat.extend(refs)
    return GROUP | groups[refs]


def _halves(item: Range) -> tuple[int, int, int, int]:
    return item.first >> 64, item.first & _LOW_64, item.last >> 64, item.last & _LOW_64


def build(lists: Sequence[SourceList], key: bytes, created: float) -> bytes:
    """Return a snapshot of lists; their order is the order of their bits."""
    writer = Writer(key)
    for source in lists:
        writer.add(source)
    writer.settle()
    return writer.finish(created)
