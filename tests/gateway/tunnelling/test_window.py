"""Budgets over windows."""

from gateway.tunnelling.window import Limit, ordered


def test_of_two_limits_for_one_window_the_tighter_counts() -> None:
    """Whatever the order in the configuration, windows go up and each comes once."""
    limits = [Limit(240, 86400), Limit(500, 3600), Limit(120, 3600)]
    assert ordered(limits) == ordered(reversed(limits)) == (Limit(120, 3600), Limit(240, 86400))
