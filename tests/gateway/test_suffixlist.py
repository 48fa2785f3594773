"""The rules of the public suffix list, and that they are the library's."""

import idna
import pytest
import tldextract

from gateway.suffixlist import parse, read_rules

LIST = """\
// ===BEGIN ICANN DOMAINS===

// a comment
com
co.uk  // and what follows a rule
*.ck
!www.ck
рф
个人.hk

// ===END ICANN DOMAINS===
// ===BEGIN PRIVATE DOMAINS===
github.io
*.高知.jp
// ===END PRIVATE DOMAINS===
"""


def test_rules_are_read_as_they_are_written() -> None:
    """Comments and blank lines are no rules; marks stay, and international labels are A-labels."""
    rules = parse(LIST)
    assert rules.registries == {"com", "co.uk", "*.ck", "!www.ck", "xn--p1ai", "xn--ciqpn.hk"}
    assert rules.everything - rules.registries == {"github.io", "*.xn--k7yn95e.jp"}


@pytest.mark.parametrize("text", ["", "<html>", "com\nnet\n", "// ===BEGIN PRIVATE DOMAINS===\ngithub.io\n"])
def test_what_is_no_list_is_refused(text: str) -> None:
    """A text without both sections is no list: a gateway that knew no suffix would take `co.uk` for one owner's."""
    with pytest.raises(ValueError, match="public suffix list"):
        parse(text)


def in_a_labels(rule: str) -> str:
    """Return a rule in A-labels, by a library that checks each label."""
    return ".".join(
        label if label in ("*", "") else f"{'!' * label.startswith('!')}{idna.alabel(label.lstrip('!')).decode()}"
        for label in rule.split(".")
    )


def test_rules_are_those_of_the_library() -> None:
    """Both sections hold what tldextract reads out of its copy."""
    registries = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    everything = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)
    rules = read_rules()
    assert rules.registries == frozenset(map(in_a_labels, registries.tlds))
    assert rules.everything == frozenset(map(in_a_labels, everything.tlds))
    assert len(rules.registries) > 5000
