"""The memory that workers share with the supervisor: nothing that was counted is lost with a worker."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.control.cells import COUNTERS, GAUGES
from gateway.control.slots import OTHERS, SIZE, UPSTREAMS, Pen, Report, UpstreamFigures, read, together, words_of
from gateway.dns.tally import BOUNDS, FAILURES, UpstreamTally

A, B = COUNTERS[0], COUNTERS[-1]
FAILED = (0,) * len(FAILURES)
WITHIN = (0,) * (len(BOUNDS) + 1)


def figures(asked: int, took: int = 0, *, resting: bool = False) -> UpstreamFigures:
    """Return the figures of an upstream that answered nothing yet."""
    return UpstreamFigures(asked, took, FAILED, WITHIN, resting)


def memory(slots: int = 1) -> memoryview:
    """Return memory as the supervisor makes it."""
    return memoryview(bytearray(SIZE * slots))


def test_what_is_written_is_read() -> None:
    """Numbers, upstreams, the snapshot and the time come out as they went in."""
    words = words_of(memory(), 0)
    assert read(words).pid == 0
    tally = UpstreamTally()
    tally.asked = 3
    tally.answered(0.003)
    tally.failed("timeout")
    seen = UpstreamFigures.of(tally, True)
    Pen(words, 77).write(Report({A: 5}, {GAUGES[0]: 2}, {"udp://9.9.9.9:53": seen}, (12, 34)), 1000)
    found = read(words)
    assert (found.pid, found.beat, found.stamp) == (77, 1000, (12, 34))
    assert (found.counters[A], found.counters[B], found.gauges[GAUGES[0]]) == (5, 0, 2)
    assert found.upstreams == {"udp://9.9.9.9:53": seen}
    assert (seen.took, seen.failures[0], seen.within[2]) == (3000, 1, 1)


def test_slots_do_not_touch_each_other() -> None:
    """What one worker writes, no other slot shows."""
    shared = memory(3)
    Pen(words_of(shared, 1), 1).write(
        Report(dict.fromkeys(COUNTERS, 2**64 - 1), dict.fromkeys(GAUGES, 2**64 - 1), {"x": figures(9)}), 1
    )
    for number in (0, 2):
        assert not any(words_of(shared, number))


@given(st.lists(st.lists(st.integers(0, 1000), max_size=5), max_size=5))
def test_numbers_survive_workers(lives: list[list[int]]) -> None:
    """However often a worker is killed, its successor goes on where it was: no number ever gets smaller, and together
    they are what was reported."""
    words = words_of(memory(), 0)
    last = expected = 0
    for pid, life in enumerate(lives, 1):
        pen, counted = Pen(words, pid), 0
        for more in life:
            counted += more
            pen.write(Report({A: counted}, {}, {"up": figures(counted)}), pid)
            found = read(words)
            assert found.counters[A] >= last
            assert found.upstreams["up"].asked == found.counters[A]
            last = found.counters[A]
        expected += counted
    assert read(words).counters[A] == expected


def test_a_number_that_is_told_too_low_stays() -> None:
    """While a part of a number moves from one place to another, it does not go backwards."""
    words = words_of(memory(), 0)
    pen = Pen(words, 1)
    for told, shown in ((10, 10), (7, 10), (12, 12)):
        pen.write(Report({A: told}, {}), 1)
        assert read(words).counters[A] == shown


def test_gauges_end_with_their_worker() -> None:
    """What a worker held is not what its successor holds."""
    words = words_of(memory(), 0)
    Pen(words, 1).write(Report({}, {GAUGES[0]: 9}, {"up": figures(1, resting=True)}), 1)
    Pen(words, 2).write(Report({}, {}, {"up": figures(0)}), 2)
    assert read(words).gauges[GAUGES[0]] == 0
    assert not read(words).upstreams["up"].resting


def test_more_upstreams_than_there_is_room_for() -> None:
    """The last place is for all that have none of their own, and nothing is lost."""
    words = words_of(memory(), 0)
    names = [f"udp://192.0.2.{number}:53" for number in range(UPSTREAMS + 5)]
    for pid in (1, 2):
        pen = Pen(words, pid)
        for _ in range(2):
            pen.write(Report({}, {}, {name: figures(1) for name in names}), pid)
    found = read(words).upstreams
    assert list(found) == [*names[: UPSTREAMS - 1], OTHERS]
    assert found[OTHERS].asked == 2 * (len(names) - UPSTREAMS + 1)
    assert sum(each.asked for each in found.values()) == 2 * len(names)


def test_a_name_that_is_too_long_is_cut() -> None:
    """The path of a DoH server may be of any length; a letter is never cut in two."""
    words = words_of(memory(), 0)
    Pen(words, 1).write(Report({}, {}, {"https://192.0.2.1/" + "ü" * 100: figures(1)}), 1)
    (name,) = read(words).upstreams
    assert name.startswith("https://192.0.2.1/üü")
    assert len(name.encode()) <= 127


def test_sums_over_workers() -> None:
    """Every figure is added up."""
    one = UpstreamFigures(1, 2, (1,) * len(FAILURES), (3,) * len(WITHIN))
    assert together([one, one]) == UpstreamFigures(2, 4, (2,) * len(FAILURES), (6,) * len(WITHIN))
