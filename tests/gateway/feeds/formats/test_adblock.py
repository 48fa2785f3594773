"""Filter lists: rules about whole hosts are taken, everything else has its reason."""

import pytest

from gateway.feeds.entry import NameEntry, ParseReport, RangeEntry, Scope
from gateway.feeds.formats.adblock import adblock


@pytest.mark.parametrize(
    ("rule", "scope", "exception"),
    [
        ("||a.example^", Scope.TREE, False),
        ("||A.Example^", Scope.TREE, False),
        ("||a.example", Scope.TREE, False),
        ("||a.example^|", Scope.TREE, False),
        ("||a.example^*", Scope.TREE, False),
        ("||a.example^$important,all", Scope.TREE, False),
        ("||a.example^$doc", Scope.TREE, False),
        ("||a.example^$_,document", Scope.TREE, False),
        ("@@||a.example^", Scope.TREE, True),
        ("@@||a.example^$important", Scope.TREE, True),
        ("|a.example^", Scope.EXACT, False),
        ("@@|a.example^|", Scope.EXACT, True),
        ("||*.a.example^", Scope.BELOW, False),
        ("a.example", Scope.EXACT, False),
        ("a.example # comment", Scope.EXACT, False),
        ("0.0.0.0 a.example", Scope.EXACT, False),
    ],
)
def test_rules(rule: str, scope: Scope, exception: bool) -> None:
    """A rule about a whole host covers what a filter of names would."""
    assert list(adblock(rule.encode(), ParseReport())) == [NameEntry(1, "a.example", scope, exception)]


def test_addresses() -> None:
    """A rule may be about an address."""
    found = list(adblock(b"||192.0.2.1^\n@@||192.0.2.0/24^\n@@||[2001:db8::1]^\n", ParseReport()))
    assert [entry for entry in found if isinstance(entry, RangeEntry)] == [
        RangeEntry(1, 0xC0000201, 0xC0000201, 4),
        RangeEntry(3, 0x20010DB8 << 96 | 1, 0x20010DB8 << 96 | 1, 6, True),
    ]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("||a.example^$third-party", "narrowed by an option"),
        ("||a.example^$~third-party", "narrowed by an option"),
        ("||a.example^$3p,doc", "narrowed by an option"),
        ("||a.example^$denyallow=b.example", "narrowed by an option"),
        ("||a.example^$important,dnstype=AAAA", "narrowed by an option"),
        ("||a.example^$badfilter", "switches off another rule"),
        ("||a.example^$dnsrewrite=NOERROR;A;192.0.2.1", "rewrites the answer"),
        ("a.example##.ad", "cosmetic rule"),
        ("##.ad", "cosmetic rule"),
        ("a.example#@#.ad", "cosmetic rule"),
        ("a.example#$#body { padding: 0 }", "cosmetic rule"),
        ("a.example$$script", "cosmetic rule"),
        ("/ads[0-9]/", "regular expression"),
        ("/^https?:\\/\\/a/$script", "regular expression"),
        ("@@/x/$important", "regular expression"),
        ("||a.example/x", "path or part of a URL"),
        ("||a.example^x", "path or part of a URL"),
        ("||a.", "path or part of a URL"),
        ("|https://a.example^", "path or part of a URL"),
        ("://a.example^", "path or part of a URL"),
        ("-ad-banner.", "path or part of a URL"),
        ("adbanner", "path or part of a URL"),
        ("a.example$important", "path or part of a URL"),
        ("*", "path or part of a URL"),
        ("||a*.example^", "wildcard inside the name"),
        ("||*.192.0.2.1^", "wildcard inside the name"),
        ("||a.example:80^", "port"),
        ("!#if env_firefox", "preprocessor directive"),
        ("!#include x.txt", "preprocessor directive"),
    ],
)
def test_rules_of_no_use(rule: str, reason: str) -> None:
    """A rule that a gateway cannot apply as it was meant is left out, with its reason."""
    report = ParseReport()
    assert list(adblock(rule.encode(), report)) == []
    assert report.unsupported == {reason: 1}


@pytest.mark.parametrize("rule", ["||com^", "||a..example^", "||^", "||a b.example^", "||999.1.1.1^"])
def test_wrong_rules(rule: str) -> None:
    """A rule about a host that cannot be is rejected."""
    report = ParseReport()
    assert list(adblock(rule.encode(), report)) == []
    assert report.rejected.total() == 1


@pytest.mark.parametrize("line", ["[Adblock Plus 2.0]", "! Title: x", "!", "# hosts comment", ""])
def test_headers_and_comments(line: str) -> None:
    """Headers and comments are blank."""
    report = ParseReport()
    assert list(adblock(line.encode() + b"\n", report)) == []
    assert report.blank == 1
