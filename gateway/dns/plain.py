"""The commonest reply of an upstream, read in one pass: addresses of the very name that was asked for.

Pure: no I/O, no clock. `gateway.dns.wire` reads every message and `gateway.dns.bailiwick` takes the answer out of it;
together with writing the records anew that costs 30 us. Here records stay the octets they are, which is possible
where each one is owned by the question's name, through the usual pointer, and has no name in its data. Of whatever
else this knows nothing: the caller then goes the long way, whose answer to a message read here is the same.
"""

from ipaddress import IPv4Address, IPv6Address

from gateway.addresses import IPAddress
from gateway.dns.bailiwick import Limits
from gateway.dns.message import Answer
from gateway.dns.wire import HEADER, QR, Type

MOST = 16
"""Records; longer answers are rare."""
_FLAGS = QR | 0x7800 | 0x0200 | 0xF
"""QR, opcode, TC and rcode."""
_AD = 0x20
_HEADS: dict[int, tuple[bytes, bytes, int]] = {
    Type.A: (b"\xc0\x0c\0\1\0\1", b"\0\4", 4),
    Type.AAAA: (b"\xc0\x0c\0\x1c\0\1", b"\0\x10", 16),
}
"""Owner, type and class of a record; the length of its data."""
_OPT = 11
"""Octets of an OPT record without options."""


def plain_answer(data: bytes, name: bytes, qtype: int, limits: Limits, *, ad: bool, trusted: bool) -> Answer | None:
    """Return the answer in a reply that was found to repeat the question, or None where it is not of the plain kind.

    Args:
        name: what was asked for, in wire form.
        ad: whether the AD bit of the upstream is believed.
        trusted: whether private addresses are expected.
    """
    kind = _HEADS.get(qtype)
    if kind is None or len(name) < 2 or data[4:6] != b"\0\1" or data[8:10] != b"\0\0":
        return None
    flags, count, size, opts = data[2] << 8 | data[3], data[6] << 8 | data[7], len(data), data[10] << 8 | data[11]
    if flags & _FLAGS != QR or not 0 < count <= MOST or opts > 1:
        return None
    head, length, octets = kind
    start = at = HEADER + len(name) + 4
    step = 12 + octets
    end = start + count * step
    if end + opts * _OPT != size or (opts and not _is_bare_opt(data, end)):
        return None
    least, most = limits.min_ttl, limits.max_ttl
    ttl = most
    addresses: dict[bytes, IPAddress] = {}
    while at < end:
        each = int.from_bytes(data[at + 6 : at + 10], "big")
        if data[at : at + 6] != head or data[at + 10 : at + 12] != length or not least <= each <= most:
            return None
        if each < ttl:
            ttl = each
        packed = data[at + 12 : at + step]
        addresses[packed] = IPv4Address(packed) if octets == 4 else IPv6Address(packed)
        at += step
    return Answer(
        0,
        (count, 0),
        data[start:end],
        (6,) if count == 1 else tuple(range(6, end - start, step)),
        ttl,
        (),
        tuple(addresses.values()),
        trusted,
        False,
        ad and bool(flags & _AD),
    )


def _is_bare_opt(data: bytes, at: int) -> bool:
    """Say whether an OPT record without options is there, with no upper bits of the rcode."""
    return data[at : at + 3] == b"\0\0\x29" and not data[at + 5] and data[at + 9 : at + 11] == b"\0\0"
