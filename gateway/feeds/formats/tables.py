"""The csv format: one column of a table.

Pure: no I/O, no clock.
"""

import csv as reader
import re
from collections import deque
from collections.abc import Buffer, Iterator

from gateway.feeds.entry import Entry, ParseReport, Scope
from gateway.feeds.formats.lines import MAX_LINE, numbered, settle
from gateway.feeds.formats.values import read_value

MAX_RECORD_LINES = 8
"""Lines that a quoted field may span, so that one stray quote does not swallow the list."""

_DELIMITERS = ",;\t|"
_INDEX = re.compile(r"[1-9][0-9]{0,2}").fullmatch
type _Line = tuple[int, str]


def csv(data: Buffer, report: ParseReport, column: str) -> Iterator[Entry]:
    """Yield the values of one column: names, addresses, prefixes, `host:port` and URLs, mixed as they come.

    `column` is a name from the header row, or a number counted from 1 when there is no header row. The header row
    may be commented out: then the last comment before the data that names the column counts. Comma, semicolon, tab
    or bar separate fields, whichever the header (or first record) uses. A name covers itself only, `.name` and
    `*.name` the tree.
    """
    lines = numbered(data, report)
    ahead: deque[_Line] = deque()  # read, and found not to belong to the record before
    index = int(column) - 1 if _INDEX(column) else None
    delimiter: str | None = None
    seen_data = False
    while (line := ahead.popleft() if ahead else next(lines, None)) is not None:
        number, text = line[0], line[1].strip().strip("\ufeff")
        if not text:
            report.blank += 1
        elif text[0] == "#":
            report.blank += 1
            if not seen_data and not _INDEX(column):
                index, delimiter = _find(column, text[1:]) or (index, delimiter)
        elif len(text) > MAX_LINE:
            seen_data = True
            report.leave_out(number, text, ValueError(f"longer than {MAX_LINE} characters"))
        elif index is None and not seen_data and (header := _find(column, text)):
            index, delimiter = header
            seen_data = True
            report.blank += 1
        else:
            seen_data = True
            if index is None:
                report.leave_out(number, text, ValueError("no header that names the column"))
                continue
            delimiter = delimiter or _sniff(text)
            text, count = _complete(text, lines, ahead)
            report.blank += count - 1
            yield from _read(number, text, index, delimiter, report)


def _find(column: str, header: str) -> tuple[int, str] | None:
    """Return the place of the column and the delimiter when this is a header row that names it."""
    for delimiter in _DELIMITERS:
        fields = _split(header, delimiter)
        if fields and column in (names := [field.strip() for field in fields]):
            return names.index(column), delimiter
    return None


def _sniff(record: str) -> str:
    return max(_DELIMITERS, key=record.count)  # the first of them when there are none


def _split(record: str, delimiter: str) -> list[str] | None:
    try:
        rows = list(reader.reader([record], delimiter=delimiter, skipinitialspace=True, strict=True))
    except reader.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _complete(text: str, lines: Iterator[_Line], ahead: deque[_Line]) -> tuple[str, int]:
    """Return a record and its number of lines, with the following lines when a quote is open at its end.

    When the quote does not close soon, the record is left as it is, and the lines read are put back.
    """
    quotes = text.count('"')
    if quotes % 2 == 0:
        return text, 1
    taken: list[_Line] = []
    while len(taken) < MAX_RECORD_LINES - 1:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            break
        taken.append(line)
        quotes += line[1].count('"')
        if quotes % 2 == 0 and sum(len(part) for _, part in taken) <= MAX_LINE:
            # Joined by a space: no value that is looked for spans lines, and it keeps this one record one line.
            return " ".join([text, *(part for _, part in taken)]), 1 + len(taken)
    ahead.extendleft(reversed(taken))
    return text, 1


def _read(number: int, text: str, index: int, delimiter: str, report: ParseReport) -> Iterator[Entry]:
    fields = _split(text, delimiter)
    if fields is None:
        report.leave_out(number, text, ValueError("quote is not closed"))
    elif len(fields) <= index:
        report.leave_out(number, text, ValueError("too few columns"))
    else:
        try:
            found = [read_value(number, fields[index].strip(), Scope.EXACT)]
        except ValueError as flaw:
            report.leave_out(number, text, flaw)
        else:
            yield from settle(number, text, found, report)
