"""The layout of a snapshot file, apart from what is in it."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.layout import (
    BELOW,
    EXACT,
    EXCEPTION,
    FILTER_MASKS,
    HOST,
    LINE,
    MAX_SEGMENTS,
    PATH,
    SnapshotError,
    is_too_deep,
    octets,
    pack,
    unpack,
)

KEY = bytes(16)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(st.integers(0, 2**32 - 1), max_size=5)))
def test_sections_come_back(content: dict[str, list[int]]) -> None:
    """What was packed is unpacked, every section on an 8-octet boundary."""
    data = pack(KEY, {"x": "ü"}, {name: array("I", numbers) for name, numbers in content.items()})
    key, meta, sections = unpack(memoryview(data))
    assert key == KEY
    assert meta["x"] == "ü"
    assert {name: list(view.cast("I")) for name, view in sections.items()} == content
    assert len(data) % 8 == 0


def test_every_flag_is_its_own_bit() -> None:
    """Flags and line share 32 bits without overlapping."""
    assert EXCEPTION | EXACT | BELOW | HOST | PATH | LINE == 0xFFFFFFFF
    assert EXCEPTION + EXACT + BELOW + HOST + PATH + LINE == 0xFFFFFFFF


def test_filter_masks_differ() -> None:
    """Every top octet has its own three bits."""
    assert len(set(FILTER_MASKS)) == 256
    assert {mask.bit_count() for mask in FILTER_MASKS} == {3}
    assert max(FILTER_MASKS) < 1 << 16


@pytest.mark.parametrize("size", range(60))
def test_a_file_that_ends_early_is_refused(size: int) -> None:
    """Nothing shorter than its header says is read."""
    with pytest.raises(SnapshotError):
        unpack(memoryview(pack(KEY, {}, {})[:size]))


def test_depth_is_counted_without_the_query() -> None:
    """A path is too deep by its segments, whatever its query holds."""
    assert not is_too_deep("/x" * MAX_SEGMENTS + "?" + "/" * 100)
    assert is_too_deep("/x" * (MAX_SEGMENTS + 1))


def test_any_text_has_octets() -> None:
    """Lone surrogates, which stand for octets that were not UTF-8, are no obstacle."""
    assert octets("\udcff")
