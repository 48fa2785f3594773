"""A denial in words, for the ledger, and read back from there.

Pure: no I/O, no clock. One line for people that programs can read, so that a suspect's history needs no other record
than the ledger.
"""

import re
from typing import NamedTuple

from gateway.tunnelling.assessment import Assessment

_POINTS = 12
"""Of a leak curve: it has to fit into a line."""
_ZONE = r"(?P<zone>\S+) \((?P<prior>[a-z]+)\)"
_FORM = re.compile(
    rf"(?P<why>.*): zone {_ZONE}, (?P<octets>[0-9.]+) octets after (?P<used>[0-9.]+) of (?P<budget>[0-9]+) in "
    r"(?P<seconds>[0-9]+) s; told (?P<told>[0-9.]+), got (?P<got>[0-9.]+), closed for (?P<closed>[0-9]+) s"
    r"(?:, leak (?P<leak>[0-9:. ]+))?(?:;.*)?",
    re.DOTALL,
)


class Evidence(NamedTuple):
    """What a line says."""

    why: str
    zone: str
    prior: str
    octets: float
    """New information in the name."""
    used: float
    """Of the budget that decided, before."""
    budget: float
    seconds: float
    told: float
    """Octets that the client had told the zone."""
    got: float
    """Octets of answers that the client had from it and that may carry data."""
    closed: float
    """Seconds for which the zone stays closed to the client; 0: this query alone is denied."""
    curve: tuple[tuple[float, float], ...] = ()
    """Seconds since the first octets left, and how many had left by then."""

    @property
    def score(self) -> float:
        """How far beyond the budget; 1 for what is denied for another reason."""
        return max(1.0, (self.used + self.octets) / self.budget if self.budget else 1.0)


def describe(found: Assessment) -> str:
    """Return a denial in one line."""
    words = [
        f"{found.why}: zone {found.zone} ({found.prior}), {found.octets:.1f} octets after {found.used:.1f} of "
        f"{found.budget:.0f} in {found.seconds:.0f} s",
        f"told {found.told:.1f}, got {found.got:.0f}, closed for {found.closed:.0f} s",
    ]
    if found.curve:
        start = found.curve[0][0]
        points = found.curve if len(found.curve) <= _POINTS else _thinned(found.curve)
        words[-1] += ", leak " + " ".join(f"{time - start:.0f}:{octets:.1f}" for time, octets in points)
    if (seen := found.features) is not None:
        types = "+".join(f"{qtype}x{count}" for qtype, count in seen.types[:4])
        words.append(
            f"entropy {seen.entropy:.2f}, length {seen.length}, bits {seen.bits:.0f}, names {seen.unique}, "
            f"queries {seen.queries} ({seen.per_minute:.1f} a minute), types {types}, "
            f"nxdomain {seen.nxdomain:.0%}, answers {seen.answers} octets"
        )
    return "; ".join(words)


def _thinned(curve: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """Return the first point, the last, and some between."""
    return [curve[index * (len(curve) - 1) // (_POINTS - 1)] for index in range(_POINTS)]


def parse(detail: str) -> Evidence | None:
    """Read a line that `describe` wrote; None when it is another one, or cut."""
    found = _FORM.fullmatch(detail)
    if found is None:
        return None
    try:
        curve = tuple(
            (float(time), float(octets))
            for time, _, octets in (point.partition(":") for point in (found["leak"] or "").split())
        )
        octets, used, budget, seconds, told, got, closed = (
            float(found[name]) for name in ("octets", "used", "budget", "seconds", "told", "got", "closed")
        )
    except ValueError:
        return None
    return Evidence(
        found["why"], found["zone"], found["prior"], octets, used, budget, seconds, told, got, closed, curve
    )
