"""Tests of `gateway.proxy.fairqueue`: who is next, and who may wait."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.fairqueue import LEAD, FairQueue

SOURCES = "abcdefgh"


def a_queue(*given: str, most: int = 1000) -> FairQueue[str]:
    """Return a queue in which items of sources wait, each item named as its source."""
    queue: FairQueue[str] = FairQueue(most)
    for source in given:
        assert queue.put(source, source)
    return queue


def taken(queue: FairQueue[str], count: int) -> str:
    """Return the sources of the next items."""
    return "".join(queue.take() for _ in range(count))


def test_sources_take_turns() -> None:
    """However many items one has waiting, and in whatever order they came."""
    queue = a_queue(*"aaaaabbc")
    assert taken(queue, 8) == "abcabaaa"
    assert not queue
    with pytest.raises(IndexError):
        queue.take()


def test_items_of_a_source_keep_their_order() -> None:
    """First come, first served, among what is of one source."""
    queue: FairQueue[int] = FairQueue(10)
    assert all(queue.put("a", number) for number in range(5))
    assert [queue.take() for _ in range(5)] == list(range(5))


def test_who_comes_anew_goes_first() -> None:
    """Before those who were served all the while, a few times; then it takes turns with them."""
    queue = a_queue(*"ab" * 100)
    taken(queue, 40)
    for _ in range(20):
        assert queue.put("new", "n")
    assert taken(queue, LEAD) == "n" * LEAD
    assert Counter(taken(queue, 30)) == {"a": 10, "b": 10, "n": 10}


def test_who_comes_seldom_goes_first_each_time() -> None:
    """As long as it wants no more than its part, whoever has many waiting is behind it."""
    queue = a_queue(*"abc" * 100)
    for _ in range(30):
        taken(queue, 4)  # its part would be three of these
        assert queue.put("seldom", "s")
        assert taken(queue, 1) == "s"


def test_who_wants_more_waits_for_its_turn() -> None:
    """Coming again as soon as it was served, one source gets as much as any other, and not more."""
    queue = a_queue(*"abc" * 100)
    served = 0
    assert queue.put("eager", "e")
    for _ in range(200):
        if queue.take() == "e":
            served += 1
            assert queue.put("eager", "e")
    assert 200 // 4 <= served <= 200 // 4 + LEAD


def test_an_absence_saves_up_nothing() -> None:
    """What somebody did not want while others were served is not given to it later."""
    queue = a_queue(*"ab" * 500, most=5000)
    queue.put("c", "c")
    taken(queue, 601)
    for _ in range(50):
        queue.put("c", "c")
    assert Counter(taken(queue, 90))["c"] <= 90 // 3 + LEAD


def test_one_source_takes_half_of_the_room() -> None:
    """The rest is for others; of those, none has more than an even part once half is taken."""
    queue = a_queue(*"a" * 50, most=100)
    assert not queue.put("a", "a")
    assert [queue.put("b", "b") for _ in range(30)] == [True] * 25 + [False] * 5
    assert [queue.put("c", "c") for _ in range(30)] == [True] * 16 + [False] * 14
    assert queue.put("d", "d")


def test_the_room_ends() -> None:
    """With as many sources as there is room for, the next is refused too."""
    queue: FairQueue[int] = FairQueue(100)
    assert [queue.put(number, number) for number in range(110)] == [True] * 100 + [False] * 10
    assert len(queue) == 100
    queue.take()
    assert queue.put("late", 0)


def test_sources_are_forgotten() -> None:
    """Endless ones, each seen once, take no memory."""
    queue: FairQueue[int] = FairQueue(100)
    for number in range(20_000):
        queue.put(number, number)
        queue.take()
        queue.put("always", number)
        queue.take()
    assert len(queue._served) < 3000
    assert len(queue._order) == len(queue._waiting) == len(queue) == 0


@given(st.lists(st.sampled_from([*SOURCES, ""]), max_size=300), st.integers(2, 40))
def test_nothing_is_lost(steps: list[str], most: int) -> None:
    """Whatever is put in comes out once, in order for each source, and never more wait than may."""
    queue: FairQueue[tuple[str, int]] = FairQueue(most)
    put: list[tuple[str, int]] = []
    out: list[tuple[str, int]] = []
    for number, source in enumerate(steps):
        if not source:
            if queue:
                out.append(queue.take())
        elif queue.put(source, (source, number)):
            put.append((source, number))
        assert len(queue) == len(put) - len(out) <= most
    out += [queue.take() for _ in range(len(queue))]
    for source in SOURCES:
        assert [each for each in out if each[0] == source] == [each for each in put if each[0] == source]
