"""Runs of addresses: overlapping ranges, flattened."""

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.runs import Range, broken, flatten, range_text

TOP = 64
ranges = st.lists(
    st.builds(
        lambda a, b, ref: Range(min(a, b), max(a, b), ref),
        st.integers(0, TOP - 1),
        st.integers(0, TOP - 1),
        st.integers(1, 12),
    ),
    max_size=12,
)


def owner(ref: int) -> int:
    """Return the list that a ref belongs to: four lists."""
    return ref % 4


@given(ranges)
def test_runs_hold_one_range_of_every_owner(items: list[Range]) -> None:
    """At each address, a run names exactly the owners that have a range there, each by one of those ranges."""
    runs = [run for run in flatten(items, owner) if run.start < TOP]
    starts = [run.start for run in runs]
    assert starts == sorted(set(starts))
    for address in range(TOP):
        at = bisect_right(starts, address) - 1
        refs = runs[at].refs if at >= 0 else ()
        holding = {item.ref for item in items if item.first <= address <= item.last}
        assert set(refs) <= holding
        assert sorted(map(owner, refs)) == sorted({owner(ref) for ref in holding})


@given(ranges)
def test_ends_of_every_range_can_be_found_again(items: list[Range]) -> None:
    """A range is one whole run, or among the broken ones."""
    runs = list(flatten(items, owner))
    kept = broken(items, runs, TOP)
    bounds = [run.start for run in runs] + [TOP]
    whole = {Range(run.start, bounds[at + 1] - 1, ref) for at, run in enumerate(runs) for ref in run.refs}
    assert whole | set(kept) >= set(items)
    assert not whole & set(kept)


def test_nested_ranges_stay_small() -> None:
    """A thousand nested ranges of one list give runs of one ref, so a hostile list costs no more than others."""
    runs = list(flatten([Range(at, 5000 - at, at + 1) for at in range(1000)], lambda _: 0))
    assert len(runs) <= 2001
    assert max(len(run.refs) for run in runs) == 1


@pytest.mark.parametrize(
    ("first", "last", "version", "text"),
    [
        (0xC0000207, 0xC0000207, 4, "192.0.2.7"),
        (0xC0000200, 0xC00002FF, 4, "192.0.2.0/24"),
        (0xC0000201, 0xC0000203, 4, "192.0.2.1-192.0.2.3"),
        (0x20010DB8 << 96, ((0x20010DB8 + 1) << 96) - 1, 6, "2001:db8::/32"),
    ],
)
def test_ranges_are_written_as_people_do(first: int, last: int, version: int, text: str) -> None:
    """A range is written as address, prefix, or both ends."""
    assert range_text(first, last, version) == text
