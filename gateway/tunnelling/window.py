"""Budgets: so many octets in so many seconds.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Limit(NamedTuple):
    """So many octets in so many seconds."""

    octets: float
    seconds: float


DEFAULT_BUDGET = (Limit(120, 3600), Limit(240, 86400))
"""What a client may tell an unknown zone, where the configuration does not say otherwise."""


def ordered(budget: Iterable[Limit]) -> tuple[Limit, ...]:
    """Return the limits, the shortest window first; of several for one window, the tightest.

    >>> [limit.octets for limit in ordered([Limit(9, 60), Limit(5, 60), Limit(1, 10)])]
    [1, 5]
    """
    tightest_last = sorted(budget, key=lambda limit: (limit.seconds, -limit.octets))
    return tuple({limit.seconds: limit for limit in tightest_last}.values())
