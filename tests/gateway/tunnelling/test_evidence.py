"""A denial in words, and back."""

import pytest

from gateway.tunnelling.assessment import Assessment
from gateway.tunnelling.data import character_model, popular
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.evidence import describe, parse
from gateway.tunnelling.priors import Prior, Priors

DATA = "726f6f743a783a30.3a303a726f6f743a.evilzone.com"


def denials() -> list[Assessment]:
    """Return what a detector says to a tunnel: the denial that closes the zone, and the next."""
    detector = Detector(character_model(), Priors(popular()))
    asked = [(index * 20.0, f"{index * 7919:08x}ab{index}." + DATA) for index in range(60)]
    return [found for at, name in asked if (found := detector.query(at, "10.0.0.1", name, 1)).denied]


def test_what_is_written_can_be_read() -> None:
    """Zone, octets, budget, how long the zone is closed, and the curve come back as they were."""
    first, second, *_ = denials()
    found = parse(describe(first))
    assert found is not None
    assert (found.zone, found.prior, found.why) == ("evilzone.com", "unknown", first.why)
    assert (found.budget, found.seconds, found.closed) == (120, 3600, 86400)
    assert found.used == pytest.approx(first.used, abs=0.06)
    assert found.told == pytest.approx(first.told, abs=0.06)
    assert found.curve[0][0] == 0
    assert found.curve[-1][1] == pytest.approx(first.told, abs=0.1)
    assert found.score >= 1
    again = parse(describe(second))
    assert again is not None
    assert again.why == f"denied before: {first.why}"
    assert again.told == found.told


def test_a_long_curve_is_thinned() -> None:
    """A line keeps a dozen points of the curve, its ends among them."""
    curve = tuple((100.0 + second, second * 2.0) for second in range(40))
    found = parse(describe(Assessment(True, "evilzone.com", Prior.UNKNOWN, why="x", curve=curve)))
    assert found is not None
    assert (len(found.curve), found.curve[0], found.curve[-1]) == (12, (0, 0), (39, 78))


@pytest.mark.parametrize("line", ["", "more than 20 queries a second", "x: zone a.b (unknown), 1.1.1 octets after"])
def test_other_lines_are_none(line: str) -> None:
    """What `describe` did not write is not taken for evidence."""
    assert parse(line) is None
