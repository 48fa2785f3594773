"""Response policy zones: triggers, actions, and what zone files allow."""

import pytest

from gateway.feeds.entry import Entry, NameEntry, ParseReport, RangeEntry, Scope
from gateway.feeds.formats.zones import MAX_RECORD_LINES, rpz, split_record

HEAD = b"$TTL 60\n$ORIGIN rpz.example.\n@ SOA . . 1 2 3 4 5\n"


def read(text: str) -> tuple[list[Entry], ParseReport]:
    """Read records as they stand in a zone called rpz.example, with lines counted from 1."""
    report = ParseReport()
    lines = HEAD.count(b"\n")
    entries: list[Entry] = [entry._replace(line=entry.line - lines) for entry in rpz(HEAD + text.encode(), report)]
    return entries, report


@pytest.mark.parametrize(
    ("record", "scope", "exception"),
    [
        ("a.example CNAME .", Scope.EXACT, False),
        ("A.Example\t\tcname\t.", Scope.EXACT, False),
        ("a.example 60 IN CNAME *.", Scope.EXACT, False),
        ("a.example IN 1h30m CNAME rpz-drop.", Scope.EXACT, False),
        ("*.a.example CNAME .", Scope.BELOW, False),
        ("a.example.rpz.example. CNAME .", Scope.EXACT, False),
        ("*.a.example.rpz.example. CNAME . ; comment", Scope.BELOW, False),
        ("a.example CNAME rpz-passthru.", Scope.EXACT, True),
        ("*.a.example CNAME rpz-passthru.", Scope.BELOW, True),
        ("a.example CNAME a.example.", Scope.EXACT, True),
        ("a.example A 0.0.0.0", Scope.EXACT, False),
        ("a.example AAAA ::", Scope.EXACT, False),
    ],
)
def test_names(record: str, scope: Scope, exception: bool) -> None:
    """A record denies, or lets through, the name that triggers it."""
    assert read(record)[0] == [NameEntry(1, "a.example", scope, exception)]


@pytest.mark.parametrize(
    ("owner", "first", "last", "version"),
    [
        ("32.1.2.0.192.rpz-ip", 0xC0000201, 0xC0000201, 4),
        ("24.0.2.0.192.rpz-ip", 0xC0000200, 0xC00002FF, 4),
        ("128.1.zz.db8.2001.rpz-ip", 0x20010DB8 << 96 | 1, 0x20010DB8 << 96 | 1, 6),
        ("32.zz.db8.2001.rpz-ip", 0x20010DB8 << 96, (0x20010DB9 << 96) - 1, 6),
        ("128.1.zz.rpz-ip", 1, 1, 6),
        (
            "128.8.7.6.5.4.3.db8.2001.rpz-ip",
            0x20010DB8000300040005000600070008,
            0x20010DB8000300040005000600070008,
            6,
        ),
    ],
)
def test_addresses(owner: str, first: int, last: int, version: int) -> None:
    """A trigger on answers is an address prefix, written back to front."""
    assert read(f"{owner} CNAME .")[0] == [RangeEntry(1, first, last, version)]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("a.example CNAME garden.example.", "points somewhere else"),
        ("a.example A 192.0.2.1", "points somewhere else"),
        ("a.example CNAME rpz-tcp-only.", "answers over TCP only"),
        ('a.example TXT "x ; y ("', "record type"),
        ("32.1.2.0.192.rpz-client-ip CNAME .", "trigger on the client or name server"),
        ("ns.example.rpz-nsdname CNAME .", "trigger on the client or name server"),
        ("32.1.2.0.192.rpz-nsip CNAME .", "trigger on the client or name server"),
        ("$GENERATE 1-9 a$.example CNAME .", "directive"),
    ],
)
def test_records_of_no_use(record: str, reason: str) -> None:
    """What a gateway cannot act on is left out."""
    entries, report = read(record)
    assert entries == []
    assert report.unsupported == {reason: 1}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("a.other. CNAME .", "outside the zone"),
        ("33.1.2.0.192.rpz-ip CNAME .", "malformed address"),
        ("x.1.2.0.192.rpz-ip CNAME .", "malformed address"),
        ("0.zz.rpz-ip CNAME .", "covers every address"),
        ("a.example", "no record type"),
        ("com CNAME .", "single label"),
        ("*.com CNAME .", "single label"),
    ],
)
def test_wrong_records(record: str, reason: str) -> None:
    """What a zone cannot mean is rejected."""
    entries, report = read(record)
    assert entries == []
    assert report.rejected == {reason: 1}


def test_origins_change() -> None:
    """Owners are relative to the last origin, and entries to the zone."""
    text = (
        "$ORIGIN example.rpz.example.\na CNAME .\n$ORIGIN b\n*.x CNAME .\n$ORIGIN rpz.example.\nc.example CNAME .\n"
    )
    assert [entry.name for entry in read(text)[0] if isinstance(entry, NameEntry)] == [
        "a.example",
        "x.b.example",
        "c.example",
    ]


def test_owners_go_on() -> None:
    """A line that begins with a space goes on with the owner before."""
    assert read("a.example CNAME .\n  AAAA ::\nb.example A 192.0.2.1\n\tA 0.0.0.0\n")[0] == [
        NameEntry(1, "a.example", Scope.EXACT),
        NameEntry(2, "a.example", Scope.EXACT),
        NameEntry(4, "b.example", Scope.EXACT),
    ]


def test_zone_without_an_origin() -> None:
    """Published zones often leave their name to whoever loads them: owners are then what they look like."""
    data = b"@ SOA localhost. root.localhost. 1 2 3 4 5\n NS localhost.\na.example CNAME .\nb.example. CNAME .\n"
    report = ParseReport()
    assert [entry.line for entry in rpz(data, report)] == [3, 4]
    assert report.blank == 2


def test_zone_named_by_its_soa() -> None:
    """The owner of the SOA record is the zone."""
    data = (
        b"rpz.example. SOA localhost. root.localhost. 1 2 3 4 5\na.example.rpz.example. CNAME .\nb.other. CNAME .\n"
    )
    report = ParseReport()
    assert list(rpz(data, report)) == [NameEntry(2, "a.example", Scope.EXACT)]
    assert report.rejected == {"outside the zone": 1}


def test_records_span_lines() -> None:
    """A record in parentheses is one, counted where it begins."""
    entries, report = read("a.example ( CNAME ; comment (\n\n . )\nb.example CNAME .\n")
    assert [entry.line for entry in entries] == [1, 4]
    assert report.rejected == {}


@pytest.mark.parametrize("lines", [1, MAX_RECORD_LINES * 2])
def test_parentheses_close(lines: int) -> None:
    """A parenthesis that is never closed costs no more than a bounded part of the list, and is reported."""
    entries, report = read("a.example (\n" + "b.example CNAME .\n" * lines)
    assert report.rejected == {"parenthesis is never closed": 1}
    assert len(entries) == (0 if lines == 1 else lines - MAX_RECORD_LINES)


@pytest.mark.parametrize("fields", [[], ["300"], ["IN", "300"], ["IN", "300", "60", "A"]])
def test_records_have_a_type(fields: list[str]) -> None:
    """A record without a type is none."""
    with pytest.raises(ValueError, match="no record type"):
        split_record(fields)
