"""Tests for gateway.dns.outbound."""

import pytest
from dnslib import EDNS0, RR, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.message import STREAM_SIZE
from gateway.dns.outbound import BLOCK, freshness, padded
from tests.gateway.dns.support import ask, parse


def reply(*records: str, authority: str = "", edns: bool = True, rcode: int = 0) -> bytes:
    """Return an encoded answer with some records in zone file form."""
    message = DNSRecord.parse(ask("www.example.com", edns=False)).reply()
    message.header.rcode = rcode
    for text in records:
        message.add_answer(*RR.fromZone(text))
    if authority:
        message.add_auth(*RR.fromZone(authority))
    if edns:
        message.add_ar(EDNS0())
    return bytes(message.pack())


@given(count=st.integers(0, 200), edns=st.booleans())
def test_padding_fills_whole_blocks(count: int, edns: bool) -> None:
    """An answer with OPT becomes a multiple of the block, one without stays as it is; nothing else changes."""
    plain = reply(*(f"n{number}.example.com 60 A 192.0.2.1" for number in range(count)), edns=edns)
    out = padded(plain)
    if not edns:
        assert out == plain
        return
    assert len(out) % BLOCK == 0
    assert len(plain) < len(out) <= len(plain) + 4 + BLOCK
    before, after = parse(plain), parse(out)
    assert [str(record) for record in after.rr] == [str(record) for record in before.rr]
    (option,) = after.ar[0].rdata
    assert (option.code, set(option.data) <= {0}) == (12, True)


def test_padding_keeps_other_options() -> None:
    """Options that are there stay in front of the padding."""
    message = parse(ask("www.example.com", options=[]))
    message.header.qr = 1
    plain = bytes(message.pack())
    (length,) = (len(plain) - 2,)
    cookie = b"\0\x0a\0\x08abcdefgh"
    with_cookie = plain[:length] + len(cookie).to_bytes(2, "big") + cookie
    assert [option.code for option in parse(padded(with_cookie)).ar[0].rdata] == [10, 12]


def test_padding_never_makes_a_message_too_long() -> None:
    """An answer near the limit of a message is sent as it is."""
    sizes = [[250] * 32] * 8 + [[250] * 4 + [117]]
    plain = reply(*("www.example.com 60 TXT " + " ".join(f'"{"x" * size}"' for size in row) for row in sizes))
    assert STREAM_SIZE - 10 < len(plain) <= STREAM_SIZE
    assert padded(plain) == plain


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply("www.example.com 300 CNAME a.example.com", "a.example.com 20 A 192.0.2.1"), 20),
        (reply("www.example.com 300 A 192.0.2.1", authority="example.com 5 NS ns.example.com"), 300),
        (reply(authority="example.com 60 SOA a b 1 2 3 4 60", rcode=3), 60),
        (reply(), 0),
        (reply("www.example.com 300 A 192.0.2.1", rcode=2), 0),
        (reply(rcode=5), 0),
        (b"", 0),
    ],
)
def test_freshness_is_the_smallest_ttl(answer: bytes, expected: int) -> None:
    """The smallest TTL of the answer counts, of the authority where there is no answer, and none of failures."""
    assert freshness(answer) == expected


def test_what_has_no_question_is_left_alone() -> None:
    """An error without question section passes unchanged."""
    bare = b"\0\x07\x80\x81" + bytes(8)
    assert padded(bare) == bare
    assert freshness(bare) == 0
