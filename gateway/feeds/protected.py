"""What no feed may deny: names and addresses on a never-block list, public suffixes, whole parts of the Internet.

Pure: no I/O, no clock. Feeds are written by strangers, and entries for `aws.com` or `s3.amazonaws.com` have been
published by well-meaning ones.
"""

from bisect import bisect_right
from collections.abc import Iterable
from functools import cache

from gateway.feeds.entry import Entry, NameEntry, PathEntry, RangeEntry, Scope
from gateway.feeds.layout import is_too_deep
from gateway.names import suffixes
from gateway.suffixlist import read_rules

NEVER_BLOCK = "never-block"
PUBLIC_SUFFIX = "public suffix"
TOO_WIDE = "too wide"
TOO_DEEP = "path too deep"

# Tables by scope: the operators of an enum flag are Python code, and this is asked for every entry of every list.
_EXACT = (False, True, False, True)
_BELOW = (False, False, True, True)
_WIDEST = {4: 1 << 24, 6: 1 << 112}
"""Addresses that one entry may cover: a /8, a /16 of IPv6. Wider ones in lists are reserved space, or mistakes."""


class NeverBlock:
    """Names, addresses and URLs that must stay reachable whatever the feeds say.

    A protected name protects its host, not every URL on it: a list of URLs may still name `github.com/evil/x.zip`
    while `github.com` is protected. URLs are protected by URLs.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._exact: set[str] = set()
        self._below: set[str] = set()
        self._above: set[str] = set()
        self._paths: dict[str, list[str]] = {}
        ranges: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for entry in entries:
            if entry.exception:
                continue
            if isinstance(entry, NameEntry):
                self._add_name(entry)
            elif isinstance(entry, RangeEntry):
                ranges[entry.version].append((entry.first, entry.last))
            else:
                self._paths.setdefault(entry.host, []).append(entry.path)
        self._ranges = {version: _merge(items) for version, items in ranges.items()}

    def _add_name(self, entry: NameEntry) -> None:
        if _EXACT[entry.scope]:
            self._exact.add(entry.name)
        if _BELOW[entry.scope]:
            self._below.add(entry.name)
            self._above.add(entry.name)
        parents = suffixes(entry.name)
        next(parents)
        self._above.update(parents)

    def objects_to(self, entry: Entry) -> bool:
        """Say whether an entry would deny anything that is protected."""
        if isinstance(entry, NameEntry):
            return self._objects_to_name(entry.name, entry.scope)
        if isinstance(entry, RangeEntry):
            starts, ends = self._ranges[entry.version]
            at = bisect_right(starts, entry.last) - 1
            return at >= 0 and ends[at] >= entry.first
        paths = self._paths.get(entry.host, ())
        return any(_covers(path, entry.path) or _covers(entry.path, path) for path in paths)

    def _objects_to_name(self, name: str, scope: Scope) -> bool:
        if (_EXACT[scope] and name in self._exact) or (_BELOW[scope] and name in self._above):
            return True
        below = self._below
        if below:
            at = name.find(".") + 1
            while at:
                if name[at:] in below:
                    return True
                at = name.find(".", at) + 1
        return False


def _merge(ranges: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return starts and ends of disjoint ranges that cover the same addresses."""
    starts: list[int] = []
    ends: list[int] = []
    for first, last in sorted(ranges):
        if ends and first <= ends[-1] + 1:
            ends[-1] = max(ends[-1], last)
        else:
            starts.append(first)
            ends.append(last)
    return starts, ends


def _covers(path: str, other: str) -> bool:
    """Say whether a URL entry for one path covers another on the same host (as `Snapshot.lookup_path` does)."""
    if path == other:
        return True
    if "?" in path:
        return False
    whole = other.partition("?")[0]
    return whole == path or whole.startswith(path if path.endswith("/") else path + "/")


def objection(entry: Entry, never_block: NeverBlock) -> str:
    """Return why an entry must not be compiled, or nothing.

    >>> objection(NameEntry(1, "co.uk", Scope.TREE), NeverBlock())
    'public suffix'
    """
    if entry.exception:
        return ""
    if isinstance(entry, NameEntry):
        if _BELOW[entry.scope] and is_registry(entry.name):
            return PUBLIC_SUFFIX
    elif isinstance(entry, RangeEntry):
        if entry.last - entry.first >= _WIDEST[entry.version]:
            return TOO_WIDE
    elif isinstance(entry, PathEntry) and is_too_deep(entry.path):
        return TOO_DEEP
    return NEVER_BLOCK if never_block.objects_to(entry) else ""


def is_registry(name: str) -> bool:
    """Say whether strangers register domains below a name: a top-level domain, or an ICANN public suffix.

    Private suffixes are not meant: `*.duckdns.org` is a choice that a list may make.

    >>> is_registry("co.uk"), is_registry("github.io"), is_registry("example.co.uk"), is_registry("any.ck")
    (True, False, False, True)
    """
    known = _registries()
    if name in known or "." not in name:
        return True
    return "*." + name.partition(".")[2] in known and "!" + name not in known


@cache
def _registries() -> frozenset[str]:
    return read_rules().registries
