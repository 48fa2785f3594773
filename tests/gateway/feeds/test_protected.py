"""What no feed may deny."""

import pytest
import tldextract
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.entry import Entry, NameEntry, RangeEntry
from gateway.feeds.protected import NEVER_BLOCK, PUBLIC_SUFFIX, TOO_DEEP, TOO_WIDE, NeverBlock, is_registry, objection
from tests.snapshots import read_entry, snapshot_of

PROTECTED = [
    "exact.example",
    "*.below.example",
    ".tree.example",
    "s3.amazonaws.com",
    "192.0.2.0/28",
    "192.0.2.16/28",
    "2001:db8::1",
    "url.example/a/b",
    "@@not.example",
]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("exact.example", NEVER_BLOCK),
        (".exact.example", NEVER_BLOCK),
        ("*.exact.example", ""),
        ("www.exact.example", ""),
        ("below.example", ""),
        ("*.below.example", NEVER_BLOCK),
        ("x.y.below.example", NEVER_BLOCK),
        ("tree.example", NEVER_BLOCK),
        ("*.tree.example", NEVER_BLOCK),
        ("x.tree.example", NEVER_BLOCK),
        (".amazonaws.com", NEVER_BLOCK),
        ("*.amazonaws.com", NEVER_BLOCK),
        ("amazonaws.com", ""),
        ("not.example", ""),
        ("@@tree.example", ""),
        ("other.example", ""),
        ("192.0.2.0/24", NEVER_BLOCK),
        ("192.0.2.31", NEVER_BLOCK),
        ("192.0.2.32", ""),
        ("192.0.1.0/24", ""),
        ("2001:db8::/64", NEVER_BLOCK),
        ("2001:db8::2", ""),
        ("10.0.0.0/8", ""),
        ("10.0.0.0/7", TOO_WIDE),
        ("2000::/3", TOO_WIDE),
        ("co.uk", ""),
        (".co.uk", PUBLIC_SUFFIX),
        ("*.co.uk", PUBLIC_SUFFIX),
        (".any.ck", PUBLIC_SUFFIX),
        (".www.ck", ""),
        (".xn--vuq861b.xn--fiqs8s", ""),
        (".github.io", ""),
        ("url.example/a/b", NEVER_BLOCK),
        ("url.example/a", NEVER_BLOCK),
        ("url.example/a/b/c?x", NEVER_BLOCK),
        ("url.example/a/c", ""),
        ("url.example/a?x", ""),
        ("tree.example/evil", ""),
        ("url.example" + "/x" * 65, TOO_DEEP),
    ],
)
def test_objections(entry: str, reason: str) -> None:
    """An entry is refused when it is, or covers, anything protected."""
    protected = NeverBlock(read_entry(line, text) for line, text in enumerate(PROTECTED, 1))
    assert objection(read_entry(1, entry), protected) == reason


def names_of(pattern: str) -> list[str]:
    """Return sample names that a pattern covers: itself, and two below."""
    bare = pattern.removeprefix("*").removeprefix(".")
    below = [f"{label}.{bare}" for label in ("a", "b", "c")]
    return ([] if pattern.startswith("*") else [bare]) + (below if pattern != bare else [])


patterns = st.builds(
    lambda mark, name: mark + name,
    st.sampled_from(["", "*.", "."]),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=4).map(".".join),
)


@given(st.lists(patterns, max_size=4), st.lists(patterns, max_size=4))
def test_no_protected_name_is_ever_listed(protected: list[str], listed: list[str]) -> None:
    """Whatever a list says, after the objections no protected name is on it."""
    never = NeverBlock(read_entry(1, text) for text in protected)
    kept = [text for text in listed if not objection(read_entry(1, text), never)]
    snapshot = snapshot_of({"a": ((), kept)})
    for pattern in protected:
        assert not any(snapshot.lookup_name(name)[0] for name in names_of(pattern))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)), max_size=6), st.integers(0, 40), st.integers(0, 8))
def test_ranges_that_meet_a_protected_one_are_refused(
    protected: list[tuple[int, int]], first: int, length: int
) -> None:
    """A range is refused exactly when it shares an address with a protected one."""
    entries: list[Entry] = [RangeEntry(1, start, start + size, 4) for start, size in protected]
    meets = any(start <= first + length and first <= start + size for start, size in protected)
    assert NeverBlock(entries).objects_to(RangeEntry(1, first, first + length, 4)) == meets
    assert not NeverBlock(entries).objects_to(RangeEntry(1, first, first + length, 6))


@pytest.mark.parametrize(
    "name",
    [
        "com",
        "co.uk",
        "uk",
        "any.ck",
        "www.ck",
        "xn--fiqs8s",
        "github.io",
        "example.com",
        "city.kawasaki.jp",
        "x.kawasaki.jp",
    ],
)
def test_registries_are_those_of_the_public_suffix_list(name: str) -> None:
    """A registry is what the ICANN part of the public suffix list says."""
    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    assert is_registry(name) == (extract(name).suffix == name)


def test_unknown_top_level_domains_are_registries() -> None:
    """A single label is never anybody's own domain."""
    assert is_registry("example")
    assert not is_registry("a.example")
    assert not isinstance(read_entry(1, "a.example"), RangeEntry)
    assert isinstance(read_entry(1, "a.example"), NameEntry)
