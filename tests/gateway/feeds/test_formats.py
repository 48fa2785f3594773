"""All formats: the sample lists, and the laws that hold for any bytes."""

import json
import mmap
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.catalog import Format
from gateway.feeds.entry import Entry, NameEntry, ParseReport, PathEntry, RangeEntry, Scope
from gateway.feeds.formats import FORMATS, parse
from gateway.names import normalize
from gateway.urlpaths import normalize_path

CORPUS = Path(__file__).parents[2] / "corpora" / "feeds"
EXPECTED: dict[str, Any] = yaml.safe_load((CORPUS / "expected.yaml").read_text("utf-8"))
NOW = datetime(2025, 1, 1, tzinfo=UTC)


def show(entry: Entry) -> str:
    """Write an entry as the expectations do."""
    mark = "! " if entry.exception else ""
    match entry:
        case NameEntry():
            return f"{entry.line}: {mark}{entry.scope.name} {entry.name}"
        case PathEntry():
            return f"{entry.line}: {mark}PATH {entry.host} {entry.path}"
        case RangeEntry():
            address = IPv4Address if entry.version == 4 else IPv6Address
            return f"{entry.line}: {mark}RANGE {address(entry.first)} {address(entry.last)}"


def accounted(report: ParseReport) -> int:
    """Return the number of lines that the report accounts for."""
    return report.accepted + report.blank + report.unsupported.total() + report.rejected.total()


def test_every_format_has_a_sample() -> None:
    """There is a sample list for every format that a catalogue may name and that is read, and for nothing else."""
    assert set(EXPECTED) == set(FORMATS) == set(get_args(Format.__value__))


@pytest.mark.parametrize("name", FORMATS)
def test_sample(name: str) -> None:
    """Each sample list gives the expected entries, and every other line its reason."""
    expected = EXPECTED[name]
    report = ParseReport()
    data = (CORPUS / expected["file"]).read_bytes()
    entries = list(parse(data, name, report, column="ioc_value", now=NOW))
    assert [show(entry) for entry in entries] == expected["entries"]
    assert (report.lines, report.blank, report.entries) == (expected["lines"], expected["blank"], len(entries))
    for kind in ("unsupported", "rejected", "partial"):
        assert getattr(report, kind) == {why: what["count"] for why, what in expected[kind].items()}
        for why, what in expected[kind].items():
            assert [sample.line for sample in report.samples[why]][: len(what["lines"])] == what["lines"]
    assert accounted(report) == report.lines


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("misp", "stix")])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_line_endings_mean_the_same(name: str, ending: bytes) -> None:
    """A list says the same whatever ends its lines, whether or not the last one is ended."""
    data = (CORPUS / EXPECTED[name]["file"]).read_bytes().replace(b"\r\n", b"\n")
    for tail in (b"", ending):
        other = data.rstrip(b"\n").replace(b"\n", ending) + tail
        report = ParseReport()
        assert [show(entry) for entry in parse(other, name, report, column="ioc_value")] == (
            EXPECTED[name]["entries"]
        )
        assert report.lines == EXPECTED[name]["lines"]


def test_a_mapped_file_is_read(tmp_path: Path) -> None:
    """A list may be a memory map, which can be closed once the list is read."""
    path = tmp_path / "list"
    path.write_bytes(b"a.example\nb.example\n")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert len(list(parse(data, "domains", ParseReport()))) == 2


def test_unknown_format() -> None:
    """A format that does not exist is refused at once, with those that do."""
    with pytest.raises(ValueError, match="expected one of hosts domains"):
        parse(b"", "xls", ParseReport())


def test_csv_needs_a_column() -> None:
    """A csv list without a column is refused at once."""
    with pytest.raises(ValueError, match="needs a column"):
        parse(b"", "csv", ParseReport())


WORDS = [
    *("0.0.0.0", "127.0.0.1", "::1", "2001:db8::/32", "192.0.2.1", "/24", "a.example", "b.c.example", "*.", "com"),
    *("||", "^", "@@", "$important", "##", "#", "!", ";", "//", "/", "http://", "?q=1", "%2e", "..", ":80", "@"),
    *("address=/", "server=/", 'local-zone: "', '" static', 'local-data: "', " A ", "CNAME .", " IN ", "300 "),
    *("$ORIGIN ", "@ SOA (", ")", '"', ",", "value", "32.1.2.0.192.rpz-ip", "[", "]", "-", "_", "xn--", "\\"),
    *(" ", "\t", "\n", "\r\n", "\r", "\0", "\ufeff", "é", "ß", "\u2028", "\udce9", "[url:value = '", "' OR "),
]
lists = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=4)), max_size=30).map(
    lambda words: "".join(words).encode("utf-8", "surrogatepass")
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=10),
    st.sampled_from(["indicator", "hostname", "a.example", "192.0.2.1", "[url:value = 'http://a.example/x']"]),
)
keys = st.sampled_from(["list", "type", "objects", "pattern", "valid_from", "valid_until", "pattern_type", "id"])
documents = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
).map(lambda document: json.dumps(document).encode())


@given(
    data=st.one_of(lists, documents, st.binary(max_size=300)),
    name=st.sampled_from(FORMATS),
    column=st.sampled_from(["value", "1", "2"]),
)
def test_any_bytes(data: bytes, name: str, column: str) -> None:
    """Any bytes in any format: nothing raises, every line is accounted for once, and what comes out is normal."""
    report = ParseReport()
    count = 0
    for entry in parse(data, name, report, column=column, now=NOW):
        count += 1
        assert 1 <= entry.line <= report.lines
        match entry:
            case NameEntry():
                assert normalize(entry.name) == entry.name
                assert "." in entry.name
            case PathEntry():
                assert normalize_path(entry.path) == entry.path
            case RangeEntry():
                assert 0 <= entry.first <= entry.last < 1 << (32 if entry.version == 4 else 128)
    assert report.entries == count
    assert accounted(report) == report.lines
    for samples in report.samples.values():
        assert all((sample.text.encode() and sample.text.isprintable()) or not sample.text for sample in samples)


@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line and b"\r" not in line), max_size=8))
def test_lines_stand_alone(lines: list[bytes]) -> None:
    """In a list of bare values, what one line gives does not depend on the others."""
    together = list(parse(b"\n".join(lines), "domains", ParseReport()))
    alone = [
        entry._replace(line=number)
        for number, line in enumerate(lines, 1)
        for entry in parse(line, "domains", ParseReport())
    ]
    assert together == alone


@pytest.mark.parametrize("name", ["misp", "stix"])
@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"[]", b'{"list": 1}', b"[" * 100_000, b"9" * 10_000, b"\xff\xfe", b'{"list": [}'],
    ids=["empty", "html", "array", "no list", "deep", "long number", "utf-16", "broken"],
)
def test_no_document(name: str, data: bytes) -> None:
    """What is no such JSON document is one rejected line."""
    report = ParseReport()
    assert list(parse(data, name, report)) == []
    assert (report.lines, report.rejected.total()) == (1, 1)


def test_reports_add_up_when_read_in_turn() -> None:
    """Entries come one by one: the report is complete only when the iterator is."""
    report = ParseReport()
    entries = parse(b"a.example\nb.example\n", "domains", report)
    assert report.lines == 0
    assert next(entries) == NameEntry(1, "a.example", Scope.TREE)
    assert report.entries == 1
    assert len(list(entries)) == 1
    assert accounted(report) == report.lines == 2
