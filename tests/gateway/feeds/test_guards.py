"""Whether a copy is believed."""

import gzip
import hashlib

import pytest

from gateway.feeds.catalog import Feed
from gateway.feeds.entry import NameEntry, Scope
from gateway.feeds.guards import judge, version_of
from gateway.feeds.protected import NeverBlock

LIST = b"".join(b"host%d.example\n" % number for number in range(100))


def a_feed(**values: object) -> Feed:
    """Return a published list of domains."""
    return Feed.model_validate({"url": "https://a.example/", "format": "domains", **values})


def flaw(data: bytes, feed: Feed, before: int | None = None) -> str:
    """Return what is wrong with a copy."""
    return judge(data, feed, before=before, now=1e9).flaw


def test_a_list_is_believed() -> None:
    """A list in its format is counted, and has no flaw."""
    judged = judge(LIST + b"not a name\n", a_feed(), before=100, now=1e9)
    assert (judged.entries, judged.flaw) == (100, "")
    assert judged.rejected == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"# only comments\n", "has 0 entries, fewer than min_entries (1)"),
        (b"<!DOCTYPE html><html>log in</html>", "is a web page"),
        (b"\xef\xbb\xbf\n <HTML>", "is a web page"),
        (b"<?xml version='1.0'?>", "is a web page"),
        (b"\0\1\2", "is binary, not a list"),
        (gzip.compress(LIST), "is packed (gzip), not a list"),
        (b"PK\x03\x04....", "is packed (zip), not a list"),
        ("a.example\n".encode("utf-16"), "is UTF-16 text; expected UTF-8"),
        (b"not a name\n" * 50 + b"a.example\n", "is hardly a list in format domains: 50 lines rejected, 1 accepted"),
    ],
)
def test_what_is_no_list_is_not_believed(data: bytes, message: str) -> None:
    """Error pages, packed and binary files, and empty ones are told apart."""
    assert flaw(data, a_feed()).startswith(message)


def test_json_formats_want_json() -> None:
    """A text where a JSON document should be is no document."""
    assert flaw(LIST, a_feed(format="misp")) == "is not a JSON document"
    assert flaw(b'{"list": ["a.example"], "type": "hostname"}', a_feed(format="misp")) == ""
    assert flaw(b'{"list": ["a.example", "b.ex', a_feed(format="misp")).startswith("is cut short")


@pytest.mark.parametrize(
    ("before", "limits", "message"),
    [
        (None, {}, ""),
        (200, {}, ""),
        (201, {}, "shrank from 201 to 100 entries, by more than max_shrink (50%)"),
        (25, {}, ""),
        (24, {}, "grew from 24 to 100 entries, by more than max_growth (300%)"),
        (0, {}, ""),
        (101, {"max_shrink": "0%"}, "shrank from 101 to 100 entries, by more than max_shrink (0%)"),
        (1000, {"max_shrink": "90%"}, ""),
        (99, {"max_growth": "0%"}, "grew from 99 to 100 entries, by more than max_growth (0%)"),
        (None, {"min_entries": 101}, "has 100 entries, fewer than min_entries (101)"),
        (None, {"max_bytes": "1KiB"}, "is larger than max_bytes (1KiB)"),
    ],
)
def test_limits(before: int | None, limits: dict[str, object], message: str) -> None:
    """A copy that is too small, too large, or changed too much is not believed."""
    assert flaw(LIST, a_feed(limits=limits), before) == message


def test_a_list_with_an_end() -> None:
    """A list whose publisher marks the end is cut short without it."""
    feed = a_feed(verify={"ends_with": "# END"})
    assert flaw(LIST + b"# END of list\n\n", feed) == ""
    assert flaw(LIST, feed) == "is cut short: its last line does not begin with '# END'"


@pytest.mark.parametrize(
    ("bad", "good", "limits", "believed"),
    [
        (10, 0, {}, True),
        (11, 1000, {}, False),
        (11, 1100, {}, True),
        (11, 1000, {"max_protected": "5%"}, True),
        (60, 1000, {"max_protected": "5%"}, False),
    ],
)
def test_lists_of_what_nobody_may_deny(bad: int, good: int, limits: dict[str, object], believed: bool) -> None:
    """A few entries that no list may have are put up with; a list with many of them is not believed."""
    poisoned = b"".join(b"safe%d.example\n" % number for number in range(bad))
    data = poisoned + b"".join(b"host%d.example\n" % number for number in range(good))
    protected = NeverBlock(NameEntry(1, f"safe{number}.example", Scope.EXACT) for number in range(bad))
    judged = judge(data, a_feed(limits=limits), before=None, now=1e9, never_block=protected)
    assert (judged.flaw == "") is believed
    if not believed:
        assert (
            f"would deny what no list may deny, in {bad} of {bad + good} entries (never-block: {bad})" in judged.flaw
        )


def test_too_many_rejected_lines() -> None:
    """How many lines may be unreadable can be set."""
    data = LIST + b"not a name\n" * 40
    assert flaw(data, a_feed()) == ""
    assert "40 lines rejected, 100 accepted" in flaw(data, a_feed(limits={"max_rejected": "20%"}))


def test_a_local_file_may_be_empty_and_change() -> None:
    """The limits that catch broken publishers are not there for a list of one's own."""
    own = Feed.model_validate({"path": "x", "format": "domains"})
    assert flaw(b"", own) == ""
    assert flaw(b"a.example\n", own, before=1000) == ""


def test_versions_are_digests() -> None:
    """A version depends on the content alone."""
    assert version_of(b"a") == version_of(bytearray(b"a")) == hashlib.sha256(b"a").hexdigest()[:12]
