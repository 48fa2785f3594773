"""Tests of `gateway.selfcheck.cases`. That each is resisted: tests/integration/bypasses/test_battery.py."""

from collections import Counter

from gateway.selfcheck.cases import NUMBERS, Where, cases

CASES = tuple(cases())


def test_names_are_unique() -> None:
    """A case is found by its number and name."""
    assert [str(case) for case, count in Counter(map(str, CASES)).items() if count > 1] == []


def test_numbers_are_told() -> None:
    """Every number that is used has a title, and none is told twice."""
    assert {case.number for case in CASES} <= set(NUMBERS)
    assert len(set(NUMBERS.values())) == len(NUMBERS)


def test_nobody_is_named_by_chance() -> None:
    """Destinations with ports are filled in: what names one by itself would miss the origins."""
    for case in CASES:
        if case.where is Where.PROXY and b"{" not in case.sent:
            assert b"good.test:443" not in case.sent
