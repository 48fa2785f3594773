"""Lists of bare values: hosts, domains, wildcard, urls, addresses."""

import pytest

from gateway.feeds.entry import NameEntry, ParseReport, PathEntry, RangeEntry, Scope
from gateway.feeds.formats.plain import addresses, domains, hosts, urls, wildcard


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("0.0.0.0 a.example", ["a.example"]),
        ("127.0.0.1\t\ta.example  ", ["a.example"]),
        ("0.0.0.0 A.Example. b.example#c.example", ["a.example", "b.example"]),
        ("::1 a.example", ["a.example"]),
        ("0 a.example", ["a.example"]),
        ("127.0.0.1 localhost a.example", ["a.example"]),
        ("0.0.0.0 localhost.example", ["localhost.example"]),
        ("0.0.0.0 a-b.c_d.example", ["a-b.c_d.example"]),
        ("0.0.0.0 a.3com", ["a.3com"]),
    ],
)
def test_hosts(line: str, names: list[str]) -> None:
    """A hosts line gives every name on it that is sent nowhere, exactly."""
    assert list(hosts(line.encode(), ParseReport())) == [NameEntry(1, name, Scope.EXACT) for name in names]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("192.0.2.1 a.example", "points somewhere else"),
        ("a.example b.example", "no address in front of the name"),
        ("0.0.0.0", "no name"),
        ("0.0.0.0 2130706433", "ends in a number, so it is an address or nothing"),
        ("0.0.0.0 a.example/path", "has a character that host names do not have"),
    ],
)
def test_rejected_hosts(line: str, reason: str) -> None:
    """A hosts line that is wrong, or makes a name point to a real address, is rejected."""
    report = ParseReport()
    assert list(hosts(line.encode(), report)) == []
    assert report.rejected == {reason: 1}


@pytest.mark.parametrize(
    "line",
    [
        *("127.0.0.1 localhost", "127.0.0.1 localhost.localdomain local", "::1 ip6-localhost ip6-loopback"),
        *("255.255.255.255 broadcasthost", "fe80::1%lo0 localhost", "ff02::2 ip6-allrouters", "0.0.0.0 0.0.0.0"),
    ],
)
def test_boilerplate_of_hosts_files(line: str) -> None:
    """What every hosts file begins with is no entry and no mistake."""
    report = ParseReport()
    assert list(hosts(line.encode(), report)) == []
    assert report.unsupported == {"local name": 1}


@pytest.mark.parametrize("length", [253, 254])
@pytest.mark.parametrize("form", ["{}", "0.0.0.0 {}", "*.{}", "{}/x"])
def test_long_names(form: str, length: int) -> None:
    """A name of 253 characters is taken, and a longer one is not, on the short cut too."""
    labels = ".".join(["a" * 49] * 5)
    name = labels + "." + "b" * (length - len(labels) - 1)
    parser = {"{}": domains, "0.0.0.0 {}": hosts, "*.{}": wildcard, "{}/x": urls}[form]
    report = ParseReport()
    assert len(list(parser(form.format(name).encode(), report))) == (length == 253)
    assert report.rejected == ({} if length == 253 else {"longer than 253 characters": 1})


@pytest.mark.parametrize(
    "line", ["a.example", ".a.example", "*.a.example", "a.example.", "A.EXAMPLE", "a.example:80"]
)
def test_domains(line: str) -> None:
    """However it is written, a domain covers its tree."""
    assert list(domains(line.encode(), ParseReport())) == [NameEntry(1, "a.example", Scope.TREE)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.example", NameEntry(1, "a.example", Scope.EXACT)),
        ("*.a.example", NameEntry(1, "a.example", Scope.TREE)),
        (".a.example", NameEntry(1, "a.example", Scope.TREE)),
        ("*.A.example # x", NameEntry(1, "a.example", Scope.TREE)),
    ],
)
def test_wildcard(line: str, expected: NameEntry) -> None:
    """A star means the name as well, as the publishers of such lists have it; a bare name is itself only."""
    assert list(wildcard(line.encode(), ParseReport())) == [expected]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("a.example/x", "/x"),
        ("https://a.example/x;y=1?z=a#frag", "/x;y=1?z=a"),
        ("http://a.example/a/../x", "/x"),
        ("http://a.example/.x", "/.x"),
        ("http://a.example/x # why", "/x"),
        ("http://a.example/x y", "/x%20y"),
        ("http://a.example/x!", "/x!"),
    ],
)
def test_urls(line: str, path: str) -> None:
    """A URL gives its normal path, on the short cut and off it."""
    assert list(urls(line.encode(), ParseReport())) == [PathEntry(1, "a.example", path)]


def test_urls_are_not_prefixes() -> None:
    """In a list of URLs, a number behind an address is a path."""
    assert list(urls(b"192.0.2.0/24\n", ParseReport())) == [PathEntry(1, "192.0.2.0", "/24")]


@pytest.mark.parametrize(
    ("line", "first", "last"),
    [
        ("192.0.2.1", 1, 1),
        ("192.0.2.1:443", 1, 1),
        ("192.0.2.0/30 ; SBL1", 0, 3),
        ("192.0.2.3/30 # masked", 0, 3),
        ("192.0.2.1-192.0.2.9", 1, 9),
        ("192.0.2.1 - 192.0.2.9 // spaces", 1, 9),
    ],
)
def test_addresses(line: str, first: int, last: int) -> None:
    """An address, prefix or range covers its addresses, both ends included."""
    base = 0xC0000200
    assert list(addresses(line.encode(), ParseReport())) == [RangeEntry(1, base + first, base + last, 4)]


@pytest.mark.parametrize("line", ["a.example", "192.0.2.1 192.0.2.2", "192.0.2.1-a.example", "-", "192.0.2.1-2001::"])
def test_not_addresses(line: str) -> None:
    """A list of addresses holds nothing else."""
    report = ParseReport()
    assert list(addresses(line.encode(), report)) == []
    assert report.rejected.total() == 1
