"""Tests for gateway.dns.ratelimit."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.ratelimit import TOLD, WINDOW, Excess, RateLimit


def test_a_burst_is_let_through_and_no_more() -> None:
    """A client that was silent may ask as many at once as the burst says."""
    limit = RateLimit(10, 5)
    assert [limit.check("a", 100.0) for _ in range(6)] == [None] * 5 + [Excess.FIRST]
    assert limit.check("b", 100.0) is None


def test_the_rate_is_kept_up() -> None:
    """At its rate a client is never over the limit, and a bucket fills no further than the burst."""
    limit = RateLimit(10, 2)
    assert [limit.check("a", 100 + number / 10) for number in range(50)] == [None] * 50
    assert [limit.check("a", 1000.0) for _ in range(3)] == [None, None, Excess.FIRST]


def test_several_are_paid_for_together_or_not_at_all() -> None:
    """Queries to come are counted if all of them are within the limit; else none is, and nothing is recorded."""
    limit = RateLimit(0.001, 5)
    assert limit.pays("a", 100.0, 3)
    assert not limit.pays("a", 100.0, 3)
    assert limit.pays("a", 100.0, 2)
    assert limit.check("a", 100.0) is Excess.FIRST


def test_what_is_over_is_told_for_a_while_and_recorded_once_a_window() -> None:
    """The first query over the limit is recorded, the next are told, then there is silence until the next window."""
    limit = RateLimit(0.001, 1)
    assert limit.check("a", 100.0) is None
    times = (100.0, 100 + TOLD / 2, 100 + TOLD, 100 + WINDOW - 0.1, 100 + WINDOW, 100 + WINDOW + 0.1)
    assert [limit.check("a", now) for now in times] == [
        Excess.FIRST,
        Excess.TELL,
        Excess.SILENCE,
        Excess.SILENCE,
        Excess.FIRST,
        Excess.TELL,
    ]


def test_forged_clients_do_not_fill_memory() -> None:
    """However many clients there are, two generations of them are kept, and who keeps asking is not forgotten."""
    limit = RateLimit(0.001, 1, clients=10)
    limit.check("a", 100.0)
    for number in range(1000):
        assert limit.check(str(number), 100.0) is None
        assert limit.check("a", 100.0) is not None
        assert len(limit) <= 20


@given(
    st.floats(0.5, 100),
    st.integers(1, 20),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_no_client_gets_more_than_its_bucket(rate: float, burst: int, gaps: list[float]) -> None:
    """In any stretch of time no more queries pass than the burst and the rate allow."""
    limit, now, passed = RateLimit(rate, burst), 1000.0, []
    for gap in gaps:
        now += gap
        if limit.check("a", now) is None:
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + rate * (passed[last] - passed[first]) + 1e-6 * (rate + 1)
