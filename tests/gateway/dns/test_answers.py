"""Tests for gateway.dns.answers."""

from ipaddress import ip_address

import pytest
from dnslib import QTYPE, RCODE
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Match, Reason, Verdict
from gateway.dns.answers import Block, BlockAnswer, flawed, over_limit, servfail, why
from gateway.dns.wire import Rcode, WireError, read_query
from tests.gateway.dns.support import addresses, ask, ede, parse

SINK: BlockAnswer = (ip_address("192.0.2.1"), ip_address("2001:db8::1"), ip_address("192.0.2.2"))


def block(
    packet: bytes, answer: BlockAnswer = "nxdomain", reason: Reason = Reason.RULE, record_id: str = "r1"
) -> bytes | None:
    """Return the answer to a denied query."""
    query = read_query(packet)
    decision = Decision(Verdict.DENY, reason, rule="some-rule")
    return Block(query, decision, answer, 60).render(packet[:2], query.question, record_id)


@pytest.mark.parametrize(
    ("answer", "qtype", "code", "expected", "soa"),
    [
        ("nxdomain", "A", RCODE.NXDOMAIN, [], 1),
        ("nxdomain", "TXT", RCODE.NXDOMAIN, [], 1),
        ("nodata", "A", RCODE.NOERROR, [], 1),
        ("zero-ip", "A", RCODE.NOERROR, ["0.0.0.0"], 0),
        ("zero-ip", "AAAA", RCODE.NOERROR, ["::"], 0),
        ("zero-ip", "HTTPS", RCODE.NOERROR, [], 1),
        ("refused", "A", RCODE.REFUSED, [], 0),
        (SINK, "A", RCODE.NOERROR, ["192.0.2.1", "192.0.2.2"], 0),
        (SINK, "AAAA", RCODE.NOERROR, ["2001:db8::1"], 0),
        (SINK, "MX", RCODE.NOERROR, [], 1),
        (SINK[:1], "AAAA", RCODE.NOERROR, [], 1),
    ],
)
def test_block_answers(answer: BlockAnswer, qtype: str, code: int, expected: list[str], soa: int) -> None:
    """Each kind of block answer is what its name says; absence comes with an SOA to remember it by."""
    reply = block(ask("www.Bad.example", qtype, ident=99), answer)
    message = parse(reply)
    assert (message.header.id, message.header.rcode, message.header.qr, message.header.ra) == (99, code, 1, 1)
    assert (addresses(reply), len(message.auth)) == (expected, soa)
    assert str(message.q.qname) == "www.Bad.example."
    assert {record.ttl for record in (*message.rr, *message.auth)} <= {60}
    if soa:
        assert QTYPE[message.auth[0].rtype] == "SOA"
        assert message.auth[0].rdata.times[-1] == 60


def test_drop_is_silence() -> None:
    """`drop` answers nothing at all."""
    assert block(ask("bad.example"), "drop") is None


def test_a_denied_type_does_not_deny_the_name() -> None:
    """A denial for the query type is NODATA: NXDOMAIN would take all other types with it."""
    assert parse(block(ask("a.example", "TXT"), reason=Reason.QTYPE)).header.rcode == RCODE.NOERROR


@pytest.mark.parametrize("reason", [Reason.INTERNAL_ERROR, Reason.UPSTREAM_FAILURE, Reason.RATE_LIMIT])
@pytest.mark.parametrize("answer", ["nxdomain", "drop", "zero-ip"])
def test_our_own_failures_are_servfail(reason: Reason, answer: BlockAnswer) -> None:
    """What is no verdict on the name is SERVFAIL, however blocks are answered."""
    message = parse(block(ask("a.example"), answer, reason))
    assert (message.header.rcode, message.auth) == (RCODE.SERVFAIL, [])


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_an_extended_error(reason: Reason) -> None:
    """The text begins with the public reason and ends with the id of the record."""
    found = ede(block(ask("bad.example"), reason=reason))
    assert found is not None
    assert found[0] in (0, 15, 18, 22)
    assert found[1].split() == [reason.value, "some-rule", "id=r1"]


def test_the_text_is_bounded_and_keeps_the_id() -> None:
    """However long names are, the answer fits into 512 octets and the id is whole."""
    name = ".".join(["x" * 60] * 4 + ["y" * 8])
    query = read_query(ask(name))
    matched = Match("l" * 64, "v", 1, "entry")
    decision = Decision(Verdict.DENY, Reason.METADATA_ADDRESS, rule="r" * 64, matched=matched)
    for answer in ("nxdomain", "refused", "zero-ip", SINK * 3):
        reply = Block(query, decision, answer, 60).render(b"\0\1", query.question, "abc" * 8)
        assert reply is not None
        found = ede(reply)
        assert found is not None
        assert len(reply) <= 512
        assert found[1].endswith(" id=" + "abc" * 8)


@given(st.integers(1, 255), st.sampled_from(["a", "abcdefgh00001", "x" * 40]), st.integers(0, 300))
def test_an_answer_from_prepared_parts_is_the_whole_answer(length: int, record_id: str, detail: int) -> None:
    """However long question, text and id are, an answer is put together as the one that is made in full."""
    query = read_query(ask("a.example"))
    matched = Match("l" * detail, "v1", 1, "a.example")
    made = Block(query, Decision(Verdict.DENY, Reason.LISTED, rule="r", matched=matched), "nxdomain", 60)
    question = bytes(length) + query.question[-4:]
    for _ in range(2):
        assert made.render(b"id", question, record_id) == made._in_full(b"id", question, record_id, b"")


def test_without_edns_there_is_no_opt() -> None:
    """A client that knows no EDNS is sent none."""
    assert parse(block(ask("bad.example", edns=False))).ar == []


def test_flawed_messages_get_the_code_that_says_so() -> None:
    """FORMERR and NOTIMP repeat id, opcode and RD; silence stays silence."""
    assert flawed(b"\x12\x34\x29\0" + b"\0" * 8, WireError("x")) == b"\x12\x34\xa9\x81" + b"\0" * 8
    assert flawed(b"\0" * 12, WireError("x", None)) is None


def test_badvers_comes_with_opt() -> None:
    """BADVERS needs the upper bits of the code, which are in OPT (RFC 6891 section 6.1.3)."""
    packet = bytearray(ask("a.example"))
    packet[-5] = 1
    with pytest.raises(WireError) as caught:
        read_query(bytes(packet))
    message = parse(flawed(bytes(packet), caught.value))
    assert (message.header.rcode, message.ar[0].edns_rcode, message.ar[0].edns_ver) == (0, 1, 0)


def test_servfail_is_always_possible() -> None:
    """The barest answer repeats the question, with or without EDNS."""
    for edns in (True, False):
        message = parse(servfail(read_query(ask("a.example", edns=edns))))
        assert (message.header.rcode, len(message.ar)) == (RCODE.SERVFAIL, int(edns))


@pytest.mark.parametrize("edns", [True, False])
@pytest.mark.parametrize("patch", ["opcode", "trailing octet"])
def test_refusals_repeat_edns(edns: bool, patch: str) -> None:
    """FORMERR and NOTIMP carry OPT exactly when the query did (RFC 6891 section 7)."""
    packet = bytearray(ask("a.example", edns=edns, do=True))
    if patch == "opcode":
        packet[2] |= 0x28
    else:
        packet += b"x"
    with pytest.raises(WireError) as caught:
        read_query(bytes(packet))
    message = parse(flawed(bytes(packet), caught.value))
    assert (message.header.rcode, len(message.ar)) == (4 if patch == "opcode" else 1, int(edns))
    assert not edns or message.ar[0].edns_do


@given(st.binary(max_size=80))
def test_any_flaw_can_be_answered(data: bytes) -> None:
    """Whatever octets come, the reply to their flaw, or to their number, is written without an error."""
    try:
        read_query(data)
    except WireError as error:
        flawed(data, error)
    over_limit(data)


def test_over_the_limit() -> None:
    """A client over its limit is sent to TCP; a response is not answered at all."""
    packet = ask("a.example", ident=99)
    message = parse(over_limit(packet))
    assert (message.header.id, message.header.tc, str(message.q.qname), len(message.ar)) == (99, 1, "a.example.", 1)
    assert over_limit(packet[:2] + b"\x81" + packet[3:]) is None
    assert over_limit(packet[:20]) is None


def test_replies_that_are_no_block_answers_say_why() -> None:
    """Options go into the reply of a client that sent EDNS, whatever was readable of its query, and nowhere else."""
    decision = Decision(verdict=Verdict.DENY, reason=Reason.MALFORMED)
    options = why(decision, "r7")
    assert options[4:] == b"\0\0" + b"malformed id=r7"
    good, plain = ask("a.example"), ask("a.example", edns=False)
    error = WireError("unfit", Rcode.REFUSED, read_query(good))
    for reply in (flawed(good, error, options), flawed(good, WireError("cut"), options), over_limit(good, options)):
        assert ede(reply) == (0, "malformed id=r7")
    error = WireError("unfit", Rcode.REFUSED, read_query(plain))
    for reply in (
        flawed(plain, error, options),
        flawed(plain, WireError("cut"), options),
        over_limit(plain, options),
    ):
        assert parse(reply).ar == []
