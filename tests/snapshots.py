"""Snapshots for tests, from entries written as people write them."""

from collections.abc import Iterable, Mapping

from gateway.domainset import parse_pattern
from gateway.feeds.entry import Entry, NameEntry, PathEntry, Scope
from gateway.feeds.formats.values import read_range, read_url
from gateway.feeds.snapshot import Snapshot
from gateway.feeds.writer import SourceList, build

KEY = bytes(range(16))


def read_entry(line: int, text: str) -> Entry:
    """Read `a.example` (exact), `*.a.example` (below), `.a.example` (both), `host/path`, an address or a prefix.

    A path that is a number needs a slash behind it, not to be taken for a prefix. `@@` in front makes
    it an exception.
    """
    if text.startswith("@@"):
        return read_entry(line, text[2:])._replace(exception=True)
    host, slash, path = text.partition("/")
    if slash and not path.isdigit():
        entry = read_url(line, text)
        return entry if isinstance(entry, PathEntry) else PathEntry(line, host, "/")
    found = read_range(line, text)
    if found is not None:
        return found
    name, exact, below = parse_pattern(text)
    return NameEntry(line, name, Scope((1 if exact else 0) | (2 if below else 0)))


def snapshot_of(
    lists: Mapping[str, tuple[Iterable[str], Iterable[str]]], *, created: float = 1_700_000_000.0
) -> Snapshot:
    """Compile `{name: (categories, entries)}`; an entry's line is its position, counted from 1."""
    sources = [
        SourceList(name, f"{position:012x}", tuple(categories), [read_entry(i, t) for i, t in enumerate(entries, 1)])
        for position, (name, (categories, entries)) in enumerate(lists.items(), 1)
    ]
    return Snapshot.from_bytes(build(sources, KEY, created))
