"""Reading line by line: endings, blocks, long lines, and the account of each."""

import pytest

from gateway.feeds.entry import NameEntry, ParseReport, Scope, Unsupported
from gateway.feeds.formats.lines import MAX_LINE, Found, blocks, read_lines, settle


def lines(data: bytes) -> list[str]:
    """Return all lines of all blocks."""
    return [line for block in blocks(data) for line in block]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\rc\n", ["a", "b", "c"]),
        ("a\x0bb\x0cc\x85d\u2028e".encode(), ["a\x0bb\x0cc\x85d\u2028e"]),
        (b"caf\xe9", ["caf\udce9"]),
    ],
)
def test_line_breaks(data: bytes, expected: list[str]) -> None:
    """LF, CRLF and CR end lines and nothing else does; bytes that are not UTF-8 are kept apart."""
    assert lines(data) == expected


def test_blocks_are_cut_between_lines() -> None:
    """However large a list is, its lines come out whole, the very long ones too."""
    long = b"x" * (3 << 20)
    data = b"\r\n".join([b"a" * 1000] * 3000 + [long] + ["ü".encode() * 700] * 1000)
    found = lines(data)
    assert len(found) == 4001
    assert {len(line) for line in found} == {1000, 3 << 20, 700}


def test_reading() -> None:
    """A line counts once: by its entries, as blank, or by why it gave none."""

    def read(number: int, text: str) -> list[Found]:
        if text == "#":
            return []
        if text == "no":
            raise ValueError("wrong")
        return [NameEntry(number, text, Scope.EXACT)]

    report = ParseReport()
    data = b"  a.example \n#\n\nno\n\xef\xbb\xbf b.example\n" + b"x" * (MAX_LINE + 1)
    assert [entry.line for entry in read_lines(data, report, read)] == [1, 5]
    assert (report.lines, report.accepted, report.blank) == (6, 2, 2)
    assert report.rejected == {"wrong": 1, "longer than 4096 characters": 1}


def test_the_best_part_decides() -> None:
    """A line with a good part is accepted; without one, a wrong part weighs more than one of no use."""
    entry = NameEntry(1, "a.example", Scope.EXACT)
    report = ParseReport()
    assert settle(1, "", [Unsupported("useless"), entry, ValueError("wrong")], report) == [entry]
    assert settle(2, "", [Unsupported("useless"), ValueError("wrong")], report) == []
    assert settle(3, "", [Unsupported("useless")], report) == []
    assert (report.accepted, report.partial) == (1, {"useless": 1, "wrong": 1})
    assert (report.rejected, report.unsupported) == ({"wrong": 1}, {"useless": 1})
