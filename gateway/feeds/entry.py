"""What a list says: its entries, and the account of every line that was read.

Pure: no I/O, no clock. Entries are named tuples, not dataclasses: a refresh makes millions of them, and one takes
less than half the time of a frozen dataclass to make (205 against 478 ns).
"""

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

SAMPLES = 3
"""Lines kept for each reason, so that a maintainer can see what it is about."""

SAMPLE_LENGTH = 100
"""Characters kept of a line; lists come from strangers and end up in logs and tables."""


class Scope(enum.IntFlag):
    """Which part of a name's tree an entry covers."""

    EXACT = 1
    """The name itself."""
    BELOW = 2
    """Every name below it, at any depth."""
    TREE = 3
    """The name and everything below it."""


class NameEntry(NamedTuple):
    """A host name."""

    line: int
    name: str
    """In normal form (`gateway.names`), with at least two labels."""
    scope: Scope
    exception: bool = False
    """The list takes this name out again, as `@@||name^` does; it says nothing about other lists."""


class PathEntry(NamedTuple):
    """A URL: what is below the path on this host is covered as well."""

    line: int
    host: str
    """A name in normal form, or an address as text (IPv6 without brackets)."""
    path: str
    """Normalised (`gateway.urlpaths`): starts with a slash, and may hold a query."""
    exception: bool = False


class RangeEntry(NamedTuple):
    """A run of addresses, both ends included; for a single address the ends are equal."""

    line: int
    first: int
    last: int
    version: int
    """4 or 6. IPv4-mapped IPv6 addresses are written as IPv4."""
    exception: bool = False


type Entry = NameEntry | PathEntry | RangeEntry


@dataclass(frozen=True, slots=True)
class Sample:
    """A line that gave no entry, shortened, with everything unprintable in it escaped."""

    line: int
    text: str


class Unsupported(ValueError):
    """Valid in its format, but nothing a gateway can act on, such as a rule that hides a part of a page."""


@dataclass(slots=True)
class ParseReport:
    """The account of one parse. `gateway.feeds.formats.parse` fills it while it is iterated.

    After the last entry every line is accounted for exactly once:
    `accepted + blank + sum(unsupported) + sum(rejected) == lines`.
    """

    lines: int = 0
    """Lines of the file; items or objects for JSON documents."""
    accepted: int = 0
    """Lines that gave one entry or more."""
    entries: int = 0
    blank: int = 0
    """Lines that by their nature hold no entry: empty ones, comments, headers, zone boilerplate."""
    unsupported: Counter[str] = field(default_factory=Counter)
    """Why and how often: valid syntax that the gateway has no use for."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Why and how often: not what the format allows, or not to be believed."""
    partial: Counter[str] = field(default_factory=Counter)
    """Why and how often: parts left out of lines that were accepted for their other parts."""
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    """The first lines of each reason."""

    def leave_out(self, line: int, text: str, flaw: ValueError, *, accepted: bool = False) -> None:
        """Count a line that gave no entry, or a part of an `accepted` line."""
        # What follows a colon is about this one line; without it, there are few reasons, and they can be counted.
        reason = str(flaw).partition(":")[0]
        if isinstance(flaw, Unsupported):
            count = self.unsupported
        else:
            count = self.rejected
            if _undecoded(text):
                reason = "not UTF-8"  # whatever it is that was wrong with it
        if accepted:
            count = self.partial
        count[reason] += 1
        kept = self.samples.setdefault(reason, [])
        if len(kept) < SAMPLES:
            kept.append(Sample(line, printable(text[:SAMPLE_LENGTH])))


def printable(text: str) -> str:
    r"""Escape what could act on a terminal or would not encode: controls, bidirectional marks, broken UTF-8.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _undecoded(text: str) -> bool:
    """Say whether the text holds bytes that were not UTF-8 (kept as lone surrogates, PEP 383)."""
    return not text.isascii() and any("\udc80" <= char <= "\udcff" for char in text)
