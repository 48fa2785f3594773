"""Tests for gateway.dns.wire."""

import struct
import time
from collections.abc import Callable

import pytest
from dnslib import CNAME, EDNS0, MX, NS, QTYPE, RR, SOA, SRV, TXT, A, DNSRecord
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.dns import wire
from gateway.dns.message import encode_name
from gateway.dns.wire import (
    MAX_POINTERS,
    MAX_RECORDS,
    MAX_STEPS,
    Query,
    Rcode,
    WireError,
    name_text,
    read_query,
    read_response,
)
from tests.gateway.dns.support import ask

HEAD = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0)
END = b"\0\1\0\1"
BUDGET = 0.02
"""Seconds for one packet: several times the goal of 5 ms, for machines that are busy with other tests."""


def header(*, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    """Return a header."""
    return struct.pack("!6H", 1, flags, *counts)


def opt(options: bytes = b"", *, name: bytes = b"\0", version: int = 0) -> bytes:
    """Return an OPT record."""
    return name + struct.pack("!HHIH", 41, 1232, version << 16, len(options)) + options


QUESTION = b"\3www\7example\3com\0" + END

REFUSED: list[tuple[str, bytes, Rcode | None]] = [
    ("nothing", b"", None),
    ("half a header", b"\0" * 11, None),
    ("a response", header(flags=0x8100) + QUESTION, None),
    ("opcode IQUERY", header(flags=0x0800) + QUESTION, Rcode.NOTIMP),
    ("opcode NOTIFY", header(flags=0x2000) + QUESTION, Rcode.NOTIMP),
    ("opcode UPDATE", header(flags=0x2800) + QUESTION, Rcode.NOTIMP),
    ("no question", header(counts=(0, 0, 0, 0)), Rcode.FORMERR),
    ("two questions", header(counts=(2, 0, 0, 0)) + QUESTION * 2, Rcode.FORMERR),
    ("65535 questions", header(counts=(65535, 0, 0, 0)) + QUESTION, Rcode.FORMERR),
    ("an answer in a query", header(counts=(1, 1, 0, 0)) + QUESTION, Rcode.FORMERR),
    ("an authority in a query", header(counts=(1, 0, 1, 0)) + QUESTION, Rcode.FORMERR),
    ("no name", HEAD, Rcode.FORMERR),
    ("name cut short", HEAD + b"\3ww", Rcode.FORMERR),
    ("name without end", HEAD + b"\3www", Rcode.FORMERR),
    ("no type", HEAD + b"\0", Rcode.FORMERR),
    ("class cut short", HEAD + b"\0\0\1\0", Rcode.FORMERR),
    ("pointer to itself", HEAD + b"\xc0\x0c" + END, Rcode.FORMERR),
    ("pointer to the header", HEAD + b"\xc0\0" + END, Rcode.FORMERR),
    ("pointer ahead", HEAD + b"\xc0\x20" + END + b"\0" * 32, Rcode.FORMERR),
    ("label type 01", HEAD + b"\x41" + b"a" * 65 + b"\0" + END, Rcode.FORMERR),
    ("label type 10", HEAD + b"\x81" + b"a" * 65 + b"\0" + END, Rcode.FORMERR),
    (
        "256 octets",
        HEAD + b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 2 + b"\x3f" + b"a" * 63 + b"\0" + END,
        Rcode.FORMERR,
    ),
    ("128 labels", HEAD + b"\1a" * 128 + b"\0" + END, Rcode.FORMERR),
    ("octet behind the end", HEAD + QUESTION + b"x", Rcode.FORMERR),
    ("OPT announced and missing", header(counts=(1, 0, 0, 1)) + QUESTION, Rcode.FORMERR),
    ("OPT unannounced", HEAD + QUESTION + opt(), Rcode.FORMERR),
    ("two OPT", header(counts=(1, 0, 0, 2)) + QUESTION + opt() * 2, Rcode.FORMERR),
    ("OPT with a name", header(counts=(1, 0, 0, 1)) + QUESTION + opt(name=b"\1a\0"), Rcode.FORMERR),
    ("OPT cut short", header(counts=(1, 0, 0, 1)) + QUESTION + opt()[:-1], Rcode.FORMERR),
    ("option cut short", header(counts=(1, 0, 0, 1)) + QUESTION + opt(b"\0\x0a\0\x08abc"), Rcode.FORMERR),
    ("option header cut short", header(counts=(1, 0, 0, 1)) + QUESTION + opt(b"\0\x0a\0"), Rcode.FORMERR),
    ("10,000 options", header(counts=(1, 0, 0, 1)) + QUESTION + opt(b"\xff\0\0\0" * 10_000), Rcode.FORMERR),
    ("100 additional records", header(counts=(1, 0, 0, 100)) + QUESTION + opt() * 100, Rcode.FORMERR),
    ("EDNS version 1", header(counts=(1, 0, 0, 1)) + QUESTION + opt(version=1), Rcode.BADVERS),
    ("class CHAOS", HEAD + b"\7version\4bind\0\0\x10\0\3", Rcode.REFUSED),
    ("class ANY", HEAD + b"\1a\0\0\1\0\xff", Rcode.REFUSED),
]


@pytest.mark.parametrize(("packet", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_bad_queries(packet: bytes, code: Rcode | None) -> None:
    """A query that cannot be answered as asked says what to answer, or that nothing should be."""
    with pytest.raises(WireError) as caught:
        read_query(packet)
    assert caught.value.rcode == code
    assert (caught.value.query is not None) == (code in (Rcode.BADVERS, Rcode.REFUSED))


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"\0", ""),
        (b"\3WwW\7eXample\0", "www.example"),
        (b"\3a.b\1c\0", "a\\046b.c"),
        (b"\3a\\b\1c\0", "a\\092b.c"),
        (b"\4a b\0\1c\0", "a\\032b\\000.c"),
        (b"\2\xc3\xbc\1c\0", "\\195\\188.c"),
        (b"\1*\1_\1c\0", "*._.c"),
        (b"\3\\04\0", "\\09204"),
        (b"\1.\0", "\\046"),
        (b"\1a" * 127 + b"\0", ".".join("a" * 127)),
    ],
)
def test_names(wire: bytes, text: str) -> None:
    """Names are lower case with every octet that is not plainly visible escaped, and can be written back."""
    query = read_query(HEAD + wire + END)
    assert query.name == text
    assert query.question == wire + END
    assert name_text(wire) == text
    assert encode_name(text) == wire.lower()


def test_query_fields() -> None:
    """Everything that matters about a query is in the result."""
    query = read_query(ask("wWw.example.com", "AAAA", do=True, size=4096, ident=513))
    assert (query.id, query.name, query.qtype, query.qclass) == (513, "www.example.com", 28, 1)
    assert query.question == b"\3wWw\7example\3com\0\0\x1c\0\1"
    assert query.edns is not None
    assert (query.edns.size, query.edns.version, query.edns.dnssec_ok) == (4096, 0, True)
    assert read_query(ask("example.com", edns=False)).edns is None


@given(st.binary(max_size=600) | st.binary(max_size=80).map(lambda rest: HEAD + rest))
@example(HEAD + QUESTION)
def test_any_octets_are_a_query_or_an_error(data: bytes) -> None:
    """Whatever arrives is read or refused, and what is read repeats the question."""
    try:
        query = read_query(data)
    except WireError:
        return
    assert isinstance(query, Query)
    assert data[12 : 12 + len(query.question)] == query.question
    assert encode_name(query.name) + query.question[-4:] == query.question[:-4].lower() + query.question[-4:]


LABELS = st.lists(st.binary(min_size=1, max_size=63) | st.sampled_from([b"www", b"a.b", b"A\\", b"x\0y"]), max_size=6)


@given(LABELS, st.integers(0, 65535), st.sampled_from([0, 1, 2]), st.sampled_from([b"", opt(), opt(version=1), END]))
@example([b"www", b"example", b"com"], 0x0100, 1, opt())
def test_plain_queries_are_read_like_all_others(labels: list[bytes], flags: int, records: int, behind: bytes) -> None:
    """What is known of packets alike but for the name changes nothing about what is read, or refused, and how."""
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    packet = header(flags=flags, counts=(1, 0, 0, records)) + name + END + behind

    def outcome(read: Callable[[bytes], Query]) -> object:
        try:
            return read(packet)
        except WireError as error:
            return str(error), error.rcode, error.query

    assert outcome(read_query) == outcome(wire._read_query)


@given(st.binary(max_size=600), st.tuples(*[st.integers(0, 4)] * 3))
def test_any_octets_are_a_response_or_an_error(data: bytes, counts: tuple[int, int, int]) -> None:
    """Whatever an upstream sends is read or refused."""
    for packet in (data, header(flags=0x8180, counts=(1, *counts)) + QUESTION + data):
        try:
            read_response(packet)
        except WireError:
            continue


NAMES = st.lists(st.text("abcXYZ019-_", min_size=1, max_size=20), min_size=1, max_size=6).map(".".join)


@given(
    NAMES, st.sampled_from(["A", "AAAA", "TXT", "HTTPS", "MX"]), st.booleans(), st.booleans(), st.integers(0, 65535)
)
def test_queries_as_another_codec_writes_them(name: str, qtype: str, edns: bool, do: bool, ident: int) -> None:
    """What dnslib writes is read as dnslib reads it."""
    packet = ask(name, qtype, edns=edns, do=do, ident=ident)
    other = DNSRecord.parse(packet)
    query = read_query(packet)
    assert (query.id, query.qtype, query.qclass) == (other.header.id, other.q.qtype, other.q.qclass)
    assert query.name == str(other.q.qname).rstrip(".").lower()
    assert (query.edns is not None and query.edns.dnssec_ok) == (edns and do)


@given(
    st.lists(st.tuples(NAMES, st.sampled_from(["A", "CNAME", "MX", "SRV", "NS", "SOA", "TXT"])), max_size=8), NAMES
)
def test_responses_as_another_codec_writes_them(rows: list[tuple[str, str]], name: str) -> None:
    """What dnslib writes with compression comes out with every name written out."""
    values = {
        "A": lambda: A("192.0.2.1"),
        "CNAME": lambda: CNAME(f"x.{name}"),
        "MX": lambda: MX(f"mail.{name}", 5),
        "SRV": lambda: SRV(1, 2, 3, f"srv.{name}"),
        "NS": lambda: NS(f"ns.{name}"),
        "SOA": lambda: SOA(f"ns.{name}", f"me.{name}", (1, 2, 3, 4, 5)),
        "TXT": lambda: TXT("text"),
    }
    message = DNSRecord.question(name).reply()
    for owner, kind in rows:
        message.add_answer(RR(f"{owner}.{name}", getattr(QTYPE, kind), rdata=values[kind](), ttl=77))
    message.add_ar(EDNS0(udp_len=1232))
    response = read_response(bytes(message.pack()))
    assert (response.edns, response.rcode, len(response.answers)) == (True, 0, len(rows))
    for (owner, kind), record in zip(rows, response.answers, strict=True):
        assert (name_text(record.owner), record.ttl) == (f"{owner}.{name}".lower(), 77)
        assert record.rtype == getattr(QTYPE, kind)
        if kind == "CNAME":
            assert name_text(record.rdata) == f"x.{name}".lower()
        if kind == "MX":
            assert name_text(record.rdata[2:]) == f"mail.{name}".lower()
        if kind == "SOA":
            assert record.rdata[-20:] == struct.pack("!5I", 1, 2, 3, 4, 5)


def record(name: bytes, rtype: int, rdata: bytes, *, ttl: int = 60, rclass: int = 1) -> bytes:
    """Return a record."""
    return name + struct.pack("!HHIH", rtype, rclass, ttl, len(rdata)) + rdata


def response(*records: bytes, flags: int = 0x8180, behind: bytes = b"") -> bytes:
    """Return a response with these answers."""
    return header(flags=flags, counts=(1, len(records), 0, 0)) + QUESTION + b"".join(records) + behind


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(response(record(b"\xc0\x0c", 1, b"\1\2\3")), id="A of three octets"),
        pytest.param(response(record(b"\xc0\x0c", 28, b"\0" * 4)), id="AAAA of four octets"),
        pytest.param(response(record(b"\xc0\x0c", 5, b"")), id="CNAME without a name"),
        pytest.param(response(record(b"\xc0\x0c", 5, b"\1a\0x")), id="octets behind the CNAME"),
        pytest.param(
            response(record(b"\xc0\x0c", 5, b"\3ab"), record(b"\xc0\x0c", 1, b"abcd")), id="CNAME beyond RDATA"
        ),
        pytest.param(response(record(b"\xc0\x0c", 6, b"\0\0" + b"x" * 19)), id="SOA too short"),
        pytest.param(response(record(b"\xc0\x21", 1, b"abcd")), id="pointer to itself"),
        pytest.param(response(record(b"\xc0\x23\xc0\x21", 1, b"abcd")), id="pointer ahead"),
        pytest.param(response(record(b"\xc0\0", 1, b"abcd")), id="pointer into the header"),
        pytest.param(response(record(b"\xc0\x0c", 41, b"")), id="OPT among the answers"),
        pytest.param(response(b"\xc0\x0c\0\1\0\1"), id="record cut short"),
        pytest.param(response(record(b"\xc0\x0c", 1, b"abcd"))[:-1], id="RDATA cut short"),
        pytest.param(response(behind=b"x"), id="octets behind the end"),
        pytest.param(header(flags=0x8180, counts=(1, 65535, 0, 0)) + QUESTION, id="65,535 records announced"),
        pytest.param(header(flags=0x8180, counts=(0, 0, 0, 0)), id="no question"),
    ],
)
def test_bad_responses(packet: bytes) -> None:
    """A malformed response is an error, never half a result."""
    with pytest.raises(WireError):
        read_response(packet)


def test_ttl_with_the_top_bit_is_zero() -> None:
    """A TTL of 2**31 or more counts as zero (RFC 2181 section 8)."""
    assert read_response(response(record(b"\xc0\x0c", 1, b"abcd", ttl=1 << 31))).answers[0].ttl == 0


def test_binary_labels_survive() -> None:
    """An answer with octets that are no text is read like any other."""
    found = read_response(response(record(b"\4\xff\0.\x80\0", 1, b"abcd")))
    assert name_text(found.answers[0].owner) == "\\255\\000\\046\\128"


# -- bombs ---------------------------------------------------------------------------------------------------------


def pointer_chain() -> bytes:
    """Return 16,000 pointers, each to the one before, and a record at their end."""
    start = 12 + len(QUESTION) + 10
    pointers = [b"\1a\0"]
    for number in range(6000):
        at = start + 1 + (3 + 2 * (number - 1) if number else 0)
        pointers.append((0xC000 | min(at, 0x3FFF)).to_bytes(2, "big"))
    return response(record(b"", 16, b"".join(pointers)), record(b"\xff\xf0", 1, b"abcd"))


def compression_bomb(records: int = 1000) -> bytes:
    """Return records whose owners all point into long names, each somewhere else."""
    long_names = b"".join(b"\1a" * 126 + b"\0" for _ in range(40))
    base = 12 + len(QUESTION) + 11
    owners = [
        (0xC000 | min(base + 253 * (number % 40) + 2 * (number // 40), 0x3FFF)).to_bytes(2, "big")
        for number in range(records)
    ]
    return response(record(b"\0", 16, long_names), *(record(owner, 1, b"abcd") for owner in owners))


def names_in_names(records: int = 1000) -> bytes:
    """Return names each of which is one label and a pointer to the name before: 127 deep, then a fault."""
    out, at = [], 12 + len(QUESTION)
    previous = 12
    for _ in range(records):
        name = b"\1a" + (0xC000 | previous).to_bytes(2, "big")
        out.append(record(name, 1, b"abcd"))
        previous, at = at, at + len(out[-1])
        if at >= 0x3FF0:
            break
    return response(*out)


BOMBS: dict[str, Callable[[], bytes]] = {
    "pointer chain": pointer_chain,
    "compression bomb": compression_bomb,
    "names in names": names_in_names,
    "64 KB of labels": lambda: HEAD + b"\1a" * 32_700,
    "64 KB of labels in a response": lambda: response(b"\1a" * 32_700),
    "64 KB of labels in RDATA": lambda: response(record(b"\xc0\x0c", 5, b"\1a" * 32_000)),
    "64 KB of empty records": lambda: (
        header(flags=0x8180, counts=(1, 5900, 0, 0)) + QUESTION + record(b"\0", 1, b"") * 5900
    ),
    "1,000 records with 60 labels": lambda: response(*[record(b"\1a" * 60 + b"\0", 99, b"")] * 480),
    "64 KB of EDNS options": lambda: header(counts=(1, 0, 0, 1)) + QUESTION + opt(b"\0\1\0\0" * 16_000),
    "64 KB of pointers": lambda: HEAD + b"\xc0\x0c" * 32_700,
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_packet_costs_much(name: str) -> None:
    """The costliest packets of 64 KB are read or refused in a few milliseconds, whichever reader gets them."""
    packet = BOMBS[name]()[:65535]
    taken = []
    for _ in range(3):
        start = time.thread_time()
        for read in (read_query, read_response):
            try:
                read(packet)
            except WireError:
                continue
        taken.append(time.thread_time() - start)
    assert min(taken) < BUDGET


def pointers(count: int) -> bytes:
    """Return a response with a name that is so many pointers, each to the one before, and a label."""
    start = 12 + len(QUESTION) + 12
    row = b"\1a\0" + b"".join(
        (0xC000 | (start if number == 0 else start + 3 + 2 * (number - 1))).to_bytes(2, "big")
        for number in range(count - 1)
    )
    last = (0xC000 | (start + 3 + 2 * (count - 2))).to_bytes(2, "big")
    return response(record(b"\xc0\x0c", 16, row), record(last, 1, b"abcd"))


@pytest.mark.parametrize(
    ("fits", "exceeds"),
    [
        pytest.param(pointers(MAX_POINTERS), pointers(MAX_POINTERS + 1), id="pointers in a name"),
        pytest.param(
            response(*[record(b"\0", 16, b"")] * MAX_RECORDS),
            response(*[record(b"\0", 16, b"")] * (MAX_RECORDS + 1)),
            id="records",
        ),
        pytest.param(
            response(*[record(b"\1a" * 99 + b"\0", 16, b"")] * (MAX_STEPS // 100)),
            response(*[record(b"\1a" * 99 + b"\0", 16, b"")] * (MAX_STEPS // 100), record(b"\0", 16, b"")),
            id="labels",
        ),
        pytest.param(
            header(flags=0x8180, counts=(1, 0, 0, 60)) + QUESTION + record(b"\1a" * 99 + b"\0", 16, b"") * 60,
            header(flags=0x8180, counts=(1, 0, 0, 61)) + QUESTION + record(b"\1a" * 99 + b"\0", 16, b"") * 61,
            id="labels that are skipped",
        ),
    ],
)
def test_limits(fits: bytes, exceeds: bytes) -> None:
    """What is exactly at a limit is read, and one more of it is refused."""
    read_response(fits)
    with pytest.raises(WireError):
        read_response(exceeds)
