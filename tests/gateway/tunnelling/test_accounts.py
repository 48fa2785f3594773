"""The table that workers share: windows, room, and what is kept of what had to go."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tunnelling.accounts import GRAIN, Room, SharedTable, grains, paired, size
from gateway.tunnelling.data import character_model, popular
from gateway.tunnelling.detector import Detector, windows
from gateway.tunnelling.downloads import ANSWER_BUDGET
from gateway.tunnelling.priors import Priors
from gateway.tunnelling.structure import Controls
from gateway.tunnelling.window import DEFAULT_BUDGET, Limit

SECONDS = (3600.0, 86400.0, 3600.0)
NOW = 1e9
TIGHT = Room(names=2, pairs=1, zones=1, clients=1)


@pytest.fixture(name="table")
def _table() -> SharedTable:
    return SharedTable.private(SECONDS, b"key")


def a_detector(table: SharedTable, budget: tuple[Limit, ...] = DEFAULT_BUDGET) -> Detector:
    """Return a detector of a worker."""
    return Detector(character_model(), Priors(popular()), budget=budget, table=table)


@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 50)), max_size=40), st.booleans())
def test_a_window_never_forgets_too_early(spendings: list[tuple[float, float]], answers: bool) -> None:
    """What was spent within the window is in its sum, however the parts lie; what is older than its length and a part
    is not. Octets are rounded up to parts of 1/64."""
    table, now, spent = SharedTable.private(SECONDS, b"", TIGHT), NOW, []
    for pause, octets in spendings:
        now += pause
        at = table.open(now, table.pairs, 7)
        (table.spend_answer if answers else table.spend)(at, grains(octets))
        spent.append((now, octets))
        for span, seconds in enumerate(SECONDS):
            if (span == 2) is not answers:
                continue
            exact = sum(octets for at, octets in spent if at > now - seconds)
            most = sum(octets for at, octets in spent if at >= now - seconds * 9 / 8 - 1e-3)
            found = table.spent(table.open(now, table.pairs, 7), span)
            assert exact - 1e-6 <= found <= most + len(spent) / GRAIN + 1e-6


def test_a_clock_that_is_set_back_makes_nothing_free(table: SharedTable) -> None:
    """Spending counts until its time has come by the clock that is; one from a far future counts as spent now."""
    table.spend(table.open(NOW, table.pairs, 7), grains(90))
    assert table.spent(table.open(NOW - 3000, table.pairs, 7), 0) == 90
    assert table.spent(table.open(NOW + 3600, table.pairs, 7), 0) == 90
    assert table.spent(table.open(NOW + 4500, table.pairs, 7), 0) == 0
    table.spend(table.open(NOW * 2, table.pairs, 8), grains(90))
    assert table.spent(table.open(NOW, table.pairs, 8), 0) == 90
    assert table.spent(table.open(NOW + 4500, table.pairs, 8), 0) == 0
    assert table.spent(table.open(NOW + 4500, table.pairs, 8), 1) == 90


def test_to_charge_is_to_look_and_to_spend(table: SharedTable) -> None:
    """The short way spends on both accounts, or on none: at a limit of either, or when either is closed."""
    for limits, counted in (
        (((100, 200), (400, 800)), True),
        (((99, 200), (400, 800)), False),
        (((100, 99), (400, 800)), False),
        (((100, 200), (99, 800)), False),
        (((100, 200), (400, 99)), False),
    ):
        pair, zone = (hash((limits, side)) & 2**64 - 1 for side in "pz")
        before, site = table.charge(NOW, pair, zone, 100, paired(*limits), 0)
        assert (before, site) == (0 if counted else -1, table.find(table.zones, zone))
        for at in (table.find(table.pairs, pair), site):
            assert table.spent(at, 0) * GRAIN == (100 if counted else 0)
            assert table.facts(at).new == counted
    more = paired((1000, 1000), (1000, 1000))
    assert table.charge(NOW, 5, 6, 100, more, 0)[0] == 0
    assert table.charge(NOW, 5, 6, 100, more, table.find(table.zones, 6))[0] == 100
    table.close(table.find(table.pairs, 5), NOW + 10)
    assert table.charge(NOW, 5, 6, 100, more, 0)[0] == -1
    assert table.charge(NOW + 11, 5, 6, 100, more, 0)[0] == 200


def test_a_flood_of_accounts_gives_nobody_a_fresh_budget() -> None:
    """An account that had to make room begins again with no less than it had spent; one that is closed stays."""
    table = SharedTable.private(SECONDS, b"", TIGHT)
    table.close(table.open(NOW, table.pairs, 4), NOW + 999)
    for round_ in range(3):
        for value in range(8, 400, 8):
            at = table.open(NOW + round_, table.pairs, value)
            assert table.spent(at, 0) >= round_ * 10
            table.spend(at, grains(10))
            table.spend_answer(at, grains(10))
    at = table.open(NOW + 9, table.pairs, 100_000)
    assert table.spent(at, 0) >= 30
    assert table.spent(at, 2) >= 30
    assert table.facts(at).new == 0
    assert table.until(table.find(table.pairs, 4)) == NOW + 999


def test_names_beyond_the_room_are_forgotten() -> None:
    """A name that is asked for again after a flood is new again, and the latest one is known."""
    table = SharedTable.private(SECONDS, b"", TIGHT)
    for value in range(5, 2005):
        table.learn({value: table.place(value)})
        assert table.knows(value)
    assert not table.knows(5)


def test_who_asked_for_a_zone(table: SharedTable) -> None:
    """Days count once, clients once, and no more than eight."""
    at = table.open(NOW, table.zones, 9)
    assert [table.visit(NOW, at, client, apex=False) for client in (5, 6, 5)] == [(1, 1), (1, 2), (1, 2)]
    assert table.visit(NOW + 86400, at, 5, apex=True) == (2, 2)
    assert [table.visit(NOW, at, 100 + client, apex=False)[1] for client in range(9)][-1] == 8
    facts = table.facts(at)
    assert (facts.mark, facts.clients, facts.since) == (1, 8, NOW)


def test_a_curve_says_when_octets_left(table: SharedTable) -> None:
    """The last hour by eighths of an hour, and what is older by eighths of a day, to the octet."""
    for when in (0, 7000, 30000, 80000, 80000, 81000):
        table.spend(table.open(NOW + when, table.pairs, 7), grains(10))
    at = table.open(NOW + 81000, table.pairs, 7)
    curve = table.curve(at)
    assert sum(octets for _, octets in curve) == table.spent(at, 1) == 60
    assert [octets for _, octets in curve[-2:]] == [20, 10]
    assert curve == sorted(curve)
    assert all(NOW - 10800 <= when <= NOW + 81000 for when, _ in curve)


def test_other_windows_take_over_what_was_spent(table: SharedTable) -> None:
    """Nobody gets a fresh budget, and nothing that is closed opens, because windows were configured anew."""
    at = table.open(NOW, table.pairs, 7)
    table.spend(at, grains(10))
    table.spend(table.open(NOW + 5000, table.pairs, 7), grains(20), heavy=True)
    table.spend_answer(at, grains(30))
    table.close(at, NOW + 99_000, 1)
    table.visit(NOW, table.open(NOW, table.zones, 8), 5, apex=False)
    table.learn({77: table.place(77)})
    other = SharedTable.private((1800.0, 7200.0, 3600.0), b"key")
    other.adopt(NOW + 5001, table)
    at = other.open(NOW + 5001, other.pairs, 7)
    assert [other.spent(at, span) for span in range(3)] == [20, 30, 0 if table.spent(at, 2) == 0 else 30]
    facts = other.facts(at)
    assert (facts.until, facts.new, facts.heavy, facts.mark) == (NOW + 99_000, 2, 1, 1)
    assert other.facts(other.open(NOW, other.zones, 8)).clients == 1
    assert other.knows(77)


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=30).map(
    lambda label: f"{label}.evilzone.com"
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAMES, st.floats(0, 900), st.integers(0, 3)), max_size=120), st.booleans())
def test_the_law_for_the_service(queries: list[tuple[str, float, int]], tight: bool) -> None:
    """Whatever names a client chooses, and whichever worker each falls to, the zone is told no more than the budget.
    Also where there is hardly any room, so that accounts are forgotten all the time."""
    table = SharedTable.private(SECONDS, b"", TIGHT if tight else Room())
    workers = [a_detector(table) for _ in range(4)]
    now, told = NOW, []
    for index, (name, pause, worker) in enumerate(queries):
        now += pause
        found = workers[worker].query(now, "c", name, 1)
        if not found.denied:
            told.append((now, found.octets))
        if tight:
            workers[worker].query(now, "c", f"{name.partition('.')[0]}x.junk{index}.com", 1)
    for limit in DEFAULT_BUDGET:
        for end, _ in told:
            assert sum(octets for at, octets in told if end - limit.seconds < at <= end) <= limit.octets + 1e-6


@pytest.fixture(name="names")
def tunnel() -> Iterator[str]:
    """Yield names of a tunnel."""
    return (f"{number:08x}{number * 2654435761 % 2**32:08x}.evilzone.com" for number in range(1, 1000))


def test_a_tunnel_over_several_workers_is_seen_as_one(table: SharedTable, names: Iterator[str]) -> None:
    """It gets no more queries out than through one worker, and what it told is known to the one that denies it."""
    alone = a_detector(SharedTable.private(SECONDS, b"key"))
    passed_alone = next(index for index in range(50) if alone.query(NOW + index, "c", next(names), 1).denied)
    workers = [a_detector(table) for _ in range(8)]
    found = [workers[index % 8].query(NOW + index, "c", next(names), 1) for index in range(40)]
    passed = sum(not each.denied for each in found)
    assert passed <= passed_alone + 1
    assert all(each.denied for each in found[passed:])
    later = found[passed + 1]
    assert later.why == "denied before: by another worker or before a restart"
    assert later.told == found[passed].told > 0
    assert later.curve


def test_a_download_over_several_workers_ends_at_one_budget(table: SharedTable) -> None:
    """Answers count for all workers together."""
    workers = [a_detector(table) for _ in range(4)]
    got = 0
    for index in range(200):
        octets = 100 + index
        if not workers[index % 4].response(NOW, "c", f"{index}.evilzone.com", 16, octets).denied:
            got += octets
    assert 0 < got <= ANSWER_BUDGET.octets


def test_a_release_counts_everywhere(table: SharedTable, names: Iterator[str]) -> None:
    """One worker releases a client, and another lets it ask; the zone stays closed to others."""
    one, two = a_detector(table), a_detector(table)
    for client in ("c", "d"):
        for index in range(20):
            found = one.query(NOW + index, client, next(names), 1)
        assert found.denied
    assert two.query(NOW + 30, "c", "www.evilzone.com", 1).denied
    assert one.release(NOW + 31, "c", "www.evilzone.com")
    for worker in (one, two):
        assert not worker.query(NOW + 32, "c", "www.evilzone.com", 1).denied
        assert worker.query(NOW + 32, "d", "www.evilzone.com", 1).denied


def test_a_known_name_is_denied_where_the_zone_is_closed(table: SharedTable, names: Iterator[str]) -> None:
    """A worker that did not close a zone denies it all the same, also for names that tell nothing new."""
    one, two = a_detector(table), a_detector(table)
    assert not two.query(NOW, "c", "www.evilzone.com", 1).denied
    for index in range(20):
        one.query(NOW + index, "c", next(names), 1)
    assert two.is_closed(NOW + 20, "c")
    assert two.query(NOW + 20, "c", "www.evilzone.com", 1).denied
    closed = two.closed(NOW + 20, "c", "www.evilzone.com")
    assert closed is not None
    assert closed.denied
    assert two.closed(NOW + 20, "d", "www.evilzone.com") is None


def test_an_established_zone_is_one_for_all_workers(table: SharedTable) -> None:
    """Three clients on three days, whichever worker each of them asks; a worker that starts later knows it."""
    workers = [a_detector(table) for _ in range(3)]
    for day in range(3):
        for number, worker in enumerate(workers):
            worker.query(NOW + day * 86400, f"10.0.0.{number}", f"host{number}.ownsite.org", 1)
    assert a_detector(table).prior(NOW + 4 * 86400, "ownsite.org") == "established"


def test_a_table_for_something_else_is_refused(table: SharedTable) -> None:
    """Other windows would be counted into the wrong ones, and names hashed with another key would all be new."""
    with pytest.raises(ValueError, match="windows"):
        a_detector(table, (Limit(1, 7200),))
    detector = a_detector(table)
    with pytest.raises(ValueError, match="key"):
        detector.use(NOW, Priors(popular()), DEFAULT_BUDGET, Controls(), SharedTable.private(SECONDS, b"x"))


def test_its_size() -> None:
    """Fixed: what it takes is there from the start."""
    assert size(len(windows(DEFAULT_BUDGET))) < 32e6


def test_two_names_with_one_place_are_both_remembered() -> None:
    """A place that was found free and was taken since is looked for again."""
    table = SharedTable.private(SECONDS, b"", TIGHT)
    table.learn({value: table.place(value) for value in (2, 4, 6)})
    assert all(map(table.knows, (2, 4, 6)))
    assert table.place(4) == -1
