"""Whether a new copy of a list can be believed, or the last good one should stay.

Pure: no I/O, no clock. Error pages, login pages of hotel networks, half downloads and emptied repositories all arrive
with "200 OK".
"""

import hashlib
import re
from collections import deque
from collections.abc import Buffer
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.feeds.catalog import Feed
from gateway.feeds.entry import ParseReport
from gateway.feeds.formats import parse
from gateway.units import render_percent, render_size

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
_MOSTLY_REJECTED = 10
"""Rejected lines for each accepted one from which on the format must be wrong."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a copy holds, and why it cannot be used."""

    entries: int
    rejected: int
    flaw: str = ""
    """Empty when it can be used."""


def judge(data: bytes, feed: Feed, *, before: int | None, now: float) -> Judgement:
    """Judge a copy; `before` is the number of entries of the last good one, `now` is for formats that expire."""
    flaw = flaw_of_content(data, feed)
    if flaw:
        return Judgement(0, 0, flaw)
    report = ParseReport()
    entries = parse(data, feed.format, report, column=feed.column, now=datetime.fromtimestamp(now, UTC))
    deque(entries, maxlen=0)
    rejected = report.rejected.total()
    return Judgement(
        report.entries, rejected, _flaw_of_count(report.entries, rejected, report.accepted, feed, before)
    )


def flaw_of_content(data: bytes, feed: Feed) -> str:
    """Return what is wrong with a copy before any line of it is read, or nothing."""
    limit = feed.limits.max_bytes
    if len(data) > limit:
        return f"is larger than max_bytes ({render_size(limit)})"
    pinned = feed.verify.sha256
    if pinned and (found := hashlib.sha256(data).hexdigest()) != pinned:
        return f"has the SHA-256 digest {found}, not the one given"
    for magic, name in _PACKED.items():
        if data.startswith(magic):
            return f"is packed ({name}), not a list"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16 text; expected UTF-8"
    if b"\0" in data:
        return "is binary, not a list"
    if _MARKUP.match(data):
        return "is a web page (HTML or XML), not a list"
    if feed.format in _JSON and not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "is not a JSON document"
    if feed.min_entries and not data.strip():
        return "is empty"
    return ""


def _flaw_of_count(entries: int, rejected: int, accepted: int, feed: Feed, before: int | None) -> str:
    if rejected > _MOSTLY_REJECTED * max(1, accepted):
        return f"is hardly a list in format {feed.format}: {rejected} lines rejected, {accepted} accepted"
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


def version_of(data: Buffer) -> str:
    """Return the version of a copy: a digest of its content, short enough to be read out."""
    return hashlib.sha256(data).hexdigest()[:12]
