"""The table that workers share: windows, room, and what happens without it."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tunnelling.accounts import Cell, SharedTable, size
from gateway.tunnelling.data import character_model, popular
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.priors import Priors
from gateway.tunnelling.window import DEFAULT_BUDGET, Limit

SECONDS = (3600.0, 86400.0)
HOUR = Limit(100, 3600)


@pytest.fixture(name="table")
def _table() -> SharedTable:
    return SharedTable(memoryview(bytearray(size(2))), SECONDS)


def a_detector(table: SharedTable) -> Detector:
    """Return a detector of a worker."""
    detector = Detector(character_model(), Priors(popular()), key=table.key)
    detector.share(table)
    return detector


@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 50)), max_size=40))
def test_a_window_never_forgets_too_early(spendings: list[tuple[float, float]]) -> None:
    """What was spent within the window is in its sum, however the parts lie; what is older than its length and a part
    is not."""
    cell, now, spent = Cell(0, [0.0] * 23, SECONDS), 1e9, []
    for pause, octets in spendings:
        now += pause
        cell.add(now, octets)
        spent.append((now, octets))
        for seconds in SECONDS:
            exact = sum(octets for at, octets in spent if at > now - seconds)
            most = sum(octets for at, octets in spent if at >= now - seconds * 9 / 8 - 1e-3)
            assert exact - 1e-6 <= cell.spent(now, seconds) <= most + 1e-6


def test_a_clock_that_is_set_back_makes_nothing_free(table: SharedTable) -> None:
    """Spending counts until its time has come by the clock that is."""
    cell = table.open(1e6, 7)
    cell.add(1e6, 90)
    assert cell.exceeds(1e6 - 80000, 20, [HOUR], 1) is HOUR
    assert cell.exceeds(1e6 + 3600, 100, [HOUR], 1) is HOUR
    assert cell.exceeds(1e6 + 4500, 100, [HOUR], 1) is None


def test_a_flood_of_accounts_gives_nobody_a_fresh_budget(table: SharedTable) -> None:
    """An account that had to make room begins again with no less than it had spent."""
    values = [7 + 8192 * index for index in range(50)]
    for round_ in range(3):
        for value in values:
            cell = table.open(1000.0 + round_, value)
            if cell.exceeds(1000.0 + round_, 10, [HOUR], 1) is None:
                cell.add(1000.0 + round_, 10)
                table.store(cell)
    assert all(table.open(1003.0, value).spent(1003.0, 3600) >= 30 for value in values)


def test_names_beyond_the_room_are_forgotten(table: SharedTable) -> None:
    """The newest of more names than there is room for is known."""
    values = [1 + 32768 * index for index in range(1, 40)]
    for value in values:
        table.learn([value])
        assert table.knows(value)
    assert sum(map(table.knows, values)) == 8


NAMES = st.text("abcdefghij0123456789-", min_size=1, max_size=30).map(lambda label: f"{label}.evilzone.com")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAMES, st.floats(0, 900), st.integers(0, 3)), max_size=80))
def test_the_law_for_the_service(queries: list[tuple[str, float, int]]) -> None:
    """Whichever workers a client's queries come to, what it tells an unknown zone stays within one budget."""
    table = SharedTable(memoryview(bytearray(size(2))), SECONDS)
    workers = [a_detector(table) for _ in range(4)]
    now, told = 1e9, []
    for name, pause, number in queries:
        now += pause
        found = workers[number].query(now, "c", name, 1)
        if not found.denied:
            told.append((now, found.octets))
    for limit in DEFAULT_BUDGET:
        for end, _ in told:
            assert sum(octets for at, octets in told if end - limit.seconds < at <= end) <= limit.octets + 1e-6


def tunnel() -> Iterator[str]:
    """Yield names of a tunnel in short hexadecimal labels."""
    for index in range(40):
        yield f"{(index + 1) * 2654435761 % 2**64:016x}.evilzone.com"


def test_a_tunnel_over_several_workers_is_seen_as_one(table: SharedTable) -> None:
    """Names that look like data are counted over all workers, and a denial is one for all of them."""
    workers = [a_detector(table) for _ in range(4)]
    names = list(tunnel())
    passed = [not workers[index % 4].query(1000 + index, "c", name, 1).denied for index, name in enumerate(names)]
    assert sum(passed) <= 6
    assert not any(passed[6:])
    assert all(worker.query(2000, "c", "fresh.evilzone.com", 1).denied for worker in workers)
    assert not any(worker.query(2000, "d", "fresh.evilzone.com", 1).denied for worker in workers)


def test_a_download_over_several_workers_ends_at_one_budget(table: SharedTable) -> None:
    """Answers count over all workers."""
    workers = [a_detector(table) for _ in range(4)]
    got = 0
    for index in range(60):
        found = workers[index % 4].response(1000 + index, "c", f"{index}.evilzone.com", 16, 250)
        got += 0 if found.denied else 250
    assert 3500 < got <= 4096


def test_a_release_counts_everywhere(table: SharedTable) -> None:
    """Who is released by one worker begins anew with all that had not denied it themselves."""
    one, two = a_detector(table), a_detector(table)
    for name in tunnel():
        one.query(1000, "c", name, 1)
    assert one.release(1001, "c", "evilzone.com")
    assert not two.query(1002, "c", "www.evilzone.com", 1).denied


def test_a_table_for_something_else_is_refused(table: SharedTable) -> None:
    """Windows and key have to be those of the detector."""
    detector = Detector(character_model(), Priors(popular()), key=b"another")
    with pytest.raises(ValueError, match="another key"):
        detector.share(table)
    other = Detector(character_model(), Priors(popular()), budget=[Limit(10, 60)], key=table.key)
    with pytest.raises(ValueError, match="other windows"):
        other.share(table)
