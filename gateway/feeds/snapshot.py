"""Compiled lists, as every worker has them: one immutable file, mapped read-only and shared between processes.

Look-ups are pure: no I/O but that of the pages of the map, no clock. A snapshot is never changed; a refresh puts
another file in its place, and who has the old one open keeps a whole one.
"""

import mmap
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Any, Self
from zlib import crc32

from gateway.addresses import IPAddress, unmap
from gateway.decision import Match
from gateway.domainset import ListInfo
from gateway.feeds.layout import (
    BELOW,
    EXACT,
    EXCEPTION,
    FILTER_MASKS,
    GROUP,
    HOST,
    LINE,
    MAX_SEGMENTS,
    PATH,
    SnapshotError,
    hasher,
    octets,
    unpack,
)
from gateway.feeds.runs import range_text
from gateway.memo import Memo
from gateway.urlpaths import decoded, normalize_path

__all__ = ["Snapshot", "SnapshotError"]

_make = tuple.__new__
_word = Struct("<Q").unpack
_PART = 128
"""Hashes from one known start to the next: a look-up has to fetch few of them, which are near each other."""
_PARENTS_KEPT = 1024
_ADVICE = "run `gateway refresh` to make a new one"


type _Covered = tuple[str, int, list[tuple[int, int, int]]]
"""A name that entries cover; the lists that hold it; of each entry the list, how many labels it lacks in front, and
its ref, exceptions too.
"""

type _Above = tuple[int, list[tuple[int, int, int]]]
"""What the names below a name begin with: its checksum, and the entries that cover them as they do in `_Covered`."""


class Snapshot:
    """Lists, found by name, address and URL (a `gateway.domainset.Lists`).

    An exception speaks for its own list alone. If it took names out of other lists, one careless (or bought) feed
    could switch off what all others know.
    """

    def __init__(self, data: memoryview, source: mmap.mmap | None = None) -> None:
        key, meta, sections = unpack(data)
        self._views = [data, *sections.values()]
        self._map = source
        self._hasher = hasher(key)
        self._last: _Covered = "", 0, []
        self._parents = Memo[str, _Above](_PARENTS_KEPT)
        self._hashes = self._cast(sections["hashes"], "Q")
        self._size = len(self._hashes)
        parts = (self._size // _PART).bit_length()
        self._shift = 64 - parts
        self._starts = array("I", (bisect_left(self._hashes, at << self._shift) for at in range(1 << parts)))
        self._starts.append(self._size)
        self._refs = self._cast(sections["refs"], "I")
        self._filter = self._cast(sections["filter"], "H")
        self._filter_size = len(self._filter)
        self._starts4 = self._cast(sections["starts4"], "I")
        self._values4 = self._cast(sections["values4"], "I")
        self._highs6 = self._cast(sections["highs6"], "Q")
        self._lows6 = self._cast(sections["lows6"], "Q")
        self._values6 = self._cast(sections["values6"], "I")
        self._groups = self._cast(sections["groups"], "I")
        self._broken = self._cast(sections["broken"], "I")
        self._bounds = self._cast(sections["bounds"], "Q")
        self._bases: list[int] = [item["base"] for item in meta["lists"]]
        self._excepting = sum(1 << bit for bit, item in enumerate(meta["lists"]) if item["exceptions"])
        self.lists: tuple[ListInfo, ...] = tuple(
            ListInfo(item["name"], item["version"], tuple(item["categories"])) for item in meta["lists"]
        )
        """The lists, in the order of their bits."""
        self.counts: dict[str, int] = {item["name"]: item["entries"] for item in meta["lists"]}
        """Entries of each list."""
        self.sources: dict[str, str] = {item["name"]: item["source"] for item in meta["lists"]}
        """File name of the stored copy that each list was read from."""
        self.created: float = meta["created"]
        """When it was compiled, in seconds since the epoch."""
        self.notes: dict[str, Any] = meta["notes"]
        """What the compiler wrote down about its work."""
        self.size: int = len(data)
        """Octets of the file."""

    def _cast(self, view: memoryview, code: str) -> "memoryview[int]":
        cast: memoryview[int] = view.cast(code)  # type: ignore[call-overload]  # typeshed wants a literal
        self._views.append(cast)
        return cast

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file.

        Raises:
            SnapshotError: there is none, it cannot be read, or it is not a whole and undamaged snapshot.
        """
        try:
            with path.open("rb") as file:
                source = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise SnapshotError(f"{path}: there is no list snapshot yet; {_ADVICE}") from None
        except OSError as error:
            advice = _ADVICE if not isinstance(error, PermissionError) else "run this as the gateway's user"
            raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}; {advice}") from None
        except ValueError:  # mmap cannot map nothing
            raise SnapshotError(f"{path}: is empty; {_ADVICE}") from None
        data = memoryview(source)
        try:
            return cls(data, source)
        except (SnapshotError, KeyError, TypeError) as error:
            data.release()
            flaw = str(error) if isinstance(error, SnapshotError) else "has no meaning to this release"
            raise SnapshotError(f"{path}: {flaw}; {_ADVICE}") from None

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Use a snapshot that is in memory. Raises SnapshotError as `open` does."""
        return cls(memoryview(data))

    def close(self) -> None:
        """Give the map back; nothing can be looked up afterwards."""
        for view in reversed(self._views):
            view.release()
        if self._map is not None:
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Names

    def lookup_name(self, name: str) -> tuple[int, int]:
        """Return the lists that hold the name or a parent, and those that hold some URLs on that host."""
        label, _, parent = name.partition(".")
        checksum, inherited = self._parents.get(parent) or self._above(parent)
        # The checksum of a name continues that of its parent.
        checksum = crc32(label.encode("utf-8", "surrogatepass"), checksum)  # as `octets`, without the call
        mask = FILTER_MASKS[checksum >> 24]
        if self._filter[checksum % self._filter_size] & mask == mask:
            refs = self._find(name.encode("utf-8", "surrogatepass"))
        elif inherited:
            refs = []
        else:
            return 0, 0
        hits: list[tuple[int, int, int]] = []
        found = excepted = urls = 0
        for ref in refs:
            owner = bisect_left(self._bases, ref & LINE) - 1  # as `_owner`, without the call
            if ref & EXACT:
                hits.append((owner, 0, ref))
            elif ref & HOST:
                urls |= 1 << owner
        if inherited:
            hits += inherited
        if not hits:
            return 0, urls
        for owner, _, ref in hits:
            if ref & EXCEPTION:
                excepted |= 1 << owner
            else:
                found |= 1 << owner
        found &= ~excepted
        self._last = name, found, hits
        return found, urls & ~excepted

    def _above(self, parent: str) -> _Above:
        """Return what names right below a name have in common: a new name is most often below one that was asked
        about before.
        """
        # Nothing is listed below a single label (see NameEntry), so a top-level domain only begins the checksum.
        data = octets(parent)
        *labels, top = data.split(b".")
        checksum = crc32(top)
        hits: list[tuple[int, int, int]] = []
        while labels:
            checksum = crc32(labels.pop(), checksum)
            if self._maybe(checksum):
                at = len(labels)
                refs = self._find(data.split(b".", at)[at])
                hits += [(self._owner(ref), at + 1, ref) for ref in refs if ref & BELOW]
        return self._parents.keep(parent, (checksum, hits))

    def match_name(self, name: str, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask: of the first such list, the longest name."""
        covered, found, hits = self._last  # who asks for the evidence has most often just asked whether there is any
        while covered != name:
            if not self.lookup_name(name)[0]:
                return None
            covered, found, hits = self._last
        mask &= found
        best: tuple[int, int, int] | None = None
        for hit in hits:
            if mask >> hit[0] & 1 and not hit[2] & EXCEPTION and (best is None or hit < best):
                best = hit
        if best is None:
            return None
        owner, at, ref = best
        if at:
            name = name.split(".", at)[at]
        return self._match(owner, ref & LINE, name if ref & (EXACT | BELOW) == EXACT else _pattern(name, ref))

    def _find(self, key: bytes) -> list[int]:
        """Return the refs of a key."""
        hashed = self._hasher.copy()
        hashed.update(key)
        (wanted,) = _word(hashed.digest())
        hashes, size, part = self._hashes, self._size, wanted >> self._shift
        at = bisect_left(hashes, wanted, self._starts[part], self._starts[part + 1])
        found: list[int] = []
        while at < size and hashes[at] == wanted:
            found.append(self._refs[at])
            at += 1
        return found

    def _owner(self, ref: int) -> int:
        return bisect_left(self._bases, ref & LINE) - 1

    def _bit(self, ref: int) -> int:
        return 1 << self._owner(ref)

    def _match(self, position: int, line: int, entry: str) -> Match:
        info = self.lists[position]
        # As Match() does, in half the time.
        return _make(Match, (info.name, info.version, line - self._bases[position], entry, info.categories))

    # URLs

    def lookup_path(self, host: str, path: str, *, wholly: bool = False) -> int:
        """Return the lists that hold a URL which covers this path on this host.

        `/a/b` covers itself, `/a/b/` and whatever is below, with any query; `/a/b/` only what is below; an entry
        with a query just that path and query. The path is taken in every way in which a server may read it; `wholly`:
        each of them has to be covered.
        """
        found = -1 if wholly else 0
        for reading in _readings(path):
            hits = excepted = 0
            for _, ref in self._covering(host, reading):
                if ref & EXCEPTION:
                    excepted |= self._bit(ref)
                else:
                    hits |= self._bit(ref)
            hits &= ~excepted
            found = found & hits if wholly else found | hits
        return self._without_excepted(host, found)

    def match_path(self, host: str, path: str, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask: of the first such list, the longest URL."""
        mask &= self.lookup_path(host, path)
        best: tuple[int, int, str] | None = None
        for reading in _readings(path):
            for key, ref in self._covering(host, reading):
                if ref & EXCEPTION or not mask & self._bit(ref):
                    continue
                candidate = (self._owner(ref), ref & LINE, key.decode("utf-8", "backslashreplace"))
                if best is None or (candidate[0], -len(candidate[2])) < (best[0], -len(best[2])):
                    best = candidate
        return None if best is None else self._match(*best)

    def _covering(self, host: str, path: str) -> Iterator[tuple[bytes, int]]:
        """Yield key and ref of every URL entry that covers a normalised path, exceptions too."""
        for key in self._candidates(octets(host), octets(path)):
            for ref in self._find(key):
                if ref & PATH:
                    yield key, ref

    def _candidates(self, host: bytes, path: bytes) -> Iterator[bytes]:
        """Yield the keys that would cover a path, and that the filter does not rule out."""
        whole, mark, _ = path.partition(b"?")
        checksum = crc32(host)
        end = 0
        for segment in islice(whole.split(b"/"), 1, MAX_SEGMENTS + 1):
            checksum = crc32(b"/", checksum)
            end += 1
            if self._maybe(checksum):
                yield host + whole[:end]
            if segment:
                checksum = crc32(segment, checksum)
                end += len(segment)
                if self._maybe(checksum):
                    yield host + whole[:end]
        if mark and self._maybe(crc32(path, crc32(host))):
            yield host + path

    def _maybe(self, checksum: int) -> bool:
        mask = FILTER_MASKS[checksum >> 24]
        return self._filter[checksum % self._filter_size] & mask == mask

    def _without_excepted(self, host: str, mask: int) -> int:
        """Return the mask without the lists that have an exception for the whole host."""
        if not mask & self._excepting:
            return mask
        labels = host.split(".")
        for at in range(len(labels)):
            for ref in self._find(octets(".".join(labels[at:]))):
                if ref & EXCEPTION and ref & (BELOW if at else EXACT):
                    mask &= ~self._bit(ref)
        return mask

    # Addresses

    def lookup_address(self, address: IPAddress) -> int:
        """Return the lists that hold the address."""
        found = excepted = 0
        for ref in self._refs_at(*self._run(unmap(address))):
            if ref & EXCEPTION:
                excepted |= self._bit(ref)
            else:
                found |= self._bit(ref)
        return found & ~excepted

    def match_address(self, address: IPAddress, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask: of the first such list, one range of it."""
        mask &= self.lookup_address(address)
        address = unmap(address)
        version, at = self._run(address)
        for ref in sorted(self._refs_at(version, at)):
            if not ref & EXCEPTION and mask & self._bit(ref):
                first, last = self._range(version, at, ref, int(address))
                return self._match(self._owner(ref), ref & LINE, range_text(first, last, version))
        return None

    def _run(self, address: IPAddress) -> tuple[int, int]:
        """Return the version and the position of the run that an address is in; -1 for below all runs."""
        value = int(address)
        if address.version == 4:
            return 4, bisect_right(self._starts4, value) - 1
        high, low = value >> 64, value & 0xFFFFFFFFFFFFFFFF
        begin = bisect_left(self._highs6, high)
        end = bisect_right(self._highs6, high, begin)
        return 6, bisect_right(self._lows6, low, begin, end) - 1

    def _refs_at(self, version: int, at: int) -> list[int]:
        if at < 0:
            return []
        value = (self._values4 if version == 4 else self._values6)[at]
        if not value:
            return []
        if not value & GROUP:
            return [value]
        begin = value & ~GROUP
        return list(self._groups[begin + 1 : begin + 1 + self._groups[begin]])

    def _start(self, version: int, at: int) -> int:
        if version == 4:
            return self._starts4[at] if at < len(self._starts4) else 1 << 32
        return self._highs6[at] << 64 | self._lows6[at] if at < len(self._highs6) else 1 << 128

    def _range(self, version: int, at: int, ref: int, address: int) -> tuple[int, int]:
        """Return the ends of the range that an entry gave around an address."""
        begin = bisect_left(self._broken, ref)
        for row in range(begin, bisect_right(self._broken, ref, begin)):
            first_high, first_low, last_high, last_low = self._bounds[4 * row : 4 * row + 4]
            first, last = first_high << 64 | first_low, last_high << 64 | last_low
            if first <= address <= last:
                return first, last
        return self._start(version, at), self._start(version, at + 1) - 1


def _pattern(name: str, ref: int) -> str:
    if ref & EXACT:
        return f".{name}" if ref & BELOW else name
    return f"*.{name}"


def _readings(path: str) -> list[str]:
    """Return the paths, in normal form, that a server may take a path for; the first is the one that was meant.

    An entry for `/a/b` would otherwise be slipped past with `//a/b` or `/a%2Fb`.
    """
    normal = normalize_path(path)
    _, mark, query = normal.partition("?")
    others = [normalize_path(each.replace("%", "%25").replace("?", "%3F")) + mark + query for each in decoded(path)]
    return list(dict.fromkeys((normal, *others)))
