"""Queries in text."""

import json

import pytest

from gateway.recordings.lines import Lines
from gateway.tunnelling.analysis import Recorded

ZEEK = """#separator \\x09
#set_separator\t,
#fields\tts\tuid\tid.orig_h\tid.orig_p\tquery\tqtype\tqtype_name\trcode\trcode_name\tanswers
#types\ttime\tstring\taddr\tport\tstring\tcount\tstring\tcount\tstring\tvector[string]
1300475167.096535\tCt\t141.142.220.118\t48649\tWWW.Example.com\t16\tTXT\t0\tNOERROR\tTXT 5 hello,TXT 2 hi
1300475168.5\tCt\t141.142.220.118\t48649\tnone.example.com\t1\tA\t3\tNXDOMAIN\t-
1300475168.6\tCt\t141.142.220.118\t48649\t-\t-\t-\t-\t-\t-
#close\t2026-01-01
"""
ROWS = {
    "JSON lines": (
        {"t": 12.5, "client": "c", "qname": "A.b\\200.Com.", "qtype": "TXT", "rcode": "NXDOMAIN", "answer_bytes": 90},
        Recorded(12.5, "c", "a.b\\200.com", 16, 3, 90),
    ),
    "JSON lines, without an answer": (
        {"t": 1, "client": "c", "qname": "a\u00e9.com", "qtype": "TYPE65399"},
        Recorded(1, "c", "a\\195\\169.com", 65399),
    ),
    "our ledger": (
        {
            "@timestamp": "1970-01-01T00:01:00.000Z",
            "source.ip": "10.0.0.7",
            "dns.question.name": "a.com",
            "dns.question.type": "AAAA",
        },
        Recorded(60, "10.0.0.7", "a.com", 28),
    ),
    "Zeek as JSON": (
        {"ts": 5.5, "id.orig_h": "10.0.0.7", "query": "a.com", "qtype": 1, "rcode": 0, "answers": ["192.0.2.1"]},
        Recorded(5.5, "10.0.0.7", "a.com", 1, 0, 18 + 5 + 12 + 9),
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_formats(row: tuple[dict[str, object], Recorded]) -> None:
    """Each line of JSON says by its keys what it is."""
    line, expected = row
    assert list(Lines().read([json.dumps(line) + "\n"])) == [expected]


def test_zeek() -> None:
    """Tab-separated logs of Zeek have their columns in a heading; a line without a query is counted."""
    lines = Lines()
    first, second = lines.read(ZEEK.splitlines(keepends=True))
    assert first[:5] == (1300475167.096535, "141.142.220.118", "www.example.com", 16, 0)
    assert first.answer > len("TXT 5 hello" + "TXT 2 hi")
    assert second[2:] == ("none.example.com", 1, 3, 0)
    assert lines.unreadable == 1


ODD = {
    "{": "no JSON",
    "[1]": "neither JSON nor under a heading",
    "{}": "'query' is missing or unknown",
    "plain": "neither JSON nor under a heading",
    "{" * 99999: "",
    '{"t": 1, "client": "c", "qname": "", "qtype": "A"}': "no name",
    '{"t": NaN, "qname": "a"}': "no time",
    '{"t": 1, "client": "c", "qname": "a.com", "qtype": "NONE"}': "'NONE' is missing or unknown",
    '{"@timestamp": "yesterday"}': "Invalid isoformat string: 'yesterday'",
    "#fields\tts\tquery\n1": "1 columns under a heading of 2",
}


@pytest.mark.parametrize(("text", "flaw"), ODD.items())
def test_odd_lines_are_counted(text: str, flaw: str) -> None:
    """What speaks of no query is passed over and counted, and of the first one is said where it is and why."""
    lines = Lines()
    odd = text.splitlines()
    assert list(lines.read([*odd, "more"])) == []
    assert lines.unreadable == 2
    assert lines.flaw.startswith(f"line {len(odd)}: {flaw}")
