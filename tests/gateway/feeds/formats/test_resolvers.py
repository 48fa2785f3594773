"""Lists written as configuration of dnsmasq and Unbound."""

import pytest

from gateway.feeds.entry import NameEntry, ParseReport, Scope
from gateway.feeds.formats.resolvers import dnsmasq, unbound


@pytest.mark.parametrize(
    "line",
    [
        *("address=/a.example/#", "address=/a.example/", "address=/a.example/0.0.0.0", "address=/a.example/::"),
        *("address=/a.example/127.0.0.1", "server=/a.example/", "local=/a.example/", "address = /.A.Example/#"),
        "address=/a.example/# # comment",
    ],
)
def test_dnsmasq(line: str) -> None:
    """A name that dnsmasq answers with nothing is covered with its tree."""
    assert list(dnsmasq(line.encode(), ParseReport())) == [NameEntry(1, "a.example", Scope.TREE)]


def test_dnsmasq_lists_names() -> None:
    """A line gives all of its names; `#` as a server means to resolve them as usual."""
    found = list(dnsmasq(b"local=/a.example/b.example/\nserver=/c.a.example/#\n", ParseReport()))
    assert found == [
        NameEntry(1, "a.example", Scope.TREE),
        NameEntry(1, "b.example", Scope.TREE),
        NameEntry(2, "c.a.example", Scope.TREE, True),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("address=/a.example/192.0.2.1", "points somewhere else"),
        ("server=/a.example/192.0.2.1", "forwards the name"),
        ("server=192.0.2.1", "forwards every name"),
        ("address=/#/", "covers every name"),
        ("local=//", "covers every name"),
        ("address=/*a.example/", "wildcard inside the name"),
        ("address=192.0.2.1", "other setting"),
        ("ipset=/a.example/set", "other setting"),
        ("bogus-priv", "other setting"),
    ],
)
def test_dnsmasq_settings_of_no_use(line: str, reason: str) -> None:
    """Settings that do not deny a name are left out."""
    report = ParseReport()
    assert list(dnsmasq(line.encode(), report)) == []
    assert report.unsupported == {reason: 1}


@pytest.mark.parametrize("line", ["<!DOCTYPE html>", "0.0.0.0 a.example", "address=/com/#", "local=/a..example/"])
def test_not_dnsmasq(line: str) -> None:
    """What is no setting, or names no host, is rejected."""
    report = ParseReport()
    assert list(dnsmasq(line.encode(), report)) == []
    assert report.rejected.total() == 1


@pytest.mark.parametrize(
    "kind",
    [
        *("deny", "refuse", "static", "redirect", "inform_deny", "always_refuse", "always_nxdomain", "always_null"),
        *("always_nodata", "always_deny"),
    ],
)
@pytest.mark.parametrize(
    "form", ['local-zone: "a.example." {}', "local-zone: a.example {}", "local-zone: 'A.Example' {}"]
)
def test_unbound_zones(form: str, kind: str) -> None:
    """A zone that is not resolved is covered with its tree."""
    assert list(unbound(form.format(kind).encode(), ParseReport())) == [NameEntry(1, "a.example", Scope.TREE)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('local-zone: "a.example." always_transparent', NameEntry(1, "a.example", Scope.TREE, True)),
        ('local-data: "a.example. A 0.0.0.0"', NameEntry(1, "a.example", Scope.EXACT)),
        ("local-data: 'a.example 60 IN AAAA ::'", NameEntry(1, "a.example", Scope.EXACT)),
        ('  local-data:"a.example A 127.0.0.1" # x', NameEntry(1, "a.example", Scope.EXACT)),
    ],
)
def test_unbound_data(line: str, expected: NameEntry) -> None:
    """A record that points nowhere covers its name; a transparent zone is an exception."""
    assert list(unbound(line.encode(), ParseReport())) == [expected]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('local-zone: "a.example." transparent', "zone that still resolves"),
        ('local-zone: "." refuse', "covers every name"),
        ('local-data: "a.example. A 192.0.2.1"', "points somewhere else"),
        ('local-data: "a.example. MX 10 b.example."', "record type"),
        ("interface: 127.0.0.1", "other setting"),
    ],
)
def test_unbound_settings_of_no_use(line: str, reason: str) -> None:
    """Settings that do not deny a name are left out."""
    report = ParseReport()
    assert list(unbound(line.encode(), report)) == []
    assert report.unsupported == {reason: 1}


@pytest.mark.parametrize(
    "line",
    [
        'local-zone: "a.example." what',
        'local-zone: "a.example."',
        'local-data: "a.example"',
        "a.example",
        'local-zone: "" deny',
    ],
)
def test_not_unbound(line: str) -> None:
    """What is no setting, or a broken one, is rejected."""
    report = ParseReport()
    assert list(unbound(line.encode(), report)) == []
    assert report.rejected.total() == 1
