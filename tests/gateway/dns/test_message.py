"""Tests for gateway.dns.message."""

from ipaddress import ip_address

import pytest
from dnslib import QTYPE, RR, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.message import (
    MAX_STEPS,
    STREAM_SIZE,
    Answer,
    address_record,
    aged,
    encode_name,
    encode_query,
    make_answer,
    render,
    soa_record,
    udp_limit,
)
from gateway.dns.wire import Edns, Record, WireError, name_text, read_query, read_response
from tests.gateway.dns.support import ask, parse

NAMES = st.lists(st.sampled_from(["a", "bb", "Ccc", "www", "example", "com"]), min_size=1, max_size=6).map(".".join)


@given(NAMES, st.lists(st.tuples(NAMES, NAMES, st.sampled_from(["CNAME", "MX", "NS", "SRV", "SOA"])), max_size=12))
def test_what_is_written_reads_back(name: str, rows: list[tuple[str, str, str]]) -> None:
    """Records written with our compression are read by dnslib, and by ourselves, as what they were."""
    rdata = {"CNAME": "{}", "MX": "5 {}", "NS": "{}", "SRV": "1 2 3 {}", "SOA": "{} {} 1 2 3 4 5"}
    source = DNSRecord.question(name).reply()
    for owner, target, kind in rows:
        source.add_answer(*RR.fromZone(f"{owner} 60 IN {kind} {rdata[kind].format(target, target)}"))
    records = read_response(bytes(source.pack())).answers
    message = render(read_query(ask(name)), make_answer(encode_name(name.lower()), records, ttl=60))
    for expected, found in zip(records, read_response(message).answers, strict=True):
        assert [part.lower() for part in (found.owner, found.rdata)] == [
            part.lower() for part in (expected.owner, expected.rdata)
        ]
    for theirs, back in zip(source.rr, parse(message).rr, strict=True):
        assert str(back.rname).lower() == str(theirs.rname).lower()
        assert str(back.rdata).lower() == str(theirs.rdata).lower()
        assert (back.rtype, back.ttl) == (theirs.rtype, 60)


def test_one_answer_serves_every_letter_case() -> None:
    """Names in an answer follow the letter case of the question, because they point into it."""
    owner = encode_name("www.example.com")
    answer = make_answer(owner, [address_record(owner, ip_address("192.0.2.1"), 60)], ttl=60)
    for spelling in ("www.example.com", "WWW.eXample.COM"):
        message = parse(render(read_query(ask(spelling)), answer))
        assert str(message.rr[0].rname) == f"{spelling}."


@pytest.mark.parametrize(("age", "ttl"), [(0, 100), (1, 99), (100, 0), (1000, 0)])
def test_aging(age: int, ttl: int) -> None:
    """TTLs count down and stop at zero, and the original stays as it is."""
    owner = encode_name("a.example")
    answer = make_answer(
        owner, [address_record(owner, ip_address("192.0.2.1"), 100)], [soa_record(owner, 100)], ttl=100
    )
    before = answer.records
    message = parse(render(read_query(ask("a.example")), answer, age=age))
    assert (message.rr[0].ttl, message.auth[0].ttl) == (ttl, ttl)
    assert answer.records == before
    assert aged(b"", (), 5) == b""


@pytest.mark.parametrize(
    ("edns", "limit"),
    [
        (None, 512),
        (Edns(0, 0, False, 0), 512),
        (Edns(512, 0, False, 0), 512),
        (Edns(1000, 0, False, 0), 1000),
        (Edns(1232, 0, False, 0), 1232),
        (Edns(65535, 0, False, 0), 1232),
    ],
)
def test_udp_limits(edns: Edns | None, limit: int) -> None:
    """The limit is what the client says, never below 512 and never above 1232."""
    assert udp_limit(edns) == limit


def test_truncation_is_exact() -> None:
    """An answer of exactly the limit is whole; one octet more and it is cut, question and OPT left."""
    query = read_query(ask("a.example"))
    whole = Answer(0, (0, 0), b"", (), 0)
    size = len(render(query, whole))
    assert parse(render(query, whole, limit=size)).header.tc == 0
    cut = render(query, Answer(0, (1, 0), b"x", (), 0), limit=size)
    assert (parse(cut).header.tc, len(cut), len(parse(cut).ar)) == (1, size, 1)


def test_what_is_cut_keeps_its_code() -> None:
    """A name that does not exist does not come to exist because its proof was too long."""
    query = read_query(ask("www.example.com", size=512))
    answer = Answer(3, (0, 1), bytes(600), (), 60)
    cut = render(query, answer, limit=512)
    assert (cut[2] & 2, cut[3] & 0xF, len(cut) <= 512) == (2, 3, True)


def test_flags() -> None:
    """RD and CD are echoed, RA is set, AD never is; DO is echoed in OPT."""
    data = bytearray(ask("a.example", do=True))
    data[2], data[3] = 0x01, 0x30
    message = parse(render(read_query(bytes(data)), Answer(3, (0, 0), b"", (), 0)))
    header = message.header
    assert (header.qr, header.rd, header.ra, header.cd, header.ad, header.aa, header.rcode) == (1, 1, 1, 1, 0, 0, 3)
    assert message.ar[0].edns_do == 1


@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["x" * 60] * 5), "."])
def test_names_that_do_not_fit(name: str) -> None:
    """A text that is no name is refused, not sent."""
    with pytest.raises(ValueError):
        encode_name(name)


@given(st.binary(min_size=1, max_size=63), st.binary(min_size=1, max_size=63))
def test_names_of_any_octets_go_both_ways(first: bytes, second: bytes) -> None:
    """Text and wire form of a name say the same."""
    wire = bytes([len(first)]) + first + bytes([len(second)]) + second + b"\0"
    assert encode_name(name_text(wire)) == wire.lower()


def test_queries_for_upstreams() -> None:
    """A query for an upstream reads back as what was meant."""
    question = encode_name("a.example") + b"\0\x1c\0\1"
    query = parse(encode_query(5, question, dnssec_ok=True, checking_disabled=False))
    assert (query.header.id, query.header.rd, query.header.cd, QTYPE[query.q.qtype]) == (5, 1, 0, "AAAA")
    assert (query.ar[0].edns_do, query.ar[0].edns_len) == (1, 1232)
    assert parse(encode_query(5, question, dnssec_ok=False, checking_disabled=True, edns=False)).ar == []


def test_no_more_is_written_than_a_message_holds() -> None:
    """What was short on the wire, thanks to pointers, is refused when it is too long without them."""
    owner = encode_name("a.example")
    room = STREAM_SIZE - 12 - len(owner) - 4 - 12
    whole = make_answer(owner, [Record(owner, 16, 1, 60, bytes(room))], ttl=60)
    assert len(render(read_query(ask("a.example", edns=False)), whole)) == STREAM_SIZE
    with pytest.raises(WireError, match="than a message can hold"):
        make_answer(owner, [Record(owner, 16, 1, 60, bytes(room + 1))], ttl=60)


def test_writing_names_is_bounded() -> None:
    """So many labels are written as an honest answer may have, and no more; repeated names cost nothing."""

    def owner(number: int) -> bytes:
        return bytes((1, number)) * 100 + b"\0"

    def records(count: int) -> list[Record]:
        return [Record(owner(number), 16, 1, 60, b"") for number in range(1, count + 1)]

    fits = records(MAX_STEPS // 100)
    make_answer(b"\0", [*fits, *fits], ttl=60)
    with pytest.raises(WireError, match="more names to write"):
        make_answer(b"\0", records(MAX_STEPS // 100 + 1), ttl=60)


def test_owners_that_alternate() -> None:
    """A record's owner is its own, whichever owner the record before it had."""
    first, second = encode_name("a.example"), encode_name("b.example")
    owners = [first, first, second, second, b"\0", b"\0", first, second]
    answer = make_answer(first, [Record(owner, 16, 1, 60, b"\1x") for owner in owners], ttl=60)
    message = render(read_query(ask("a.example", "TXT")), answer)
    assert [record.owner for record in read_response(message).answers] == owners
