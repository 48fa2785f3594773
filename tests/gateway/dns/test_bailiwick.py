"""Tests for gateway.dns.bailiwick."""

import itertools
import struct
from ipaddress import ip_address
from typing import Any

import pytest
from dnslib import QTYPE, RR, DNSRecord

from gateway.dns.bailiwick import MAX_ADDRESSES, MAX_LABELS, MAX_SERVICE, Limits, select
from gateway.dns.message import Answer, encode_name, render
from gateway.dns.wire import WireError, read_query, read_response
from tests.gateway.dns.bombs import AAAA, Bomb, addresses, bomb, chain, equal_hashes, record
from tests.gateway.dns.support import ask

DEFAULT = Limits()
SOA = "example.com 300 IN SOA ns.example.com admin.example.com 1 2 3 4 120"


def answer_to(
    name: str, qtype: str, *zone: str, authority: tuple[str, ...] = (), rcode: int = 0, limits: Limits = DEFAULT
) -> Answer:
    """Return what is made of a response with these records, in zone file syntax."""
    message = DNSRecord.question(name, qtype).reply()
    message.header.rcode = rcode
    for line in zone:
        message.add_answer(*RR.fromZone(line))
    for line in authority:
        message.add_auth(*RR.fromZone(line))
    return select(read_response(bytes(message.pack())), encode_name(name), getattr(QTYPE, qtype), limits)


def shown(name: str, qtype: str, answer: Answer) -> Any:
    """Return the answer as a client reads it."""
    return DNSRecord.parse(render(read_query(ask(name, qtype)), answer))


def test_what_was_asked_for_is_kept() -> None:
    """Every record of the question's name and type is kept, in order, and judged."""
    answer = answer_to("a.example", "A", "a.example 60 A 192.0.2.1", "A.EXAMPLE 30 A 192.0.2.2")
    assert [str(address) for address in answer.addresses] == ["192.0.2.1", "192.0.2.2"]
    assert (answer.ttl, answer.counts, answer.chain) == (30, (2, 0), ())


@pytest.mark.parametrize(
    "extra",
    [
        "www.bank.example 60 A 192.0.2.9",
        "a.example 60 AAAA 2001:db8::9",
        "b.a.example 60 A 192.0.2.9",
        "example 60 A 192.0.2.9",
        "x.example 60 CNAME a.example",
        "a.example 60 TXT hello",
        "a.example 60 NS ns.evil.example",
    ],
)
def test_what_nobody_asked_for_is_left_out(extra: str) -> None:
    """A record of another name or type is neither kept nor passed on."""
    for zone in (("a.example 60 A 192.0.2.1", extra), (extra, "a.example 60 A 192.0.2.1")):
        answer = answer_to("a.example", "A", *zone)
        message = shown("a.example", "A", answer)
        assert [str(record.rdata) for record in message.rr] == ["192.0.2.1"]


def test_the_cname_chain_is_followed_whatever_the_order() -> None:
    """Names on the way are reported, and the addresses at the end belong to the answer."""
    zone = ["a.example 60 CNAME b.example", "b.example 20 CNAME C.example", "c.example 40 A 192.0.2.1"]
    for order in (zone, zone[::-1]):
        answer = answer_to("a.example", "A", *order)
        assert answer.chain == ("b.example", "c.example")
        assert [str(address) for address in answer.addresses] == ["192.0.2.1"]
        assert answer.ttl == 20


def test_records_beside_a_chain_are_left_out() -> None:
    """Addresses at a name that is only an alias do not count, nor does a second alias."""
    zone = ("a.example 60 CNAME b.example", "a.example 60 A 192.0.2.6", "a.example 60 CNAME evil.example")
    answer = answer_to("a.example", "A", *zone, "b.example 60 A 192.0.2.1", "evil.example 60 A 192.0.2.7")
    assert [str(address) for address in answer.addresses] == ["192.0.2.1"]
    assert answer.chain == ("b.example",)
    assert answer.counts == (2, 0)


@pytest.mark.parametrize("length", [1, 2, 17, 40])
def test_chains_without_an_end_are_malformed(length: int) -> None:
    """A loop, or a chain longer than any honest one, is an error."""
    zone = [f"n{number}.example 60 CNAME n{(number + 1) % length}.example" for number in range(length)]
    with pytest.raises(WireError):
        answer_to("n0.example", "A", *zone)


def test_a_dname_above_the_name_is_kept() -> None:
    """A DNAME and the CNAME made from it are passed on."""
    zone = (
        "old.example 60 DNAME new.example",
        "a.old.example 60 CNAME a.new.example",
        "a.new.example 60 A 192.0.2.1",
    )
    message = DNSRecord.question("a.old.example").reply()
    message.add_answer(*[record for line in zone[1:] for record in RR.fromZone(line)])
    data = bytearray(message.pack())
    data[6:8] = (3).to_bytes(2, "big")
    owner, target = encode_name("old.example"), encode_name("new.example")
    data += owner + struct.pack("!HHIH", 39, 1, 60, len(target)) + target
    answer = select(read_response(bytes(data)), encode_name("a.old.example"), 1, DEFAULT)
    assert (answer.counts, answer.chain) == ((3, 0), ("a.new.example",))


def test_a_dname_above_the_name_is_kept_when_dname_is_asked_for() -> None:
    """It is what made the alias, and what a validating client needs to believe it (RFC 6672 section 5.3.2)."""
    message = DNSRecord.question("a.old.example", "DNAME").reply()
    message.add_answer(*RR.fromZone("a.old.example 60 CNAME a.new.example"))
    data = bytearray(message.pack())
    data[6:8] = (2).to_bytes(2, "big")
    owner, target = encode_name("old.example"), encode_name("new.example")
    data += owner + struct.pack("!HHIH", 39, 1, 60, len(target)) + target
    answer = select(read_response(bytes(data)), encode_name("a.old.example"), 39, DEFAULT)
    assert (answer.counts, answer.chain) == ((2, 0), ("a.new.example",))


def test_asking_for_the_cname_itself() -> None:
    """The target of a CNAME that was asked for is judged as well."""
    answer = answer_to("a.example", "CNAME", "a.example 60 CNAME b.example")
    assert (answer.chain, answer.counts, answer.ttl) == (("b.example",), (1, 0), 60)


def test_service_records_show_target_and_hints() -> None:
    """Targets and address hints of HTTPS records are facts for the decision."""
    hints = b"\0\4\0\x08\xc0\0\2\1\xc0\0\2\2" + b"\0\6\0\x10" + ip_address("2001:db8::1").packed
    rdata = b"\0\1\3cdn\7example\0" + b"\0\1\0\3\2h2" + hints
    answer = select(read_response(service(rdata)), encode_name("a.example"), 65, DEFAULT)
    assert answer.chain == ("cdn.example",)
    assert [str(address) for address in answer.addresses] == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]


def service(rdata: bytes) -> bytes:
    """Return a response with an HTTPS record."""
    message = DNSRecord.question("a.example", "HTTPS").reply()
    data = bytearray(message.pack())
    data[6:8] = b"\0\1"
    return bytes(data) + b"\xc0\x0c" + struct.pack("!HHIH", 65, 1, 60, len(rdata)) + rdata


@pytest.mark.parametrize(
    "rdata",
    [
        pytest.param(b"\0", id="no priority"),
        pytest.param(b"\0\1", id="no target"),
        pytest.param(b"\0\1\3ab", id="target cut short"),
        pytest.param(b"\0\1\xc0\x0c", id="compressed target"),
        pytest.param(b"\0\1\0\0\4\0\5abcde", id="hint of five octets"),
        pytest.param(b"\0\1\0\0\4\0\0", id="empty hint"),
        pytest.param(b"\0\1\0\0\4\0\x08abcd", id="hint cut short"),
        pytest.param(b"\0\1\0\0", id="key cut short"),
        pytest.param(b"\0\1\0" + b"\0\4" + (4 * 600).to_bytes(2, "big") + bytes(range(240)) * 10, id="600 addresses"),
    ],
)
def test_malformed_service_records(rdata: bytes) -> None:
    """An HTTPS record that cannot be read cannot be judged, and is an error."""
    if len(rdata) > 1000:
        addresses = b"".join(number.to_bytes(4, "big") for number in range(MAX_ADDRESSES + 1))
        rdata = b"\0\1\0" + b"\0\4" + len(addresses).to_bytes(2, "big") + addresses
    with pytest.raises(WireError):
        select(read_response(service(rdata)), encode_name("a.example"), 65, DEFAULT)


# -- how long ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "ttl"),
    [(Limits(), 60), (Limits(min_ttl=100), 100), (Limits(max_ttl=10), 10), (Limits(min_ttl=5, max_ttl=3600), 60)],
)
def test_ttls_are_clamped_and_the_client_sees_it(limits: Limits, ttl: int) -> None:
    """TTLs are raised and cut as configured, in the cache and in the records."""
    answer = answer_to("a.example", "A", "a.example 60 A 192.0.2.1", limits=limits)
    assert (answer.ttl, shown("a.example", "A", answer).rr[0].ttl) == (ttl, ttl)


@pytest.mark.parametrize("rcode", [0, 3])
@pytest.mark.parametrize(
    ("soa", "limits", "ttl"),
    [
        pytest.param(SOA, Limits(), 120, id="the SOA's minimum"),
        pytest.param(SOA.replace(" 300 ", " 50 "), Limits(), 50, id="the SOA's own TTL"),
        pytest.param(SOA, Limits(negative_ttl=30), 30, id="the configured limit"),
    ],
)
def test_absence_is_kept_as_the_soa_says(rcode: int, soa: str, limits: Limits, ttl: int) -> None:
    """NXDOMAIN and NODATA are kept for the smallest of the three (RFC 2308 section 5), and the SOA is passed on."""
    answer = answer_to("a.example.com", "A", authority=(soa,), rcode=rcode, limits=limits)
    message = shown("a.example.com", "A", answer)
    assert (answer.ttl, answer.rcode, message.header.rcode, message.auth[0].ttl) == (ttl, rcode, rcode, ttl)


@pytest.mark.parametrize("authority", [(), (SOA.replace("example.com 300", "other.example 300"),)])
def test_absence_without_an_soa_is_not_kept(authority: tuple[str, ...]) -> None:
    """Without an SOA of a zone above the name, absence is not remembered, and a foreign SOA is not passed on."""
    answer = answer_to("a.example.com", "A", authority=authority, rcode=3)
    assert (answer.ttl, answer.counts) == (0, (0, 0))


def test_absence_at_the_end_of_a_chain() -> None:
    """A chain to a name that does not exist keeps chain and SOA, for the shorter of both."""
    answer = answer_to("a.example", "A", "a.example 60 CNAME b.example.com", authority=(SOA,), rcode=3)
    assert (answer.counts, answer.ttl, answer.rcode, answer.chain) == ((1, 1), 60, 3, ("b.example.com",))


def test_referrals_are_not_passed_on() -> None:
    """NS records that come with an answer stay out of it."""
    answer = answer_to(
        "a.example.com", "A", "a.example.com 60 A 192.0.2.1", authority=("example.com 60 NS ns.example.com",)
    )
    assert answer.counts == (1, 0)


# -- how much ------------------------------------------------------------------------------------------------------


def long_alias(labels: int) -> Bomb:
    """Return a chain of ten steps, and all its targets together have so many labels."""
    names = [bytes((1, number)) * (labels // 10) + b"\0" for number in range(1, 11)]
    names[-1] = b"\1x" * (labels % 10) + names[-1]
    names = [encode_name("www.example.com"), *names]
    return bomb([record(name, 5, target) for name, target in itertools.pairwise(names)])


def services(octets: int) -> Bomb:
    """Return two service records of so many octets together."""
    sizes = octets // 2, octets - octets // 2
    return bomb(
        [
            record(b"\xc0\x0c", 65, b"\0\1\0\xff\0" + (size - 7).to_bytes(2, "big") + bytes(size - 7))
            for size in sizes
        ],
        qtype=65,
    )


@pytest.mark.parametrize(
    ("fits", "exceeds"),
    [
        pytest.param(addresses(MAX_ADDRESSES), None, id="addresses"),
        pytest.param(long_alias(MAX_LABELS), long_alias(MAX_LABELS + 1), id="labels of a chain"),
        pytest.param(services(MAX_SERVICE), services(MAX_SERVICE + 1), id="octets of service records"),
        pytest.param(chain(16, 10), chain(17, 10), id="aliases"),
    ],
)
def test_limits(fits: Bomb, exceeds: Bomb | None) -> None:
    """What is exactly at a limit is kept, and one more of it makes the whole answer malformed."""
    assert select(read_response(fits.packet), fits.name, fits.qtype, DEFAULT).counts[0]
    if exceeds is not None:
        with pytest.raises(WireError):
            select(read_response(exceeds.packet), exceeds.name, exceeds.qtype, DEFAULT)


def test_addresses_of_one_hash_are_all_judged() -> None:
    """Addresses that Python's dictionaries confuse are told apart, each once, in order."""
    packed = equal_hashes(50)
    found = bomb([record(b"\xc0\x0c", AAAA, each) for each in packed * 2], qtype=AAAA)
    answer = select(read_response(found.packet), found.name, AAAA, DEFAULT)
    assert len({hash(address) for address in answer.addresses}) == 1
    assert [address.packed for address in answer.addresses] == packed


def test_one_soa_is_kept() -> None:
    """Of several SOA records the first that fits counts: a zone has one."""
    lines = ("other.example 9 IN SOA . . 1 2 3 4 9", SOA, SOA.replace(" 120", " 7"))
    answer = answer_to("a.example.com", "A", authority=lines, rcode=3)
    assert (answer.counts, answer.ttl) == ((0, 1), 120)
