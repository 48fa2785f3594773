"""Domain patterns, sets and maps of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domainset import DomainMap, ListInfo, Lists, NoLists, parse_pattern
from tests.builders import an_address
from tests.naive_lists import NaiveLists
from tests.snapshots import snapshot_of
from tests.strategies import ADDRESSES, LISTS, NAMES, PATHS

PATTERNS = [
    ("example.com", ("example.com", True, False)),
    ("*.example.com", ("example.com", False, True)),
    (".example.com", ("example.com", True, True)),
    ("*.EXAMPLE.com.", ("example.com", False, True)),
    (".bücher.example", ("xn--bcher-kva.example", True, True)),
    ("com", ("com", True, False)),
]


@pytest.mark.parametrize(("text", "expected"), PATTERNS, ids=[text for text, _ in PATTERNS])
def test_patterns(text: str, expected: tuple[str, bool, bool]) -> None:
    """A pattern says which name it is about, and whether it covers the name, what is below, or both."""
    assert parse_pattern(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "*",
        "*.",
        "**.example.com",
        "*example.com",
        "a.*.example.com",
        "*.*.example.com",
        "..example.com",
        "127.0.0.1",
        "*.0.0.1",
        "example.com/x",
        "example.com:80",
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    """Stars elsewhere than in front, addresses and empty names are no patterns."""
    with pytest.raises(ValueError):
        parse_pattern(text)


names = st.lists(st.sampled_from(("a", "b", "example", "com", "x-y")), min_size=1, max_size=5).map(".".join)
patterns = st.builds(lambda prefix, name: prefix + name, st.sampled_from(("", "*.", ".")), names)


def covers(pattern: str, name: str) -> bool:
    """Say the same without a dictionary."""
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and name != pattern[1:]
    if pattern.startswith("."):
        return name.endswith(pattern) or name == pattern[1:]
    return name == pattern


@given(st.lists(st.tuples(patterns, st.integers(1, 255)), max_size=20), names)
def test_map_equals_a_search(items: list[tuple[str, int]], name: str) -> None:
    """A look-up finds the masks of exactly the patterns that cover the name."""
    table = DomainMap()
    expected = 0
    for pattern, mask in items:
        table.add(pattern, mask)
        if covers(pattern, name):
            expected |= mask
    assert table.lookup(name) == expected
    assert bool(table) == bool(items)


@given(st.text())
def test_look_up_is_total(name: str) -> None:
    """Any text may be looked up, a name off the wire above all."""
    table = DomainMap()
    table.add(".example.com", 1)
    table.add("*.com", 2)
    assert table.lookup(f"{name}.example.com") == 3


def test_no_lists_hold_nothing() -> None:
    """Lists of nothing hold no name, address or URL, and have no evidence."""
    lists: Lists = NoLists()
    address = an_address("192.0.2.1")
    assert lists.lists == ()
    assert lists.lookup_name("a.test") == (0, 0)
    assert lists.lookup_address(address) == lists.lookup_path("a.test", "/") == 0
    assert (
        lists.match_name("a.test", 1) is lists.match_address(address, 1) is lists.match_path("a.test", "/", 1) is None
    )


# A snapshot has tests of its own; this one says that the policy's tests may use either.
SNAPSHOT, NAIVE = snapshot_of(LISTS), NaiveLists(LISTS)


def test_snapshot_and_oracle_have_the_same_lists() -> None:
    """The lists of a snapshot are those of the oracle, in the same order of bits."""
    assert [(info.name, info.categories) for info in SNAPSHOT.lists] == [
        (info.name, info.categories) for info in NAIVE.lists
    ]
    assert all(isinstance(info, ListInfo) for info in SNAPSHOT.lists)


@given(st.sampled_from(NAMES), st.sampled_from(ADDRESSES), st.sampled_from(PATHS))
def test_snapshot_equals_the_oracle(name: str, address: object, path: str) -> None:
    """A compiled snapshot holds the same names, addresses and URLs as a search through the entries."""
    where = an_address(str(address))
    assert SNAPSHOT.lookup_name(name) == NAIVE.lookup_name(name)
    assert SNAPSHOT.lookup_address(where) == NAIVE.lookup_address(where)
    for host in (name, str(where)):
        for wholly in (False, True):
            found = SNAPSHOT.lookup_path(host, path, wholly=wholly)
            assert found == NAIVE.lookup_path(host, path, wholly=wholly)
