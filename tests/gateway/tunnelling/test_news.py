"""What a name tells: nothing twice, little where it is like others."""

from tests.leaks import a_detector

A, AAAA, TXT = 1, 28, 16


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


def test_machines_that_are_numbered() -> None:
    """A machine whose name is made of words that the zone has is hardly news, whatever its number."""
    detector = a_detector()
    first = detector.query(0, "c", "zurq07-blovex.evilzone.com", A).octets
    detector.query(1, "c", "mq11-fra.evilzone.com", A)
    assert detector.query(2, "c", "zurq12-fra.evilzone.com", A).octets < 1 < 3 < first


def test_where_standards_put_hashes() -> None:
    """One key of a mail address is no tunnel, nor is a selector; the same digits elsewhere are."""
    digest = "fe36214fb2397eb7af362b19a00735880742d4216f6bbae3b8e0a7dd"
    names = {f"{digest}._openpgpkey.ownsite.org": False, f"{digest[:40]}._domainkey.ownsite.net": False}
    names[f"{digest}._elsewhere.ownsite.com"] = True
    detector = a_detector()
    assert {name: detector.query(0, "c", name, TXT).denied for name in names} == names


def test_the_same_label_elsewhere() -> None:
    """A label that the zone has under another parent is hardly news."""
    detector = a_detector()
    assert detector.query(0, "c", "b515bcb4d6cf.token.evilzone.com", A).octets > 5
    assert detector.query(1, "c", "b515bcb4d6cf.captcha.evilzone.com", A).octets < 2
