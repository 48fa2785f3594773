"""What a name tells: nothing twice, little where it is like others."""

from tests.leaks import a_detector

A, AAAA = 1, 28


def test_what_is_known_costs_nothing() -> None:
    """A name that was asked for is no news, whoever asks again."""
    detector = a_detector()
    assert detector.query(0, "c", "deep.host.evilzone.com", A).octets > 0
    assert detector.query(9, "d", "deep.host.evilzone.com", A).octets == 0
    assert detector.query(9, "d", "host.evilzone.com", AAAA).octets == 0


def test_expansions_of_search_lists() -> None:
    """A well-known name with a search domain behind it is hardly news."""
    detector = a_detector()
    detector.query(0, "c", "corp.evilzone.com", A)
    assert detector.query(1, "c", "api.github.com.corp.evilzone.com", A).octets < 0.5
