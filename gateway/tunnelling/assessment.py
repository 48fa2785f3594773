"""What the detector says of one query, with the evidence.

Pure: no I/O, no clock.
"""

from collections import Counter
from math import log2
from typing import NamedTuple

from gateway.decision import Reason
from gateway.tunnelling.priors import Prior


class Features(NamedTuple):
    """What an analyst wants to see beside the verdict. None of it decides."""

    entropy: float
    """Shannon, bits a character, of the name below its zone."""
    length: int
    """Of the whole name, characters."""
    bits: float
    """Of the name below its zone, under the character model."""
    unique: int
    """Different names below the zone, as far as they are remembered."""
    queries: int
    """Cache misses for the zone, by anybody, since `first`."""
    per_minute: float
    types: tuple[tuple[int, int], ...]
    """Query types and how often, the most frequent first."""
    nxdomain: float
    """Share of answers that said there is no such name."""
    answers: int
    """Octets of answers."""
    first: float
    """When the zone was first asked for."""


class Assessment(NamedTuple):
    """The verdict on one query."""

    denied: bool
    zone: str
    prior: Prior
    octets: float = 0.0
    """New information in this name, weighted."""
    used: float = 0.0
    """What the client had spent in the window of the budget before."""
    budget: float = 0.0
    """Octets; 0 where there is none."""
    seconds: float = 0.0
    """The window of the budget."""
    reason: Reason | None = None
    """`dns-tunnel` or `leak-budget` when denied."""
    why: str = ""
    """One phrase for people."""
    features: Features | None = None
    """When denied."""
    told: float = 0.0
    """When denied: octets that the client had told the zone before, in the longest window."""
    got: float = 0.0
    """When denied: octets of answers that it had from the zone."""
    closed: float = 0.0
    """Seconds for which the zone stays closed to the client; 0: this query alone is denied."""
    curve: tuple[tuple[float, float], ...] = ()
    """When how many octets had left, as the zone is closed."""

    @property
    def score(self) -> float:
        """How near to a denial: 1 and more is one."""
        if self.denied:
            return max(1.0, (self.used + self.octets) / self.budget if self.budget else 1.0)
        return (self.used + self.octets) / self.budget if self.budget else 0.0


_new, _NO_MORE = tuple.__new__, (None, "", None, 0.0, 0.0, 0.0, ())


def passed(
    zone: str, prior: Prior, octets: float = 0.0, used: float = 0.0, budget: float = 0.0, seconds: float = 0.0
) -> Assessment:
    """Return that a query may leave: what `Assessment` does with these fields, in half the time."""
    return _new(Assessment, (False, zone, prior, octets, used, budget, seconds, *_NO_MORE))


def entropy(text: str) -> float:
    """Return the Shannon entropy of a text, bits a character.

    >>> entropy("aabb")
    1.0
    """
    if not text:
        return 0.0
    total = len(text)
    return sum(count / total * log2(total / count) for count in Counter(text).values())
