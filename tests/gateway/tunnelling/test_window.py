"""Sliding windows and floors."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.tunnelling.window import Floors, Limit, Window

SPENDINGS = st.lists(st.tuples(st.floats(0, 3000), st.floats(0.01, 50)), max_size=150)


@given(SPENDINGS)
def test_never_undercounted(spendings: list[tuple[float, float]]) -> None:
    """A window says at least what was spent in it, however many spendings were merged."""
    window, now, past = Window(), 0.0, []
    for pause, octets in spendings:
        now += pause
        window.add(now, octets, 86400)
        past.append((now, octets))
        for seconds in (3600, 86400):
            exact = sum(spent for at, spent in past if at > now - seconds)
            assert window.spent(now, seconds) >= exact - 1e-6
    assert len(window.entries()) <= 32


def test_it_slides() -> None:
    """What is older than the window is not counted."""
    window = Window()
    window.add(0, 10, 86400)
    window.add(4000, 5, 86400)
    assert window.spent(4000, 3600) == 5
    assert window.spent(4000, 86400) == 15
    assert window.exceeds(4000, 6, [Limit(10, 3600), Limit(20, 86400)]) == Limit(10, 3600)
    assert window.exceeds(4000, 6, [Limit(10, 3600)], factor=2) is None


def test_it_is_restored() -> None:
    """A window that took over the entries of another one says the same."""
    window, other = Window(), Window()
    window.add(10, 3, 3600)
    window.add(100, 4, 3600)
    other.restore(window.entries())
    assert other.spent(120, 3600) == 7


@given(st.lists(st.tuples(st.integers(0, 99), st.floats(0, 240)), min_size=1, max_size=50))
def test_floors_hold_what_was_spent(raised: list[tuple[int, float]]) -> None:
    """No account finds a lower floor than it left, for as long as the longest window."""
    floors = Floors(8, 86400)
    for key, octets in raised:
        floors.raise_to(80000, key, octets)
    assert all(floors.floor(80000 + 86399, key) >= octets for key, octets in raised)
    assert floors.highest() == max(octets for _, octets in raised)


def test_floors_are_forgotten() -> None:
    """After twice the longest window a cell is empty."""
    floors = Floors(8, 86400)
    floors.raise_to(0, 1, 100)
    assert floors.floor(2 * 86400, 1) == 0
