"""Tests for gateway.dns.records."""

from ipaddress import ip_address

import pytest
from dnslib import QTYPE

from gateway.dns.message import encode_name, make_answer, render
from gateway.dns.records import MAX_ALIASES, LocalRecords, aliases, of_type, parse_data
from gateway.dns.wire import read_query
from tests.gateway.dns.support import ask, parse


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        ("cname", "b.example", "b.example."),
        ("ptr", "host.example", "host.example."),
        ("mx", "10 mail.example", "10 mail.example."),
        ("mx", "0 .", "0 ."),
        ("srv", "1 2 5060 sip.example", "1 2 5060 sip.example."),
        ("txt", "v=spf1 -all", '"v=spf1 -all"'),
        ("txt", "", '""'),
        ("txt", "x" * 300, f'"{"x" * 255}","{"x" * 45}"'),
    ],
)
def test_texts_become_records(kind: str, text: str, shown: str) -> None:
    """A record is sent as what its text says."""
    qtype = kind.upper()
    owner = encode_name("a.example")
    records = of_type(owner, getattr(QTYPE, qtype), [parse_data(kind, text)])
    message = parse(render(read_query(ask("a.example", qtype)), make_answer(owner, records, ttl=60)))
    assert [str(record.rdata) for record in message.rr] == [shown]


@pytest.mark.parametrize(("kind", "text"), [("mx", "mail.example"), ("srv", "1 2 a.example"), ("cname", "1 a")])
def test_numbers_have_to_be_there(kind: str, text: str) -> None:
    """A record with too few or too many numbers is refused."""
    with pytest.raises(ValueError, match="numbers and a name"):
        parse_data(kind, text)


def test_aliases_are_followed() -> None:
    """The chain of local CNAMEs leads to the first name without one, however long it is, and never for ever."""
    records: LocalRecords = {
        "a": (parse_data("cname", "b"),),
        "b": (parse_data("cname", "c.example"),),
        "loop": (parse_data("cname", "loop"),),
        "host": (ip_address("192.0.2.1"),),
    }
    chain, end = aliases("a", 1, records)
    assert (end, [record.owner for record in chain]) == ("c.example", [b"\1a\0", b"\1b\0"])
    assert aliases("a", 5, records) == ([], "a")
    assert aliases("host", 1, records) == ([], "host")
    assert len(aliases("loop", 1, records)[0]) == MAX_ALIASES
