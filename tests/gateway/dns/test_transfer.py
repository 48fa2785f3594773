"""Zones on the wire, message by message; BIND and Unbound as secondaries are in tests/integration."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from dnslib import QTYPE, DNSRecord

from gateway.decision import Reason
from gateway.dns.message import encode_name
from gateway.dns.transfer import AXFR, IXFR, RpzZone, Transfers, batches
from gateway.feeds.export import Exported
from gateway.feeds.zones import write_zone, zone_folder
from tests.gateway.dns.test_tsig import KEY, NOW, signed

SOA, A = 6, 1


def query(qtype: int, name: str = "RPZ.example", serial: int | None = None) -> bytes:
    """Return a query; an IXFR says which serial there is."""
    count = 0 if serial is None else 1
    made = struct.pack("!6H", 7, 0, 1, 0, count, 0) + encode_name(name) + struct.pack("!2H", qtype, 1)
    if serial is not None:
        names = encode_name("ns.example") + encode_name("who.example")
        data = names + struct.pack("!5I", serial, 1, 1, 1, 1)
        made += b"\xc0\x0c" + struct.pack("!HHIH", SOA, 1, 60, len(data)) + data
    return made


@pytest.fixture
def zone(tmp_path: Path) -> RpzZone:
    """A zone with two serials, 1 and 2."""
    found = Exported(names={"a.example": 3, "b.example": 1})
    write_zone(zone_folder(tmp_path, "rpz.example"), found, made_of="1", now=1, longest=200)
    found = Exported(names={"a.example": 1, "c.example": 1}, holes={"x.a.example": 1},
                     networks=(ip_network("192.0.2.0/24"),))  # fmt: skip
    write_zone(zone_folder(tmp_path, "rpz.example"), found, made_of="2", now=2, longest=200)
    return RpzZone.of(tmp_path, "rpz.example", (ip_network("10.0.0.0/8"),), {})


def ask(zone: RpzZone, data: bytes, peer: str = "10.1.2.3", *, whole: bool = True) -> list[DNSRecord]:
    """Return the messages of an answer over TCP, or over UDP."""
    given = transfers(zone).answer(ip_address(peer), data, whole=whole)
    return [DNSRecord.parse(message) for message in given.messages]


def refused(zone: RpzZone, data: bytes, peer: str = "10.1.2.3") -> tuple[int, Reason | None]:
    """Return the rcode of an answer, and why it is a refusal."""
    given = transfers(zone).answer(ip_address(peer), data, whole=True)
    assert (given.zone, given.qtype) == (zone.name, AXFR)
    return DNSRecord.parse(next(given.messages)).header.rcode, given.flaw.reason if given.flaw else None


def transfers(zone: RpzZone, now: float = NOW) -> Transfers:
    """Serve one zone."""
    return Transfers(lambda: {zone.name: zone}, lambda: now)


def records(messages: list[DNSRecord]) -> Iterator[str]:
    """Yield the records: the serials of SOAs, owners without the zone, and targets."""
    for message in messages:
        for record in message.rr:
            if record.rtype == SOA:
                yield f"SOA {record.rdata.times[0]}"
            else:
                owner = str(record.rname).lower().removesuffix("rpz.example.").removesuffix(".") or "@"
                yield f"{owner} {QTYPE[record.rtype]} {record.rdata}"


def test_the_whole_zone(zone: RpzZone) -> None:
    """AXFR begins and ends with the SOA, and has everything between."""
    messages = ask(zone, query(AXFR))
    assert list(records(messages)) == [
        "SOA 2",
        "@ NS localhost.",
        "24.0.2.0.192.rpz-ip CNAME .",
        "a.example CNAME .",
        "c.example CNAME .",
        "x.a.example CNAME rpz-passthru.",
        "SOA 2",
    ]
    assert all(message.header.aa and message.header.id == 7 for message in messages)


def test_what_has_changed(zone: RpzZone) -> None:
    """IXFR has what went and what came (RFC 1995 section 4)."""
    assert list(records(ask(zone, query(IXFR, serial=1)))) == [
        "SOA 2",
        "SOA 1",
        "*.a.example CNAME .",
        "b.example CNAME .",
        "SOA 2",
        "24.0.2.0.192.rpz-ip CNAME .",
        "c.example CNAME .",
        "x.a.example CNAME rpz-passthru.",
        "SOA 2",
    ]


def test_when_nothing_or_everything_has_changed(zone: RpzZone) -> None:
    """Who has the newest is sent its SOA; who has one that nobody remembers is sent everything."""
    assert list(records(ask(zone, query(IXFR, serial=2)))) == ["SOA 2"]
    for unknown in (query(IXFR, serial=77), query(IXFR)):
        assert list(records(ask(zone, unknown))) == list(records(ask(zone, query(AXFR))))


def test_over_udp(zone: RpzZone) -> None:
    """The SOA, for which secondaries ask over UDP; whole zones are for TCP."""
    for data in (query(SOA), query(IXFR, serial=1)):
        assert list(records(ask(zone, data, whole=False))) == ["SOA 2"]
    (refusal,) = ask(zone, query(AXFR), whole=False)
    assert refusal.header.rcode == 5


def test_what_is_somebody_elses(zone: RpzZone) -> None:
    """Other names, other types, other classes, answers and rubbish are not for us."""
    server = transfers(zone)
    for data in (
        query(A), query(SOA, "example"), query(AXFR, "www.rpz.example"), b"", bytes(12), b"\0\7\x80" + query(SOA)[3:],
        query(SOA)[:-1] + b"\3",
    ):  # fmt: skip
        assert not server.concerns(data)
    assert server.concerns(query(SOA))


def test_who_may_have_it(zone: RpzZone) -> None:
    """Only who is in `allow`, and only with a good signature where keys are given; each refusal says which."""
    assert refused(zone, query(AXFR), "192.0.2.1") == (5, Reason.CLIENT_UNKNOWN)
    assert refused(zone, query(AXFR)) == (0, None)
    keyed = replace(zone, keys={KEY.name: KEY})
    assert refused(keyed, query(AXFR)) == (5, Reason.AUTH_REQUIRED)
    assert refused(keyed, signed(query(AXFR)), "192.0.2.1") == (5, Reason.CLIENT_UNKNOWN)
    bad = signed(query(AXFR), replace(KEY, secret=bytes(32)))
    assert refused(keyed, bad) == (9, Reason.AUTH_FAILED)
    assert refused(keyed, signed(query(AXFR), now=NOW - 999)) == (9, Reason.AUTH_FAILED)
    good = ask(keyed, signed(query(AXFR)))
    assert [message.header.rcode for message in good] == [0]
    assert [message.ar[-1].rtype for message in good] == [250]


def test_a_query_that_cannot_be_read(zone: RpzZone) -> None:
    """A signature that is cut short is a malformed query."""
    assert refused(zone, signed(query(AXFR))[:-3]) == (1, Reason.MALFORMED)


def test_a_zone_that_is_not_there_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before the first refresh there is nothing to send, which is said once."""
    empty = RpzZone.of(tmp_path, "rpz.example", (ip_network("10.0.0.0/8"),), {})
    server = transfers(empty)
    for _ in range(3):
        message = next(server.answer(ip_address("10.1.2.3"), query(SOA), whole=True).messages)
        assert DNSRecord.parse(message).header.rcode == 2
    assert caplog.text.count("there is nothing yet") == 1


def test_many_messages(tmp_path: Path) -> None:
    """A large zone comes in messages of bounded size, and every one of them is signed."""
    folder = zone_folder(tmp_path, "rpz.example")
    names = {f"name{number}.example": 1 for number in range(5000)}
    write_zone(folder, Exported(names=names), made_of="1", now=1, longest=200)
    zone = RpzZone.of(tmp_path, "rpz.example", (), {KEY.name: KEY})
    take = batches(transfers(zone).answer(ip_address("10.0.0.1"), signed(query(AXFR)), whole=True).messages, 4)
    sizes = []
    while batch := take():
        sizes += [len(message) for message in batch]
    assert len(sizes) > 8
    assert max(sizes) < 17000
    messages = ask(zone, signed(query(AXFR)))
    assert len(list(records(messages))) == 5000 + 3
    assert all(message.ar[-1].rtype == 250 for message in messages)
