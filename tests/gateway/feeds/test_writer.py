"""Writing snapshots: the same input gives the same file, and every entry once."""

import pytest

from gateway.feeds.entry import Entry, NameEntry, PathEntry, RangeEntry, Scope
from gateway.feeds.layout import LINE
from gateway.feeds.snapshot import Snapshot
from gateway.feeds.writer import SourceList, Writer, build

KEY = bytes(range(16))


def source(*entries: Entry, name: str = "a") -> SourceList:
    """Return a list of these entries."""
    return SourceList(name, "0" * 12, ("malware",), entries, "0.list")


def test_the_same_lists_give_the_same_octets() -> None:
    """A build depends on lists, key and time alone, and on each of them."""
    lists = [source(NameEntry(1, "a.example", Scope.TREE), RangeEntry(2, 1, 2, 4), PathEntry(3, "b.example", "/x"))]
    data = build(lists, KEY, 1.0)
    assert data == build(lists, KEY, 1.0)
    assert data != build(lists, KEY, 2.0)
    assert data != build(lists, bytes(16), 1.0)


def test_duplicates_are_kept_once_with_their_first_line() -> None:
    """Of equal entries of one list the first counts, in another list they are entries of their own."""
    entries: tuple[Entry, ...] = (
        NameEntry(2, "a.example", Scope.TREE),
        NameEntry(5, "a.example", Scope.TREE),
        NameEntry(7, "a.example", Scope.EXACT),
        PathEntry(8, "b.example", "/x"),
        PathEntry(9, "b.example", "/y"),
        PathEntry(10, "c.example", "/x"),
        PathEntry(11, "b.example", "/x"),
        RangeEntry(12, 1, 2, 4),
        RangeEntry(13, 1, 2, 4),
        RangeEntry(14, 1, 2, 6),
    )
    writer = Writer(KEY)
    writer.add(source(*entries))
    writer.add(source(*entries, name="b"))
    assert writer.settle() == {"a": 3, "b": 3}
    snapshot = Snapshot.from_bytes(writer.finish(1.0))
    assert snapshot.counts == {"a": 7, "b": 7}
    match = snapshot.match_name("x.a.example", 0b10)
    assert match is not None
    assert (match.list, match.line) == ("b", 2)
    assert snapshot.lookup_name("b.example") == (0, 0b11)


def test_what_is_known_of_a_snapshot() -> None:
    """Time, notes, lists and the files they came from can be read from a snapshot."""
    writer = Writer(KEY)
    writer.add(source(NameEntry(1, "a.example", Scope.TREE)))
    writer.settle()
    snapshot = Snapshot.from_bytes(writer.finish(12.5, {"why": [1]}))
    assert (snapshot.created, snapshot.notes, snapshot.sources) == (12.5, {"why": [1]}, {"a": "0.list"})
    assert [(info.name, info.categories) for info in snapshot.lists] == [("a", ("malware",))]


def test_lists_without_entries_take_no_lines() -> None:
    """Empty lists between others do not confuse whose line is whose."""
    entry = NameEntry(1, "a.example", Scope.TREE)
    lists = [source(name="a"), source(entry, name="b"), source(name="c"), source(name="d"), source(entry, name="e")]
    snapshot = Snapshot.from_bytes(build(lists, KEY, 1.0))
    assert snapshot.lookup_name("a.example") == (0b10010, 0)


def test_more_lines_than_can_be_numbered_are_refused() -> None:
    """Lines beyond the room in a ref raise an error, instead of leading to another list."""
    with pytest.raises(ValueError, match="all lists together have more than"):
        build(
            [source(NameEntry(LINE, "a.example", Scope.TREE)), source(NameEntry(1, "b.example", Scope.TREE))], KEY, 1
        )


def test_a_key_has_sixteen_octets() -> None:
    """A key of another length is refused."""
    with pytest.raises(ValueError, match="16 octets"):
        Writer(b"")


def test_the_size_is_within_its_budget() -> None:
    """A name takes less than 16 octets of the file."""
    count = 20_000
    data = build([source(*(NameEntry(at, f"n{at}.example", Scope.TREE) for at in range(1, count + 1)))], KEY, 1)
    assert len(data) < 16 * count
