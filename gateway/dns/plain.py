"""The commonest reply of an upstream, read in one pass: addresses of the very name that was asked for.

Pure: no I/O, no clock. `gateway.dns.wire` reads every message and `gateway.dns.bailiwick` takes the answer out of it;
together with writing the records anew that costs 30 us. Here records stay the octets they are, which is possible
where each one is owned by the question's name, through the usual pointer, and has no name in its data. Of whatever
else this knows nothing: the caller then goes the long way, whose answer to a message read here is the same.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from gateway.addresses import IPAddress
from gateway.dns.bailiwick import Limits
from gateway.dns.message import Answer
from gateway.dns.wire import HEADER, QR, Type

MOST = 16
"""Records; longer answers are rare."""
_FLAGS = QR | 0x7800 | 0x0200 | 0xF
"""QR, opcode, TC and rcode."""
_AD = 0x20
_HEADS: dict[int, tuple[bytes, int, Struct]] = {
    Type.A: (b"\xc0\x0c\0\1\0\1", 4, Struct("!6sIH4s")),
    Type.AAAA: (b"\xc0\x0c\0\x1c\0\1", 16, Struct("!6sIH16s")),
}
"""Owner, type and class of a record; the length of its data; all of it."""
_counts = Struct("!5H").unpack_from
_ONE, _TTL_OF_ONE = (1, 0), (6,)
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
    if kind is None or len(name) < 2 or len(data) < HEADER:
        return None
    flags, questions, count, authority, opts = _counts(data, 2)
    if flags & _FLAGS != QR or questions != 1 or not 0 < count <= MOST or authority or opts > 1:
        return None
    head, octets, record = kind
    start = HEADER + len(name) + 4
    end = start + count * record.size
    if end + opts * _OPT != len(data) or (opts and not _is_bare_opt(data, end)):
        return None
    least, most = limits.min_ttl, limits.max_ttl
    ttl = most
    records = data[start:end]
    packed = b""
    several: dict[bytes, IPAddress] = {}
    for owner, each, length, packed in record.iter_unpack(records):
        if owner != head or length != octets or not least <= each <= most:
            return None
        if each < ttl:
            ttl = each
        if count > 1:
            several[packed] = _alone(packed)[0]
    return Answer(
        0,
        (count, 0) if count > 1 else _ONE,
        records,
        tuple(range(6, len(records), record.size)) if count > 1 else _TTL_OF_ONE,
        ttl,
        (),
        tuple(several.values()) if several else _alone(packed),
        trusted,
        False,
        ad and bool(flags & _AD),
    )


@lru_cache(maxsize=4096)
def _alone(packed: bytes) -> tuple[IPAddress]:
    """Return the address that some octets are, as an answer has it that has no other. Most names are at addresses
    that others are at, too, and what is shared is made once, and is nothing for the garbage collector to look at.
    """
    return (IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed),)


def _is_bare_opt(data: bytes, at: int) -> bool:
    """Say whether an OPT record without options is there, with no upper bits of the rcode."""
    return data[at : at + 3] == b"\0\0\x29" and not data[at + 5] and data[at + 9 : at + 11] == b"\0\0"
