"""Lists that are searched entry by entry: too slow for anything but to tell what the right answer is."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from operator import and_, or_

from gateway.addresses import IPAddress, unmap
from gateway.decision import Match
from gateway.domainset import ListInfo
from gateway.feeds.entry import Entry, NameEntry, PathEntry, RangeEntry, Scope
from gateway.urlpaths import decoded, normalize_path
from tests.snapshots import read_entry


class NaiveLists:
    """A `gateway.domainset.Lists` of `{name: (categories, entries)}`, entries written as for `tests.snapshots`."""

    def __init__(self, lists: Mapping[str, tuple[Iterable[str], Iterable[str]]]) -> None:
        self.lists = tuple(ListInfo(name, "naive", tuple(categories)) for name, (categories, _) in lists.items())
        self._texts = [list(entries) for _, entries in lists.values()]
        self._entries = [[read_entry(i, text) for i, text in enumerate(texts, 1)] for texts in self._texts]

    def lookup_name(self, name: str) -> tuple[int, int]:
        """Return the lists that hold the name or a parent, and those that hold some URLs on that host."""
        excepted = self._holding(lambda entry: _covers_name(entry, name), exception=True)
        found = self._holding(lambda entry: _covers_name(entry, name))
        urls = self._holding(lambda entry: isinstance(entry, PathEntry) and entry.host == name)
        return found & ~excepted, urls & ~excepted

    def lookup_address(self, address: IPAddress) -> int:
        """Return the lists that hold the address."""
        return self._held(lambda entry: _covers_address(entry, address))

    def lookup_path(self, host: str, path: str, *, wholly: bool = False) -> int:
        """Return the lists that hold a URL which covers this path on this host, read in any way, or in each."""
        ways = [self._held(partial(_covers_path, host=host, path=reading)) for reading in _readings(path)]
        found = reduce(and_ if wholly else or_, ways)
        return found & ~self._holding(lambda entry: _covers_name(entry, host), exception=True)

    def match_name(self, name: str, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask."""
        return self._match(mask & self.lookup_name(name)[0], lambda entry: _covers_name(entry, name))

    def match_address(self, address: IPAddress, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask."""
        return self._match(mask & self.lookup_address(address), lambda entry: _covers_address(entry, address))

    def match_path(self, host: str, path: str, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask."""
        ways = _readings(path)
        hit = self.lookup_path(host, path)
        return self._match(mask & hit, lambda entry: any(_covers_path(entry, host, way) for way in ways))

    def _held(self, covers: Callable[[Entry], bool]) -> int:
        return self._holding(covers) & ~self._holding(covers, exception=True)

    def _holding(self, covers: Callable[[Entry], bool], *, exception: bool = False) -> int:
        found = 0
        for bit, entries in enumerate(self._entries):
            if any(entry.exception == exception and covers(entry) for entry in entries):
                found |= 1 << bit
        return found

    def _match(self, mask: int, covers: Callable[[Entry], bool]) -> Match | None:
        for bit, info in enumerate(self.lists):
            if mask >> bit & 1:
                for entry in self._entries[bit]:
                    if not entry.exception and covers(entry):
                        text = self._texts[bit][entry.line - 1]
                        return Match(info.name, info.version, entry.line, text, info.categories)
        return None


def _covers_name(entry: Entry, name: str) -> bool:
    if not isinstance(entry, NameEntry):
        return False
    if name == entry.name:
        return bool(entry.scope & Scope.EXACT)
    return bool(entry.scope & Scope.BELOW) and name.endswith("." + entry.name)


def _covers_address(entry: Entry, address: IPAddress) -> bool:
    address = unmap(address)
    return (
        isinstance(entry, RangeEntry)
        and entry.version == address.version
        and entry.first <= int(address) <= entry.last
    )


def _covers_path(entry: Entry, host: str, path: str) -> bool:
    if not isinstance(entry, PathEntry) or entry.host != host:
        return False
    if "?" in entry.path:
        return path == entry.path
    path = path.partition("?")[0]
    return path == entry.path or path.startswith(entry.path if entry.path.endswith("/") else entry.path + "/")


def _readings(path: str) -> list[str]:
    normal = normalize_path(path)
    _, mark, query = normal.partition("?")
    others = [each.replace("%", "%25").replace("?", "%3F") for each in decoded(path)]
    return [normal, *(normalize_path(other) + mark + query for other in others)]
