"""Tests for gateway.dns.plain."""

from typing import Any

import pytest
from dnslib import AAAA, CNAME, EDNS0, QTYPE, RCODE, RR, SOA, TXT, A, DNSRecord, EDNSOption
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.bailiwick import Limits, Trust, select
from gateway.dns.message import Answer, encode_name
from gateway.dns.plain import MOST, plain_answer
from gateway.dns.wire import Rcode, WireError, read_response

NAME = encode_name("www.example.com")
FOUR, SIX = ("93.184.215.14", "10.0.0.1", "93.184.215.14", "127.0.0.1"), ("2606:4700::1", "::1")


def reply(*records: RR, qtype: str = "A", opt: Any = EDNS0(), authority: tuple[RR, ...] = (), **header: int) -> bytes:  # noqa: B008 -- constant
    """Return a reply to a question for www.example.com, in the letters that it was asked in."""
    query = DNSRecord.question("wWw.eXample.com", qtype)
    message = query.reply(ra=1, aa=0)
    for name, value in header.items():
        setattr(message.header, name, value)
    message.add_answer(*records)
    if opt is not None:
        message.add_ar(opt)
    for record in authority:
        message.add_auth(record)
    return bytes(message.pack())


def a(address: str, ttl: int = 60, owner: str = "wWw.eXample.com") -> RR:
    """Return an address record."""
    return RR(
        owner, QTYPE.AAAA if ":" in address else QTYPE.A, rdata=(AAAA if ":" in address else A)(address), ttl=ttl
    )


def plainly(data: bytes, qtype: int = 1, limits: Limits = Limits(), trust: Trust = Trust()) -> Answer | None:  # noqa: B008
    """Return what is read in one pass."""
    return plain_answer(data, NAME, qtype, limits, ad=trust.authentic, trusted=trust.zone)


def at_length(data: bytes, qtype: int = 1, limits: Limits = Limits(), trust: Trust = Trust()) -> Answer:  # noqa: B008
    """Return what the long way makes of it."""
    response = read_response(data)
    assert response.rcode == Rcode.NOERROR
    return select(response, NAME, qtype, limits, trust)


@pytest.mark.parametrize("trust", [Trust(), Trust(zone=True), Trust(authentic=True)])
@pytest.mark.parametrize("ad", [0, 1])
@pytest.mark.parametrize("opt", [None, EDNS0(), EDNS0(flags="do")])
@pytest.mark.parametrize("texts", [FOUR[:1], FOUR, SIX[:1], SIX])
def test_it_is_the_same_answer(texts: tuple[str, ...], opt: Any, ad: int, trust: Trust) -> None:
    """Addresses of the name that was asked for are read as the long way reads them, to the last octet."""
    qtype = "AAAA" if ":" in texts[0] else "A"
    records = [a(text, ttl) for ttl, text in enumerate(texts, 7)]
    data = reply(*records, qtype=qtype, opt=opt, ad=ad)
    found = plainly(data, getattr(QTYPE, qtype), trust=trust)
    assert found is not None
    assert found == at_length(data, getattr(QTYPE, qtype), trust=trust)
    assert found.authentic is (trust.authentic and bool(ad))


@pytest.mark.parametrize(
    "message",
    [
        reply(),
        reply(rcode=RCODE.NXDOMAIN),
        reply(a(FOUR[0]), rcode=RCODE.SERVFAIL),
        reply(a(FOUR[0]), tc=1),
        reply(a(FOUR[0], owner="other.example.com")),
        reply(RR("www.example.com", QTYPE.CNAME, rdata=CNAME("example.net"), ttl=9)),
        reply(RR("www.example.com", QTYPE.TXT, rdata=TXT("x"), ttl=9)),
        reply(a(SIX[0])),
        reply(a(FOUR[0], ttl=0x80000000)),
        reply(a(FOUR[0], ttl=4)),
        reply(a(FOUR[0], ttl=86401)),
        reply(*[a(FOUR[0])] * (MOST + 1)),
        reply(a(FOUR[0]), opt=EDNS0(opts=[EDNSOption(10, b"12345678")])),
        reply(a(FOUR[0]), opt=EDNS0(ext_rcode=1)),
        reply(a(FOUR[0]), opt=a(FOUR[0])),
    ],
    ids=[
        "nothing",
        "NXDOMAIN",
        "a failure",
        "cut short",
        "somebody else's address",
        "an alias",
        "another type",
        "another family",
        "a TTL that is none",
        "a TTL below the least",
        "a TTL above the most",
        "very many records",
        "EDNS options",
        "an extended rcode",
        "other additional records",
    ],
)
def test_whatever_else_there_is_goes_the_long_way(message: bytes) -> None:
    """What is not of the plain kind is not read here."""
    assert plainly(message, limits=Limits(min_ttl=5)) is None


def test_authority_goes_the_long_way() -> None:
    """A reply with an authority section may be a proof of something."""
    soa = RR("example.com", QTYPE.SOA, rdata=SOA("ns.example", "nobody.example"), ttl=9)
    assert plainly(reply(a(FOUR[0]), authority=(soa,))) is None


def test_the_root_goes_the_long_way() -> None:
    """Nobody writes the root as a pointer."""
    data = b"\0\7\x81\x80\0\1\0\1\0\0\0\0" + b"\0\0\1\0\1" + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
    assert plain_answer(data, b"\0", 1, Limits(), ad=False, trusted=False) is None


@given(
    texts=st.sampled_from([FOUR[:1], FOUR, SIX[:1], SIX]),
    changes=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 3),
    more=st.binary(max_size=12),
)
def test_nothing_is_believed_that_the_long_way_would_not(
    texts: tuple[str, ...], changes: list[tuple[int, int]], cut: int, more: bytes
) -> None:
    """Whatever is changed in a reply around its question: read in one pass, it is what the long way makes of it."""
    qtype = QTYPE.AAAA if ":" in texts[0] else QTYPE.A
    data = bytearray(reply(*[a(text) for text in texts], qtype=QTYPE[qtype]))
    question = range(12, 12 + len(NAME) + 4)
    for at, value in changes:
        if at < len(data) and at not in question and at not in (4, 5):
            data[at] = value
    packet = bytes(data[: len(data) - cut]) + more
    found = plainly(packet, qtype)
    if found is not None:
        try:
            assert found == at_length(packet, qtype)
        except WireError as error:
            raise AssertionError(f"the long way turns it away: {error}") from error
