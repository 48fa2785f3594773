"""Whether a new copy of a list can be believed, or the last good one should stay.

Pure: no I/O, no clock. Error pages, login pages of hotel networks, half downloads and emptied repositories all arrive
with "200 OK"; and a list that denies what everybody needs has been published more than once.
"""

import hashlib
import re
from collections import Counter, deque
from collections.abc import Buffer
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.feeds.catalog import Feed
from gateway.feeds.entry import ParseReport
from gateway.feeds.formats import parse
from gateway.feeds.packing import too_large
from gateway.feeds.protected import NeverBlock, objection
from gateway.units import render_percent

_JSON = frozenset(("misp", "stix"))
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|script|meta|title|\?xml|!--)", re.IGNORECASE)
_PACKED = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
}
_A_FEW_REJECTED = 10
_A_FEW_PROTECTED = 10
"""Lines of a list about which nobody needs to be woken, however short the list is."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a copy holds, and why it cannot be used."""

    entries: int
    rejected: int
    flaw: str = ""
    """Empty when it can be used."""


def judge(
    data: bytes, feed: Feed, *, before: int | None, now: float, never_block: NeverBlock | None = None
) -> Judgement:
    """Judge a copy; `before` is the number of entries of the last good one, `now` is for formats that expire.

    Without `never_block`, what no list may deny is not counted.
    """
    flaw = flaw_of_content(data, feed)
    if flaw:
        return Judgement(0, 0, flaw)
    report = ParseReport()
    objections: Counter[str] = Counter()
    entries = parse(data, feed.format, report, column=feed.column, now=datetime.fromtimestamp(now, UTC))
    if never_block is None or feed.max_protected is None:
        deque(entries, maxlen=0)
    else:
        objections.update(reason for entry in entries if (reason := objection(entry, never_block)))
    rejected = report.rejected.total()
    flaw = _flaw_of_lines(rejected, report.accepted, feed)
    flaw = flaw or _flaw_of_count(report.entries, feed, before) or _flaw_of_targets(report.entries, objections, feed)
    return Judgement(report.entries, rejected, flaw)


def flaw_of_content(data: bytes, feed: Feed) -> str:
    """Return what is wrong with a copy before any line of it is read, or nothing."""
    limit = feed.limits.max_bytes
    if len(data) > limit:
        return str(too_large(limit))
    for magic, name in _PACKED.items():
        if data.startswith(magic):
            return f"is packed ({name}), not a list"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16 text; expected UTF-8"
    if b"\0" in data:
        return "is binary, not a list"
    if _MARKUP.match(data):
        return "is a web page (HTML or XML), not a list"
    if feed.min_entries and not data.strip():
        return "is empty"
    if feed.format in _JSON:
        text = data.strip(b"\xef\xbb\xbf \t\r\n")
        if not text.startswith(b"{"):
            return "is not a JSON document"
        if not text.endswith(b"}"):
            return "is cut short: the JSON document has no end"
    if (mark := feed.verify.ends_with) is not None:
        last = data.rstrip().rpartition(b"\n")[2].strip()
        if not last.startswith(mark.encode()):
            return f"is cut short: its last line does not begin with {mark!r}"
    return ""


def _flaw_of_lines(rejected: int, accepted: int, feed: Feed) -> str:
    share = feed.max_rejected
    if rejected > _A_FEW_REJECTED and rejected > share * (rejected + accepted):
        return (
            f"is hardly a list in format {feed.format}: {rejected} lines rejected, {accepted} accepted, "
            f"more than max_rejected ({render_percent(share)})"
        )
    return ""


def _flaw_of_count(entries: int, feed: Feed, before: int | None) -> str:
    if entries < feed.min_entries:
        return f"has {entries} entries, fewer than min_entries ({feed.min_entries})"
    if not before:
        return ""
    shrink, growth = feed.max_shrink, feed.max_growth
    if shrink is not None and entries < before * (1 - shrink):
        return f"shrank from {before} to {entries} entries, by more than max_shrink ({render_percent(shrink)})"
    if growth is not None and entries > before * (1 + growth):
        return f"grew from {before} to {entries} entries, by more than max_growth ({render_percent(growth)})"
    return ""


def _flaw_of_targets(entries: int, objections: Counter[str], feed: Feed) -> str:
    share, count = feed.max_protected, objections.total()
    if share is None or count <= _A_FEW_PROTECTED or count <= share * entries:
        return ""
    reasons = ", ".join(f"{reason}: {number}" for reason, number in objections.most_common())
    return (
        f"would deny what no list may deny, in {count} of {entries} entries ({reasons}), "
        f"more than max_protected ({render_percent(share)})"
    )


def version_of(data: Buffer) -> str:
    """Return the version of a copy: a digest of its content, short enough to be read out."""
    return hashlib.sha256(data).hexdigest()[:12]
