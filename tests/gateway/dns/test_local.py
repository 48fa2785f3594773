"""Tests for gateway.dns.local."""

from ipaddress import ip_address

import pytest

from gateway.dns.local import is_meta, local_answer, special_answer, zone_of
from gateway.dns.records import LocalRecords, parse_data
from gateway.dns.wire import Rcode, Type

RECORDS = {"gw.example": (ip_address("10.0.0.1"), ip_address("fd00::1"), ip_address("10.0.0.2"))}


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("gw.example", 1, ["10.0.0.1", "10.0.0.2"]),
        ("gw.example", 28, ["fd00::1"]),
        ("gw.example", 16, []),
        ("localhost", 1, ["127.0.0.1"]),
        ("a.b.localhost", 28, ["::1"]),
        ("localhost", 15, []),
    ],
)
def test_local_answers(name: str, qtype: int, expected: list[str]) -> None:
    """Local names have the addresses of the type asked for, are trusted, and say so when they have none."""
    found = local_answer(name, qtype, RECORDS)
    assert found is not None
    assert [str(address) for address in found.addresses] == expected
    assert (found.rcode, found.trusted, found.counts) == (0, True, (len(expected), int(not expected)))


@pytest.mark.parametrize("name", ["example", "x.gw.example", "notlocalhost", "localhost.example", ""])
def test_other_names_are_not_local(name: str) -> None:
    """A name beside or below a local one is not local."""
    assert local_answer(name, 1, RECORDS) is None


@pytest.mark.parametrize("name", ["local", "a.local", "x.onion", "invalid", "a.b.invalid"])
def test_special_names_do_not_exist(name: str) -> None:
    """Names without a place in the DNS do not exist."""
    found = special_answer(name)
    assert found is not None
    assert (found.rcode, found.counts) == (Rcode.NXDOMAIN, (0, 1))


@pytest.mark.parametrize("name", ["", "a.localx", "onion.example", "example"])
def test_ordinary_names_are_not_special(name: str) -> None:
    """Only the last label counts, and only as a whole."""
    assert special_answer(name) is None


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("a.corp.example", 2),
        ("corp.example", 2),
        ("xcorp.example", 1),
        ("example", 1),
        ("com", None),
        ("a\\046corp.com", None),
    ],
)
def test_the_longest_zone_wins(name: str, zone: int | None) -> None:
    """Zones end at label boundaries, and the most specific one is meant."""
    assert zone_of(name, {"example": 1, "corp.example": 2}) == zone
    assert zone_of(name, {}) is None


@pytest.mark.parametrize(
    ("qtype", "meta"),
    [(0, True), (1, False), (41, True), (65, False), (250, True), (252, True), (255, False), (257, False)],
)
def test_types_that_ask_for_no_records(qtype: int, meta: bool) -> None:
    """Transfers and the like are not for resolvers; ANY and CAA are types like others here."""
    assert is_meta(qtype) is meta


@pytest.mark.parametrize(
    "name",
    [
        "nas.home.arpa",
        "_dns.resolver.arpa",
        "1.2.3.10.in-addr.arpa",
        "1.1.31.172.in-addr.arpa",
        "1.1.127.100.in-addr.arpa",
        "1.1.254.169.in-addr.arpa",
        "1.0.d.f.ip6.arpa",
        "x.alt",
    ],
)
def test_empty_zones_are_served_here(name: str) -> None:
    """What lies in a zone that the Internet does not have is absent, with the SOA of that zone."""
    found = special_answer(name)
    assert found is not None
    assert (found.rcode, found.counts, found.authoritative) == (Rcode.NXDOMAIN, (0, 1), True)


@pytest.mark.parametrize(
    "name", ["1.1.32.172.in-addr.arpa", "8.8.8.8.in-addr.arpa", "1.1.63.100.in-addr.arpa", "arpa"]
)
def test_other_reverse_zones_are_asked_for(name: str) -> None:
    """Reverse names of public addresses go upstream."""
    assert special_answer(name) is None


@pytest.mark.parametrize(
    ("qtype", "counts"), [(Type.SOA, (1, 0)), (Type.A, (0, 1)), (43, None)], ids=["SOA", "A", "DS"]
)
def test_the_top_of_an_empty_zone(qtype: int, counts: tuple[int, int] | None) -> None:
    """The top of an empty zone exists; whether it is signed is asked above it."""
    found = special_answer("10.in-addr.arpa", qtype)
    assert (found and (found.rcode, found.counts)) == (counts and (0, counts))


def test_loopback_has_a_name() -> None:
    """The reverse names of loopback point to localhost (RFC 6303)."""
    for name in ("1.0.0.127.in-addr.arpa", "1." + "0." * 31 + "ip6.arpa"):
        found = local_answer(name, Type.PTR, {})
        assert found is not None
        assert found.counts == (1, 0)


def test_local_aliases_are_chased_here() -> None:
    """A local CNAME comes with what it leads to; one that leads out of here is not answered here."""
    records: LocalRecords = {
        "www.example": (parse_data("cname", "gw.example"),),
        "out.example": (parse_data("cname", "cdn.test"),),
        **RECORDS,
    }
    found = local_answer("www.example", Type.A, records)
    assert found is not None
    assert (found.counts, found.chain, len(found.addresses)) == ((3, 0), ("gw.example",), 2)
    empty = local_answer("www.example", Type.MX, records)
    assert empty is not None
    assert empty.counts == (1, 1)
    assert local_answer("out.example", Type.A, records) is None
    assert local_answer("out.example", Type.CNAME, records) is not None
