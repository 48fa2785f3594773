"""JSON documents: MISP warning lists and STIX bundles."""

import json
from datetime import UTC, datetime

import pytest

from gateway.feeds.entry import Entry, NameEntry, ParseReport, PathEntry, RangeEntry, Scope
from gateway.feeds.formats.documents import misp, stix

NOW = datetime(2025, 1, 1, tzinfo=UTC)
NAME = "[domain-name:value = 'a.example']"


def read_misp(kind: str, *items: object) -> tuple[list[Entry], ParseReport]:
    """Read a warning list."""
    report = ParseReport()
    return list(misp(json.dumps({"type": kind, "list": items}).encode(), report)), report


def read_stix(now: datetime | None = None, **keys: object) -> tuple[list[Entry], ParseReport]:
    """Read a bundle of one indicator."""
    indicator = {"type": "indicator", "pattern_type": "stix", **keys}
    report = ParseReport()
    return list(stix(json.dumps({"type": "bundle", "objects": [indicator]}).encode(), report, now)), report


@pytest.mark.parametrize(
    ("kind", "item", "expected"),
    [
        ("hostname", "a.example", NameEntry(1, "a.example", Scope.TREE)),
        ("string", "a.example", NameEntry(1, "a.example", Scope.EXACT)),
        ("string", ".a.example", NameEntry(1, "a.example", Scope.TREE)),
        ("cidr", "192.0.2.0/31", RangeEntry(1, 0xC0000200, 0xC0000201, 4)),
        ("string", "192.0.2.1", RangeEntry(1, 0xC0000201, 0xC0000201, 4)),
        ("string", "http://a.example/x", PathEntry(1, "a.example", "/x")),
    ],
)
def test_misp(kind: str, item: str, expected: Entry) -> None:
    """The type of a warning list says how much a name covers."""
    assert read_misp(kind, item)[0] == [expected]


@pytest.mark.parametrize("kind", ["regex", "substring", "other"])
def test_misp_kinds_of_no_use(kind: str) -> None:
    """Lists of patterns and parts of texts are left out."""
    entries, report = read_misp(kind, "a.example", "b.example")
    assert entries == []
    assert report.unsupported.total() == report.lines == 2


@pytest.mark.parametrize("item", [1, None, ["a.example"], "x" * 5000, "\udc80", "a@b.example"])
def test_wrong_misp_items(item: object) -> None:
    """An item that is no value is rejected."""
    entries, report = read_misp("string", item)
    assert entries == []
    assert report.rejected.total() == 1


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (NAME, [NameEntry(1, "a.example", Scope.EXACT)]),
        ("[ipv4-addr:value='192.0.2.1']", [RangeEntry(1, 0xC0000201, 0xC0000201, 4)]),
        ("[ipv4-addr:value ISSUBSET '192.0.2.0/31']", [RangeEntry(1, 0xC0000200, 0xC0000201, 4)]),
        ("[ipv6-addr:value = '::2']", [RangeEntry(1, 2, 2, 6)]),
        ("[url:value = 'http://a.example/\\'x\\\\']", [PathEntry(1, "a.example", "/'x%5C")]),
        (
            "[domain-name:value = 'a.example' OR ipv6-addr:value = '::2'] OR ([url:value IN ('http://b.example/x')])",
            [NameEntry(1, "a.example", Scope.EXACT), RangeEntry(1, 2, 2, 6), PathEntry(1, "b.example", "/x")],
        ),
        (
            "[domain-name:value = 'a OR b.example' OR domain-name:value = 'c.example']",
            [NameEntry(1, "c.example", Scope.EXACT)],
        ),
    ],
)
def test_stix(pattern: str, expected: list[Entry]) -> None:
    """A pattern gives every value that alone would match it."""
    assert read_stix(pattern=pattern)[0] == expected


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("[domain-name:value = 'a.example' AND domain-name:value = 'b.example']", "joined by AND or FOLLOWEDBY"),
        (f"{NAME} FOLLOWEDBY {NAME}", "joined by AND or FOLLOWEDBY"),
        (f"{NAME} WITHIN 5 SECONDS", "pattern that is not understood"),
        (f"{NAME} REPEATS", "operator or qualifier"),
        ("[NOT domain-name:value = 'a.example']", "operator or qualifier"),
        ("[domain-name:value NOT = 'a.example']", "operator or qualifier"),
        ("[domain-name:value != 'a.example']", "pattern that is not understood"),
        ("[domain-name:value MATCHES 'a']", "operator or qualifier"),
        ("[domain-name:value = 'a.example", "pattern that is not understood"),
        ("[domain-name:value = 'a.example' OR]", "pattern that is not understood"),
        ("[email-addr:value = 'a@b.example']", "observable other than name, address and URL"),
        ("[file:hashes.'SHA-256' = 'ab']", "observable other than name, address and URL"),
    ],
)
def test_stix_patterns_of_no_use(pattern: str, reason: str) -> None:
    """A pattern that says more than that one value is bad is left out."""
    entries, report = read_stix(pattern=pattern)
    assert entries == []
    assert report.unsupported == {reason: 1}


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"type": "malware"}, "not an indicator"),
        ({"pattern_type": "sigma"}, "other pattern language"),
        ({"revoked": True}, "revoked"),
        ({"valid_until": "2025-01-01T00:00:00Z"}, "expired"),
        ({"valid_until": "2024-12-31T23:59:59.123456789"}, "expired"),
        ({"valid_from": "2025-01-01T00:00:00.001Z"}, "not valid yet"),
    ],
)
def test_stix_objects_of_no_use(keys: dict[str, object], reason: str) -> None:
    """Objects that are no indicators, and indicators that do not hold now, are left out."""
    entries, report = read_stix(NOW, pattern=NAME, **keys)
    assert entries == []
    assert report.unsupported == {reason: 1}


def test_stix_without_a_clock() -> None:
    """Without a time, nothing has expired."""
    assert len(read_stix(pattern=NAME, valid_until="2000-01-01T00:00:00Z")[0]) == 1


@pytest.mark.parametrize(
    "keys",
    [{}, {"pattern": ""}, {"pattern": 1}, {"pattern": "[" * 5000}, {"pattern": NAME, "valid_until": "soon"}],
)
def test_wrong_stix(keys: dict[str, object]) -> None:
    """An indicator without a pattern, or with a time that is none, is rejected."""
    entries, report = read_stix(NOW, **keys)
    assert entries == []
    assert report.rejected.total() == 1
