"""Queries in packet captures of the classic pcap form: DNS over UDP, and over TCP where a segment holds a message.

Pure: no I/O, no clock. Nothing is put together: of IP fragments the first counts, of TCP segments those that begin
with a message. What makes no sense is passed over.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from struct import Struct
from typing import BinaryIO, NamedTuple

from gateway.recordings.lines import name_of
from gateway.tunnelling.analysis import Recorded

MAGICS = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
"""How captures begin: in microseconds with either order of octets, then in nanoseconds."""
PCAPNG = b"\x0a\x0d\x0d\x0a"
_PORT = 53
_LARGEST = 1 << 20
"""Octets of one packet; more is no capture."""
_WAITING = 65536
"""Queries without an answer so far."""
_BEFORE_IP = {0: 4, 12: 0, 14: 0, 101: 0, 108: 4, 113: 16, 228: 0, 229: 0, 276: 20}
"""Link types, and octets in front of the IP packet: loopback, raw IP, Linux's cooked ones. Ethernet is apart."""
_ETHERNET = 1
_VLAN = (0x8100, 0x88A8)
_UDP, _TCP = 17, 6


class _Message(NamedTuple):
    source: str
    target: str
    sport: int
    dport: int
    data: bytes


class Capture:
    """Reads a capture."""

    def __init__(self) -> None:
        self.unreadable = 0
        """Packets to or from port 53 with no DNS message that could be read."""
        self.flaw = ""
        """Which is the first of them, and what is wrong with it."""

    def read(self, stream: BinaryIO) -> Iterator[Recorded]:
        """Yield each query when its answer comes, or at the end when none does.

        Raises:
            ValueError: it is no capture, or a damaged one.
        """
        waiting: dict[tuple[str, str, int, int], Recorded] = {}
        for number, (at, link, packet) in enumerate(_packets(stream), 1):
            try:
                found = _transport(*_network(link, packet))
            except (IndexError, ValueError):
                continue  # not IP, or cut short: nothing says that it is DNS
            if found is None:
                continue
            try:
                ident, is_answer, rcode, name, qtype = _read(found.data)
            except (IndexError, ValueError) as error:
                self.unreadable += 1
                self.flaw = self.flaw or f"packet {number}: {'cut short' if isinstance(error, IndexError) else error}"
                continue
            if is_answer:
                query = waiting.pop((found.target, found.source, found.dport, ident), None)
                if query is None or query.name != name:
                    query = Recorded(at, found.target, name, qtype)
                yield query._replace(at=at, rcode=rcode, answer=len(found.data))
                continue
            if len(waiting) >= _WAITING:
                yield waiting.pop(next(iter(waiting)))
            waiting[found.source, found.target, found.sport, ident] = Recorded(at, found.source, name, qtype)
        yield from waiting.values()


def _packets(stream: BinaryIO) -> Iterator[tuple[float, int, bytes]]:
    """Yield time, link type and octets of packets; a last one that is cut short ends it."""
    head = stream.read(24)
    if head[:4] not in MAGICS:
        raise ValueError("no pcap file")
    order = "<" if head[:4] in (MAGICS[0], MAGICS[2]) else ">"
    unit = 1e-9 if head[:4] in MAGICS[2:] else 1e-6
    if len(head) < 24:
        return
    link = Struct(f"{order}I").unpack(head[20:])[0] & 0xFFFF
    packet = Struct(f"{order}IIII")
    while len(start := stream.read(16)) == 16:
        seconds, fraction, size, _ = packet.unpack(start)
        if size > _LARGEST:
            raise ValueError(f"a packet of {size} octets: the capture is damaged")
        data = stream.read(size)
        if len(data) < size:
            return
        yield seconds + fraction * unit, link, data


def _network(link: int, data: bytes) -> tuple[str, str, int, bytes]:
    """Return source, target, protocol and payload of an IP packet."""
    if link == _ETHERNET:
        at = 12
        while int.from_bytes(data[at : at + 2], "big") in _VLAN:
            at += 4
        data = data[at + 2 :]
    elif link in _BEFORE_IP:
        data = data[_BEFORE_IP[link] :]
    else:
        raise ValueError("a link type that is not read")
    if data[0] >> 4 == 4:
        if int.from_bytes(data[6:8], "big") & 0x1FFF:
            raise ValueError("not the first fragment")
        end = int.from_bytes(data[2:4], "big") or len(data)
        return str(ip_address(data[12:16])), str(ip_address(data[16:20])), data[9], data[(data[0] & 15) * 4 : end]
    if data[0] >> 4 != 6:
        raise ValueError("no IP packet")
    following, payload = data[6], data[40:]
    while following in (0, 43, 60):  # options, routing: each says what follows and how long it is
        following, payload = payload[0], payload[8 + payload[1] * 8 :]
    return str(ip_address(data[8:24])), str(ip_address(data[24:40])), following, payload


def _transport(source: str, target: str, protocol: int, data: bytes) -> _Message | None:
    """Return the message of a segment, None when it has none."""
    sport, dport = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
    if _PORT not in (sport, dport):
        return None
    if protocol == _UDP:
        return _Message(source, target, sport, dport, data[8:])
    if protocol != _TCP:
        return None
    data = data[(data[12] >> 4) * 4 :]
    size = int.from_bytes(data[:2], "big")
    return _Message(source, target, sport, dport, data[2 : 2 + size]) if size and len(data) >= 2 + size else None


def _read(message: bytes) -> tuple[int, bool, int, str, int]:
    """Return id, whether it is an answer, its code, name and type of the question."""
    if message[4:6] != b"\0\1":
        raise ValueError("not one question")
    labels: list[str] = []
    at = 12
    while size := message[at]:
        label = message[at + 1 : at + 1 + size]
        if size > 63 or len(label) < size:
            raise ValueError("compressed, or cut short")
        labels.append(
            "".join(
                chr(octet) if 0x20 < octet < 0x7F and octet not in b".\\" else f"\\{octet:03d}" for octet in label
            )
        )
        at += 1 + size
    if len(message) < at + 5:
        raise ValueError("cut short")
    name = name_of(".".join(labels)) if labels else "."
    qtype = int.from_bytes(message[at + 1 : at + 3], "big")
    return int.from_bytes(message[:2], "big"), bool(message[2] & 0x80), message[3] & 15, name, qtype
