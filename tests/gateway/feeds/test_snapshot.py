"""Snapshots: look-ups against a naive model of what entries mean, and files that are not what they should be."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.domainset import Lists
from gateway.feeds.entry import Entry, NameEntry, PathEntry, RangeEntry
from gateway.feeds.layout import MAX_SEGMENTS
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.feeds.writer import SourceList, build
from gateway.urlpaths import normalize_path
from tests.snapshots import KEY, read_entry, snapshot_of

labels = st.sampled_from(["a", "b", "c"])
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
patterns = st.builds(
    lambda exception, mark, name: exception + mark + name,
    st.sampled_from(["", "", "@@"]),
    st.sampled_from(["", "*.", "."]),
    st.lists(labels, min_size=2, max_size=4).map(".".join),
)
paths = st.builds(
    lambda segments, end, query: "/" + "/".join(segments) + end + query,
    st.lists(labels, max_size=3),
    st.sampled_from(["", "/"]),
    st.sampled_from(["", "?x", "?y=/a/b"]),
)
url_entries = st.builds(
    lambda exception, host, path: exception + host + path,
    st.sampled_from(["", "", "@@"]),
    st.sampled_from(["a.b", "c.b", "192.0.2.1"]),
    paths,
)
prefixes = st.builds(
    lambda exception, base, length: f"{exception}{ip_network((base, length), strict=False)}",
    st.sampled_from(["", "", "@@"]),
    st.integers(0xC0000200, 0xC000023F),
    st.integers(24, 32),
)


def covers_name(entry: Entry, name: str) -> bool:
    """Say whether an entry covers a name, by the definition."""
    if not isinstance(entry, NameEntry):
        return False
    if name == entry.name:
        return bool(entry.scope & 1)
    return name.endswith("." + entry.name) and bool(entry.scope & 2)


def covers_path(entry: Entry, host: str, path: str) -> bool:
    """Say whether an entry covers a normalised path, by the definition."""
    if not isinstance(entry, PathEntry) or entry.host != host:
        return False
    whole = path.partition("?")[0]
    if "?" in entry.path:
        return path == entry.path
    return whole == entry.path or whole.startswith(entry.path if entry.path.endswith("/") else entry.path + "/")


def verdict(entries: list[Entry], covered: list[Entry]) -> bool:
    """Say whether one list holds something: some entry of it does, and no exception of it."""
    return any(not entry.exception for entry in covered) and not any(entry.exception for entry in covered)


def read_all(texts: list[str]) -> list[Entry]:
    """Read the entries of one list."""
    return [read_entry(line, text) for line, text in enumerate(texts, 1)]


@given(
    st.lists(st.lists(patterns, max_size=6), min_size=1, max_size=3),
    st.lists(names | names.map("x.{}".format), max_size=4),
)
def test_names_equal_a_naive_walk(lists: list[list[str]], asked: list[str]) -> None:
    """A look-up finds the lists that a walk over all entries finds, whatever was looked up before; a match names an
    entry that covers the name."""
    snapshot = snapshot_of({f"list{at}": ((), texts) for at, texts in enumerate(lists)})
    for name in asked:
        _equals_a_naive_walk(snapshot, lists, name)


def _equals_a_naive_walk(snapshot: Snapshot, lists: list[list[str]], name: str) -> None:
    expected = 0
    for bit, texts in enumerate(lists):
        entries = read_all(texts)
        if verdict(entries, [entry for entry in entries if covers_name(entry, name)]):
            expected |= 1 << bit
    assert snapshot.lookup_name(name) == (expected, 0)
    for bit, texts in enumerate(lists):
        match = snapshot.match_name(name, 1 << bit)
        assert (match is not None) == bool(expected >> bit & 1)
        if match is not None:
            entry = read_entry(match.line, texts[match.line - 1])
            assert match.list == f"list{bit}"
            assert covers_name(entry, name)
            assert match.entry == texts[match.line - 1]


@given(
    st.lists(st.lists(url_entries, max_size=6), min_size=1, max_size=3), st.sampled_from(["a.b", "192.0.2.1"]), paths
)
def test_paths_equal_a_naive_walk(lists: list[list[str]], host: str, path: str) -> None:
    """A look-up of a URL finds the lists that a walk over all entries finds, and hosts with URLs are told apart."""
    assume("//" not in path and "%" not in path and ";" not in path)  # read in several ways: tested below
    snapshot = snapshot_of({f"list{at}": ((), texts) for at, texts in enumerate(lists)})
    expected = hosts = 0
    for bit, texts in enumerate(lists):
        entries = read_all(texts)
        if verdict(entries, [entry for entry in entries if covers_path(entry, host, normalize_path(path))]):
            expected |= 1 << bit
        if any(isinstance(entry, PathEntry) and entry.host == host and not entry.exception for entry in entries):
            hosts |= 1 << bit
    assert snapshot.lookup_path(host, path) == expected
    assert snapshot.lookup_name(host) == (0, hosts)
    for bit, texts in enumerate(lists):
        match = snapshot.match_path(host, path, 1 << bit)
        assert (match is not None) == bool(expected >> bit & 1)
        if match is not None:
            assert covers_path(read_entry(1, texts[match.line - 1]), host, normalize_path(path))
            assert match.entry == texts[match.line - 1]


@given(st.lists(st.lists(prefixes, max_size=8), min_size=1, max_size=3), st.integers(0xC00001FE, 0xC0000242))
def test_addresses_equal_a_naive_walk(lists: list[list[str]], value: int) -> None:
    """A look-up of an address finds the lists that a walk over all ranges finds; a match tells a range with it."""
    address = IPv4Address(value)
    snapshot = snapshot_of({f"list{at}": ((), texts) for at, texts in enumerate(lists)})
    expected = 0
    for bit, texts in enumerate(lists):
        entries = read_all(texts)
        covered = [e for e in entries if isinstance(e, RangeEntry) and e.first <= value <= e.last]
        if verdict(entries, list(covered)):
            expected |= 1 << bit
    assert snapshot.lookup_address(address) == expected
    assert snapshot.lookup_address(IPv6Address(f"::ffff:{address}")) == expected
    for bit, texts in enumerate(lists):
        match = snapshot.match_address(address, 1 << bit)
        assert (match is not None) == bool(expected >> bit & 1)
        if match is not None:
            assert match.entry == texts[match.line - 1].removesuffix("/32")
            assert address in ip_network(match.entry)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("2001:db8::", True),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", True),
        ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", False),
        ("2001:db9::", False),
        ("fd00::1", True),
        ("fd00::2", False),
        ("fd00::", False),
        ("fd00:0:0:1::1", False),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", True),
        ("::", False),
    ],
)
def test_ipv6(address: str, found: bool) -> None:
    """IPv6 ranges end where they say, in either half of the address."""
    entries = ["2001:db8::/32", "fd00::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
    assert snapshot_of({"a": ((), entries)}).lookup_address(ip_address(address)) == int(found)


@pytest.mark.parametrize(
    ("entry", "path", "covered"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b", "/a/b/", True),
        ("/a/b", "/a/b/c", True),
        ("/a/b", "/a/b?x=1", True),
        ("/a/b", "/a/b/c?x=/y", True),
        ("/a/b", "/a/bc", False),
        ("/a/b", "/a", False),
        ("/a/b", "/", False),
        ("/a/b", "/x?/a/b", False),
        ("/a/b/", "/a/b/", True),
        ("/a/b/", "/a/b/c", True),
        ("/a/b/", "/a/b", False),
        ("/a?x=1", "/a?x=1", True),
        ("/a?x=1", "/a?x=2", False),
        ("/a?x=1", "/a", False),
        ("/a?x=1", "/a/b?x=1", False),
        ("/", "/anything?at=all", True),
        ("/a/b", "/%61/./x/../b", True),
        ("/a/b", "//a/b", True),
        ("/a/b", "/a%2Fb", True),
        ("/a/b", "/a%2fb/c?x", True),
        ("/a/b", "/a\\b", True),
        ("/a/b", "/x/y//../../a/b", True),
        ("/a/b", "/x/y%2F%2F..%2F../a/b?z", True),
        ("/a/b", "/A/b", False),
        ("/a b/c", "/a%20b//c", True),
        ("/?x", "/?x", True),
        ("/a/b", "/a/b/" + "x/" * 500, True),
        ("/a/b", "/a/" + "x/" * 500 + "b", False),
    ],
)
def test_what_an_entry_for_a_path_covers(entry: str, path: str, covered: bool) -> None:
    """An entry covers its path and what is below, however a request spells it or lengthens it."""
    snapshot = snapshot_of({"urls": (["malware"], ["a.example" + entry])})
    assert snapshot.lookup_path("a.example", path) == int(covered)
    assert snapshot.lookup_path("b.example", path) == 0
    assert snapshot.lookup_path("www.a.example", path) == 0


def test_the_deepest_entry_is_found_below_a_deeper_path() -> None:
    """An entry with as many segments as are ever looked at is found in a request with many more."""
    deepest = "/x" * MAX_SEGMENTS
    snapshot = snapshot_of({"urls": ((), ["a.example" + deepest])})
    assert snapshot.lookup_path("a.example", deepest + "/y" * 1000) == 1


def test_a_query_is_found_whatever_is_below() -> None:
    """A path entry with a query is no host entry, and does not cover its path."""
    snapshot = snapshot_of({"urls": ((), ["192.0.2.1/x?y"])})
    assert snapshot.lookup_name("192.0.2.1") == (0, 1)
    assert snapshot.lookup_path("192.0.2.1", "/x?y") == 1
    assert snapshot.lookup_path("192.0.2.1", "/x") == 0


def test_an_exception_speaks_for_its_own_list() -> None:
    """An exception takes a name out of its own list, and never out of another."""
    snapshot = snapshot_of({"bought": ((), [".a.example", "@@.c2.a.example"]), "other": ((), ["c2.a.example"])})
    assert snapshot.lookup_name("www.a.example") == (0b01, 0)
    assert snapshot.lookup_name("c2.a.example") == (0b10, 0)
    assert snapshot.lookup_name("x.c2.a.example") == (0, 0)
    match = snapshot.match_name("c2.a.example", 0b11)
    assert match is not None
    assert match.list == "other"


def test_an_exception_for_a_host_covers_its_urls() -> None:
    """An exception for a name takes out the URLs of the same list on that host."""
    lists = {"a": ((), ["x.a.example/bad", "@@.a.example"]), "b": ((), ["x.a.example/bad"])}
    snapshot = snapshot_of(lists)
    assert snapshot.lookup_name("x.a.example") == (0, 0b10)
    assert snapshot.lookup_path("x.a.example", "/bad") == 0b10


def test_a_match_leads_back_to_the_line() -> None:
    """A match tells list, version, line, entry and categories, of the first list and its longest name."""
    lists = {
        "first": (["malware", "c2"], ["x.example", ".bad.example", "*.www.bad.example"]),
        "second": ((), [".bad.example"]),
    }
    snapshot = snapshot_of(lists)
    match = snapshot.match_name("a.www.bad.example", 0b11)
    assert match is not None
    assert (match.list, match.line, match.entry, match.categories) == (
        "first",
        3,
        "*.www.bad.example",
        ("malware", "c2"),
    )
    assert match.version == snapshot.lists[0].version
    second = snapshot.match_name("a.www.bad.example", 0b10)
    assert second is not None
    assert (second.list, second.line) == ("second", 1)
    assert snapshot.match_name("a.www.bad.example", 0) is None


def test_any_name_and_path_can_be_looked_up() -> None:
    """Names off the wire and paths of requests may be anything; nothing is raised."""
    lists: Lists = snapshot_of({"a": ((), ["a.example", "a.example/x"])})
    for text in ("", ".", "..", "a..b", "\udcff.example", "x" * 70000, "\\000.a.example", "a.example/x"):
        assert lists.lookup_name(text) == (0, 0)
        assert lists.lookup_path("a.example", text) == 0
        assert lists.match_name(text, 1) is None


def test_an_empty_snapshot_holds_nothing() -> None:
    """A snapshot of no lists can be asked like any other."""
    snapshot = snapshot_of({})
    assert snapshot.lists == ()
    assert snapshot.lookup_name("a.example") == (0, 0)
    assert snapshot.lookup_address(IPv4Address(0)) == 0
    assert snapshot.lookup_path("a.example", "/") == 0


@pytest.fixture
def data() -> bytes:
    """Return a small snapshot with something in every section."""
    entries = ["a.example", "a.example/x", "192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "2001:db8::1"]
    lists = [SourceList(name, "0" * 12, (), read_all(entries)) for name in ("a", "b")]
    return build(lists, KEY, 1.0)


def damaged(data: bytes) -> Iterator[bytes]:
    """Yield versions of a file that are cut short, or have one octet changed."""
    for at in range(1, len(data), 13):
        yield data[:at]
    yield data + b"\0"
    for at in range(len(data)):
        yield data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def test_damage_is_noticed(data: bytes) -> None:
    """A file that is cut short, too long, or has any octet changed is refused."""
    assert Snapshot.from_bytes(data).lookup_name("a.example") == (3, 3)
    for bad in damaged(data):
        with pytest.raises(SnapshotError):
            Snapshot.from_bytes(bad)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"127.0.0.1 a.example\n", "is not a list snapshot"),
        (b"EGWSNAP1", "is cut short"),
        (b"EGWSNAP1\xff\0\0\0" + bytes(100), "was written by another release"),
        (None, "there is no list snapshot yet"),
    ],
)
def test_files_that_cannot_be_opened(tmp_path: Path, content: bytes | None, message: str) -> None:
    """The message says which file, what is wrong with it, and what to do."""
    path = tmp_path / "snapshot.egs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SnapshotError) as caught:
        Snapshot.open(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).endswith("run `gateway refresh` to make a new one")
    assert "\n" not in str(caught.value)


def test_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    """What the system refuses is told in one line."""
    with pytest.raises(SnapshotError, match="cannot be read: Is a directory"):
        Snapshot.open(tmp_path)


def test_an_open_snapshot_outlives_its_file(tmp_path: Path, data: bytes) -> None:
    """Who has a snapshot open keeps it whole when another is put in its place."""
    path = tmp_path / "snapshot.egs"
    path.write_bytes(data)
    with Snapshot.open(path) as snapshot:
        other = tmp_path / "other"
        other.write_bytes(build([], KEY, 2.0))
        other.replace(path)
        assert snapshot.lookup_name("a.example") == (3, 3)
        with Snapshot.open(path) as newer:
            assert newer.lookup_name("a.example") == (0, 0)


@settings(max_examples=20)
@given(st.integers(1, 2**32))
def test_many_names(seed: int) -> None:
    """With thousands of names, all that are listed are found, and no others."""
    listed = [f"n{seed + at}.example" for at in range(2000)]
    snapshot = snapshot_of({"a": ((), listed)})
    assert all(snapshot.lookup_name(name) == (1, 0) for name in listed)
    assert not any(snapshot.lookup_name("x" + name)[0] for name in listed)
    assert snapshot.counts == {"a": 2000}
