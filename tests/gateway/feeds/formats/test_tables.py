"""Tables: which column, which delimiter, and quotes that do not behave."""

import pytest

from gateway.feeds.entry import Entry, NameEntry, ParseReport, PathEntry, RangeEntry, Scope
from gateway.feeds.formats.tables import MAX_RECORD_LINES, csv


def read(text: str, column: str) -> tuple[list[Entry], ParseReport]:
    """Read a table."""
    report = ParseReport()
    return list(csv(text.encode(), report, column)), report


@pytest.mark.parametrize(
    "text",
    [
        "id,value\n1,a.example\n",
        "id;value\n1;a.example\n",
        "id\tvalue\n1\ta.example\n",
        "id|value\n1|a.example\n",
        '"id", "value"\n"1", "a.example"\n',
        '# a comment\n# id, value\n1, "a.example"\n',
        '#"id","value"\n#\n"1","a.example"\n',
        "\ufeffid,value\n1,a.example\n",
        "# other, columns\n#id,value\n\n1,a.example\n",
    ],
)
def test_header_rows(text: str) -> None:
    """The header row names the column, whether it is a comment or not, and whatever separates the fields."""
    entries, report = read(text, "value")
    assert [entry._replace(line=0) for entry in entries] == [NameEntry(0, "a.example", Scope.EXACT)]
    assert report.rejected == {}


@pytest.mark.parametrize("text", ["x,a.example\n", "x;a.example\n", '"x"\t"a.example"\n'])
def test_numbered_columns(text: str) -> None:
    """Without a header row a column is known by its number, from 1."""
    assert read(text, "2")[0] == [NameEntry(1, "a.example", Scope.EXACT)]


def test_all_kinds_of_values() -> None:
    """A column may hold names, addresses, prefixes, ports and URLs side by side."""
    text = "v\na.example\n.b.example\n192.0.2.1:80\n192.0.2.0/31\nhttp://a.example/x\n"
    assert read(text, "v")[0] == [
        NameEntry(2, "a.example", Scope.EXACT),
        NameEntry(3, "b.example", Scope.TREE),
        RangeEntry(4, 0xC0000201, 0xC0000201, 4),
        RangeEntry(5, 0xC0000200, 0xC0000201, 4),
        PathEntry(6, "a.example", "/x"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,other\n1,a.example\n", "no header that names the column"),
        ("id,value\n1\n", "too few columns"),
        ('id,value\n1,"a.example\n', "quote is not closed"),
        ('id,value\n1,"a"b.example\n', "quote is not closed"),
        ("id,value\n1,a b\n", "has a character that host names do not have"),
        ("id,value\n" + "1," * 3000 + "\n", "longer than 4096 characters"),
    ],
)
def test_wrong_rows(text: str, reason: str) -> None:
    """A row without a value that can be believed is rejected."""
    entries, report = read(text, "value")
    assert entries == []
    assert set(report.rejected) == {reason}


def test_quoted_fields_span_lines() -> None:
    """A quoted field may hold line breaks; the record counts where it begins."""
    entries, report = read('value,note\na.example,"two\nlines, ""quoted"""\nb.example,\n', "value")
    assert [entry.line for entry in entries] == [2, 4]
    assert (report.accepted, report.blank, report.lines) == (2, 2, 4)


def test_stray_quotes_cost_one_line() -> None:
    """A quote that is never closed does not swallow the rows after it."""
    rows = MAX_RECORD_LINES * 2
    entries, report = read('value,note\na.example,"stray\n' + "b.example,\n" * rows, "value")
    assert len(entries) == rows
    assert report.rejected == {"quote is not closed": 1}
