"""Tests for gateway.memo."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.memo import Memo


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_room_is_bounded_and_what_is_there_is_right(keys: list[int], room: int) -> None:
    """However many come, no more than the room are kept; the last is there, and every value is that of its key."""
    memo = Memo[int, str](room)
    for key in keys:
        assert memo.keep(key, str(key)) == str(key)
        assert memo[key] == str(key)
        assert len(memo) <= room
        assert all(value == str(known) for known, value in memo.items())


def test_another_value_takes_the_place_of_the_first() -> None:
    """To keep what is there already makes room for nothing."""
    memo = Memo[str, int](2)
    memo.keep("a", 1)
    memo.keep("b", 2)
    memo.keep("a", 3)
    assert memo == {"a": 3, "b": 2}
