"""Roll-up of repeats."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.rollup import Repeats, Rollup


def first(key: str, now: float) -> Repeats:
    """Return what was just written."""
    return Repeats(key, {}, now)


steps = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(-100, 100), st.booleans()), max_size=200)


@given(steps, st.integers(1, 5))
def test_nothing_counted_is_lost(sequence: list[tuple[str, float, bool]], limit: int) -> None:
    """Firsts and counts add up to all that was counted, for every order, clock (even one set back) and limit."""
    rollup = Rollup(60.0, limit)
    now = 1000.0
    firsts: dict[str, int] = {}
    counted: dict[str, int] = {}
    closed: list[Repeats] = []
    for key, step, look in sequence:
        now += step
        counted[key] = counted.get(key, 0) + 1
        if rollup.repeat(key, now) is None:
            firsts[key] = firsts.get(key, 0) + 1
            pushed_out = rollup.begin(key, first(key, now))
            closed += [] if pushed_out is None else [pushed_out]
        if look:
            closed += rollup.expired(now)
    closed += rollup.expired(math.inf)
    assert not len(rollup)
    for repeats in closed:
        assert repeats.count > 0
        firsts[repeats.id] += repeats.count
    assert firsts == counted


def test_repeats_within_the_window_come_out_together() -> None:
    """Repeats are counted for a minute from the first, with the time of the first and the last of them."""
    rollup = Rollup()
    assert rollup.repeat("k", 0.0) is None
    entry = first("k", 0.0)
    assert rollup.begin("k", entry) is None
    assert [rollup.repeat("k", float(second)) for second in (1, 5, 59)] == [entry] * 3
    assert rollup.expired(59.9) == []
    assert entry.open
    assert rollup.expired(60.0) == []
    assert not entry.open
    assert not rollup.due(60.9)
    (repeats,) = rollup.expired(61.0)
    assert (repeats.span.count, repeats.span.first, repeats.span.last) == (3, 1.0, 59.0)
    assert rollup.repeat("k", 60.0) is None


def test_who_counts_by_himself_is_read_out_late() -> None:
    """One more may be counted while a window is being closed: what it counted is read a second later."""
    rollup = Rollup()
    entry = first("k", 0.0)
    rollup.begin("k", entry)
    assert rollup.expired(60.0) == []
    entry.again(60.0)  # it had seen the window open
    assert [repeats.count for repeats in rollup.expired(61.0)] == [1]


def test_entries_are_those_whose_counts_have_not_come_out() -> None:
    """In an open window, and in one that is over and not read yet."""
    rollup = Rollup()
    rollup.begin("k", first("k", 0.0))
    for now, expected in ((1.0, [1]), (2.0, [2])):
        rollup.repeat("k", now)
        assert [entry.count for entry in rollup.entries()] == expected
    assert rollup.expired(60.0) == []
    assert [entry.count for entry in rollup.entries()] == [2]
    assert rollup.expired(61.0)
    assert rollup.entries() == []


def test_a_window_that_makes_room_is_closed_for_all() -> None:
    """Whoever counts by himself sees that his window is over."""
    rollup = Rollup(limit=1)
    entries = [first("a", 0.0), first("b", 0.0), first("b", 1.0)]
    for entry in entries:
        rollup.begin(entry.id, entry)
    assert [entry.open for entry in entries] == [False, False, True]


def test_a_first_without_repeats_leaves_nothing() -> None:
    """What came once was written once and is not mentioned again."""
    rollup = Rollup()
    rollup.begin("k", first("k", 0.0))
    assert rollup.due(61.0)
    assert rollup.expired(61.0) == []
    assert rollup.due(62.0)
    assert rollup.expired(62.0) == []
    assert not rollup.due(63.0)


def test_beyond_the_limit_the_oldest_is_closed() -> None:
    """A new kind pushes out the oldest, whose repeats are handed over."""
    rollup = Rollup(limit=2)
    for key in "ab":
        rollup.begin(key, first(key, 0.0))
        rollup.repeat(key, 1.0)
    oldest = rollup.begin("c", first("c", 2.0))
    assert oldest is not None
    assert (oldest.id, oldest.count) == ("a", 1)


def test_few_are_closed_at_once() -> None:
    """One call closes no more windows than it was told to."""
    rollup = Rollup()
    for key in "0123456789":
        rollup.begin(key, first(key, 0.0))
        rollup.repeat(key, 1.0)
    assert [len(rollup.expired(now, 4)) for now in (100.0, 101.0, 102.0, 103.0)] == [0, 4, 4, 2]
    assert not rollup.due(200.0)
