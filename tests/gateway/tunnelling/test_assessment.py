"""The verdict on a query."""

import pytest

from gateway.tunnelling.assessment import Assessment, entropy, passed
from gateway.tunnelling.priors import Prior


def test_the_score_says_how_near_a_denial_is() -> None:
    """Below 1 is allowed, 1 and above denied."""
    allowed = Assessment(False, "example.com", Prior.UNKNOWN, octets=10, used=50, budget=120)
    assert allowed.score == 0.5
    assert allowed._replace(denied=True).score == 1
    assert allowed._replace(denied=True, octets=190).score == 2
    assert Assessment(False, "example.com", Prior.EXEMPT).score == 0


@pytest.mark.parametrize(("text", "bits"), [("", 0), ("aaaa", 0), ("abcd", 2), ("0123456789abcdef", 4)])
def test_entropy(text: str, bits: float) -> None:
    """Shannon entropy, bits a character."""
    assert entropy(text) == pytest.approx(bits)


def test_what_passed_is_an_assessment_like_others() -> None:
    """The short way and the long one make the same."""
    assert passed("example.com", Prior.UNKNOWN, 1.0, 2.0, 120.0, 3600.0) == Assessment(
        False, "example.com", Prior.UNKNOWN, 1.0, 2.0, 120.0, 3600.0
    )
    assert passed("example.com", Prior.UNKNOWN) == Assessment(False, "example.com", Prior.UNKNOWN)
