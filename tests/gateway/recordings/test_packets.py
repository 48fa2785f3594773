"""Queries in packet captures."""

import io
import struct
from ipaddress import ip_address

import pytest
from dnslib import RR, TXT, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from gateway.recordings.packets import Capture
from gateway.tunnelling.analysis import Recorded

CLIENT, SERVER = "10.0.0.7", "9.9.9.9"
QUERY = DNSRecord.question("A7.Evilzone.com", "TXT")
REPLY = QUERY.reply()
REPLY.add_answer(RR("A7.Evilzone.com", 16, rdata=TXT("hello"), ttl=1))


def udp(source: str, target: str, sport: int, dport: int, data: bytes) -> bytes:
    """Return an IP packet."""
    return ip(source, target, 17, struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data)


def tcp(source: str, target: str, sport: int, dport: int, data: bytes) -> bytes:
    """Return an IP packet."""
    return ip(source, target, 6, struct.pack(">HHIIBBHHH", sport, dport, 1, 1, 5 << 4, 24, 99, 0, 0) + data)


def ip(source: str, target: str, protocol: int, data: bytes) -> bytes:
    """Return an IP packet."""
    one, two = ip_address(source), ip_address(target)
    if one.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, protocol, 0)
    else:
        head = struct.pack(">IHBB", 6 << 28, len(data), protocol, 64)
    return head + one.packed + two.packed + data


def pcap(*packets: bytes, link: int = 101, order: str = "<", magic: int = 0xA1B2C3D4) -> io.BytesIO:
    """Return a capture, with a packet each half second."""
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    half = 500_000 if magic == 0xA1B2C3D4 else 500_000_000
    bodies = [
        struct.pack(f"{order}IIII", index // 2, half * (index % 2), len(packet), len(packet)) + packet
        for index, packet in enumerate(packets)
    ]
    return io.BytesIO(head + b"".join(bodies))


PAIR = (udp(CLIENT, SERVER, 4444, 53, QUERY.pack()), udp(SERVER, CLIENT, 53, 4444, REPLY.pack()))
FOUND = Recorded(0.5, CLIENT, "a7.evilzone.com", 16, 0, len(REPLY.pack()))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D], ids=["microseconds", "nanoseconds"])
def test_a_query_and_its_answer(order: str, magic: int) -> None:
    """Both are one record, of the client that asked, at the time of the answer."""
    assert list(Capture().read(pcap(*PAIR, order=order, magic=magic))) == [FOUND]


@pytest.mark.parametrize(
    ("link", "front"),
    [
        *((1, bytes(12) + b"\x08\x00"), (1, bytes(12) + b"\x81\x00\0\7\x08\x00")),
        *((113, bytes(16)), (276, bytes(20)), (0, bytes(4))),
    ],
    ids=["Ethernet", "VLAN", "cooked", "cooked 2", "loopback"],
)
def test_link_types(link: int, front: bytes) -> None:
    """Whatever is in front of the IP packet is passed over."""
    assert list(Capture().read(pcap(*(front + packet for packet in PAIR), link=link))) == [FOUND]


def test_ipv6_and_tcp() -> None:
    """Over IPv6 and over TCP too; a handshake has no message in it."""
    message = QUERY.pack()
    framed = len(message).to_bytes(2, "big") + message
    packets = (tcp("2001:db8::7", "2001:db8::1", 4444, 53, b""), tcp("2001:db8::7", "2001:db8::1", 4444, 53, framed))
    assert list(Capture().read(pcap(*packets))) == [Recorded(0.5, "2001:db8::7", "a7.evilzone.com", 16)]


def test_odd_octets_are_escaped() -> None:
    """Names are in the form that the resolver gives them."""
    query = QUERY.pack().replace(b"\x02A7", b"\x02\xc8.")
    (found,) = Capture().read(pcap(udp(CLIENT, SERVER, 4444, 53, query)))
    assert found.name == "\\200\\046.evilzone.com"


def test_other_traffic_and_junk() -> None:
    """Other ports and links are nobody's business; a message that cannot be read is counted."""
    capture = Capture()
    packets = (udp(CLIENT, SERVER, 4444, 443, QUERY.pack()), b"junk", udp(CLIENT, SERVER, 4444, 53, b"junk"))
    assert list(capture.read(pcap(*packets))) == []
    assert (capture.unreadable, capture.flaw) == (1, "packet 3: not one question")
    assert list(Capture().read(pcap(*PAIR, link=147))) == []


def test_what_is_no_capture() -> None:
    """A file that is none, or has a packet larger than any is, is an error; one that is cut short ends early."""
    with pytest.raises(ValueError, match="no pcap"):
        list(Capture().read(io.BytesIO(b"plain text")))
    with pytest.raises(ValueError, match="damaged"):
        list(Capture().read(io.BytesIO(pcap().getvalue() + b"\xff" * 16)))
    (alone,) = Capture().read(io.BytesIO(pcap(*PAIR).getvalue()[:-1]))
    assert alone.answer == 0


@given(st.binary(max_size=80), st.sampled_from([0, 1, 101, 113, 276]))
def test_no_packet_breaks_it(junk: bytes, link: int) -> None:
    """Whatever is in a packet, the capture is read to its end."""
    framed = (junk, udp(CLIENT, SERVER, 9, 53, junk), tcp(CLIENT, SERVER, 9, 53, junk))
    assert len(list(Capture().read(pcap(*framed, link=link)))) <= 3
