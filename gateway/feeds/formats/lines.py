"""Reading lists line by line, with every line accounted for.

Pure: no I/O, no clock. A format is a function from one line to what it says; the loops here do the rest.
"""

import re
from collections.abc import Buffer, Callable, Iterable, Iterator, Sequence

from gateway.feeds.entry import Entry, NameEntry, ParseReport, Scope, Unsupported
from gateway.names import MAX_LENGTH

MAX_LINE = 4096
"""Longest line that is read. Keeps one hostile line from costing more than its share of time."""

_BLOCK = 1 << 20
"""Octets decoded at once, so that the lines of a large list are never in memory all together."""

type Found = Entry | ValueError
"""What a part of a line gives: an entry, or (as a value) why there is none."""

type LineReader = Callable[[int, str], Iterable[Found]]
"""From a line's number and its text (stripped, not empty) to what it holds; nothing means a comment or header.

It may raise ValueError (`Unsupported` for valid lines of no use) when the whole line gives nothing.
"""

type FastMatch = Callable[[str], re.Match[str] | None]


def blocks(data: Buffer) -> Iterator[list[str]]:
    """Yield the lines of a file, many at a time: LF, CRLF or CR ends a line; bad UTF-8 becomes lone surrogates."""
    with memoryview(data) as view:
        start, size = 0, _BLOCK
        while start < len(view):
            block = bytes(view[start : start + size])
            if start + size < len(view):
                cut = block.rfind(b"\n") + 1
                if not cut:
                    size *= 2
                    continue
                block = block[:cut]
            start, size = start + len(block), _BLOCK
            text = block.decode("utf-8", "surrogateescape")
            if "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            lines = text.split("\n")
            if not lines[-1]:
                lines.pop()  # a line break ends a line, it does not begin another
            yield lines


def numbered(data: Buffer, report: ParseReport) -> Iterator[tuple[int, str]]:
    """Yield each line with its number, counted from 1, and count it in the report."""
    for lines in blocks(data):
        first = report.lines + 1
        report.lines += len(lines)
        yield from enumerate(lines, first)


def read_lines(data: Buffer, report: ParseReport, read: LineReader) -> Iterator[Entry]:
    """Yield what `read` finds in each line."""
    for number, line in numbered(data, report):
        yield from account(number, line, read, report)


def read_names(data: Buffer, report: ParseReport, read: LineReader, fast: FastMatch, scope: Scope) -> Iterator[Entry]:
    """Yield what `read` finds in each line, with a short cut for the line that nearly every line is.

    `fast` matches a line that holds one name in normal form (as group 1), to be covered with `scope`.
    """
    for lines in blocks(data):
        first = report.lines + 1
        report.lines += len(lines)
        for number, line in enumerate(lines, first):
            # A line that is no longer than a name may be holds no name that is longer.
            if len(line) <= MAX_LENGTH and (match := fast(line)) is not None:
                report.accepted += 1
                report.entries += 1
                yield NameEntry(number, match[1], scope)
            else:
                yield from account(number, line, read, report)


def account(number: int, line: str, read: LineReader, report: ParseReport) -> Sequence[Entry]:
    """Return the entries of one line, and count the line."""
    if len(line) > MAX_LINE:
        report.leave_out(number, line[:MAX_LINE], ValueError(f"longer than {MAX_LINE} characters"))
        return ()
    text = line.strip()
    if not text.isascii():
        text = text.strip("\ufeff").strip()  # a byte order mark; in joined lists in front of any line
    if not text:
        report.blank += 1
        return ()
    try:
        found = read(number, text)
    except ValueError as flaw:
        report.leave_out(number, text, flaw)
        return ()
    return settle(number, text, found, report)


def settle(number: int, text: str, found: Iterable[Found], report: ParseReport) -> Sequence[Entry]:
    """Return the entries among what was found, and count the line by the best it gave."""
    entries: list[Entry] = []
    flaws: list[ValueError] = []
    for item in found:
        if isinstance(item, ValueError):
            flaws.append(item)
        else:
            entries.append(item)
    if entries:
        report.accepted += 1
        report.entries += len(entries)
        for flaw in flaws:
            report.leave_out(number, text, flaw, accepted=True)
    elif flaws:
        # One that is wrong says more about the list than one that is merely of no use.
        report.leave_out(number, text, min(flaws, key=lambda flaw: isinstance(flaw, Unsupported)))
    else:
        report.blank += 1
    return entries
