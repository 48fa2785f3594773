"""Writing DNS messages: the part of an answer that all clients share, and its rendering for one of them.

Pure: no I/O, no clock. An `Answer` holds encoded records without header and question: names in it are compressed
against the question, whose length does not depend on letter case, so the same octets serve every client.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from gateway.addresses import IPAddress
from gateway.dns.wire import AA, AD, CD, EDNS_DO, HEADER, IN, QR, RA, RD, TC, Edns, Query, Record, Type, WireError

UDP_SIZE = 1232
"""The largest UDP answer sent or asked for: no IPv6 path fragments it (DNS flag day 2020)."""
STREAM_SIZE = 65535
MAX_STEPS = 4_000
"""Labels compared with names before them while one answer is written: about 1 ms. Compressed names that were read
cheaply can be costly to write. An honest answer of 400 records needs a few hundred."""

pack_header = struct.Struct("!6H").pack
_pack_fixed = struct.Struct("!HHIH").pack
_pack_ttl = struct.Struct("!I").pack_into
_COMPRESSIBLE: dict[int, int] = {
    Type.NS: 0,
    Type.CNAME: 0,
    Type.SOA: 0,
    Type.PTR: 0,
    Type.MX: 2,
}
"""Types whose names RFC 1035 lets a sender compress, and the octets before the name."""
_SOA_NUMBERS = 20
"""Octets behind the names of an SOA record."""
_unescape = re.compile(rb"\\([0-9]{3})").sub


@dataclass(slots=True)
class Answer:
    """Everything of an answer but header and question, with the facts that it is judged by.

    Nobody changes one. It is not frozen, because one is made for each query to an upstream, and takes 0.2 us to make
    instead of 1.3.
    """

    rcode: int
    counts: tuple[int, int]
    """Records in the answer and the authority section."""
    records: bytes
    ttls: tuple[int, ...]
    """Offsets of the TTLs in `records`."""
    ttl: int
    """How long it may be kept, in seconds; 0: not at all."""
    chain: tuple[str, ...] = ()
    addresses: tuple[IPAddress, ...] = ()
    trusted: bool = False
    """From a forward zone or the configuration."""
    authoritative: bool = False
    authentic: bool = False
    """An upstream that is trusted in this has validated it (AD)."""
    metered: bool = False
    """What it says is counted for each client that gets it, also when it comes from the cache."""

    def contents(self) -> Iterator[tuple[int, bytes]]:
        """Yield type and data of each record."""
        records = self.records
        for at in self.ttls:
            yield (
                int.from_bytes(records[at - 4 : at - 2], "big"),
                records[at + 6 : at + 6 + int.from_bytes(records[at + 4 : at + 6], "big")],
            )


def udp_limit(edns: Edns | None) -> int:
    """Return how long a UDP answer may be (RFC 6891 section 6.2.3)."""
    return 512 if edns is None else min(max(edns.size, 512), UDP_SIZE)


def encode_name(name: str) -> bytes:
    r"""Return the wire form of a name in text form, `\DDD` escapes included.

    >>> encode_name("a\\046b.com")
    b'\x03a.b\x03com\x00'
    """
    if not name:
        return b"\0"
    pieces: list[bytes] = []
    for label in name.encode("ascii").split(b"."):
        octets = _unescape(lambda found: bytes((int(found[1]),)), label) if b"\\" in label else label
        if not 0 < len(octets) < 64:
            raise ValueError(f"{name!r} has an empty label or one longer than 63 octets")
        pieces.append(bytes((len(octets),)) + octets)
    wire = b"".join(pieces) + b"\0"
    if len(wire) > 255:
        raise ValueError("name longer than 255 octets")
    return wire


def encode_opt(*, dnssec_ok: bool = False, options: bytes = b"", extended: int = 0) -> bytes:
    """Return an OPT record (RFC 6891). `extended` is the whole rcode, of which the upper bits are kept here."""
    flags = EDNS_DO if dnssec_ok else 0
    return b"\0" + _pack_fixed(Type.OPT, UDP_SIZE, extended >> 4 << 24 | flags, len(options)) + options


_BARE_OPT = encode_opt(), encode_opt(dnssec_ok=True)


def encode_query(
    ident: int, question: bytes, *, dnssec_ok: bool, checking_disabled: bool, edns: bool = True
) -> bytes:
    """Return a query for an upstream. Nothing that the client sent is in it but the question, DO and CD."""
    head, tail = _around(dnssec_ok, checking_disabled, edns)
    return ident.to_bytes(2, "big") + head + question + tail


@lru_cache(maxsize=8)
def _around(dnssec_ok: bool, checking_disabled: bool, edns: bool) -> tuple[bytes, bytes]:
    """Return what stands between id and question of a query, and what behind the question."""
    flags = RD | AD | (CD if checking_disabled else 0)  # AD: tell whether it was validated (RFC 6840 section 5.7)
    head = pack_header(0, flags, 1, 0, 0, 1 if edns else 0)[2:]
    return head, encode_opt(dnssec_ok=dnssec_ok) if edns else b""


def encode_records(name: bytes, records: Iterable[Record]) -> tuple[bytes, tuple[int, ...]]:
    """Encode records to follow a question for `name` (wire form). Returns the octets and where their TTLs are.

    Raises:
        WireError: they are more than a message can hold, or have more different names than an honest one would.
    """
    writer = _Writer(name)
    for record in records:
        writer.record(record)
    return bytes(writer.out), tuple(writer.ttls)


class _Writer:
    """Encodes records, each name compressed against all before it without regard to case."""

    def __init__(self, name: bytes) -> None:
        self.out = bytearray()
        self.ttls: list[int] = []
        self._start = HEADER + len(name) + 4
        self._steps = 0
        self._owner = b""
        self._pointer = b""
        """The owner written last, if it was as a pointer."""
        self._known: dict[bytes, int] = {}
        at = 0
        while name[at]:
            self._known[name[at:].lower()] = HEADER + at
            at += name[at] + 1

    def record(self, record: Record) -> None:
        out = self.out
        if record.owner == self._owner:  # of a set of records, all but the first
            out += self._pointer
        else:
            here = self._start + len(out)
            self._name(record.owner, 0, len(record.owner) - 1)
            if out[-2:-1] >= b"\xc0" and self._start + len(out) == here + 2:
                self._owner, self._pointer = record.owner, bytes(out[-2:])
        out += _pack_fixed(record.rtype, record.rclass, record.ttl, 0)
        self.ttls.append(len(out) - 6)
        start = len(out)
        before = _COMPRESSIBLE.get(record.rtype)
        if before is None:
            out += record.rdata
        else:
            out += record.rdata[:before]
            end = len(record.rdata)
            if record.rtype == Type.SOA:
                end -= _SOA_NUMBERS
                middle = self._end_of_name(record.rdata)
                self._name(record.rdata, 0, middle - 1)
                before = middle
            self._name(record.rdata, before, end - 1)
            out += record.rdata[end:]
        out[start - 2 : start] = (len(out) - start).to_bytes(2, "big")
        if self._start + len(out) > STREAM_SIZE:
            raise WireError("more records than a message can hold")

    def _end_of_name(self, wire: bytes) -> int:
        at = 0
        while wire[at]:
            at += wire[at] + 1
            self._steps += 1
        return at + 1

    def _name(self, wire: bytes, at: int, end: int) -> None:
        """Write the name from one offset of `wire` to the octet that ends it at another."""
        known, out = self._known, self.out
        while at < end:
            key = wire[at:end].lower() + b"\0"
            offset = known.get(key)
            if offset is not None:
                out += (0xC000 | offset).to_bytes(2, "big")
                return
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise WireError("more names to write than an honest answer has")
            here = self._start + len(out)
            if here < 0x4000:
                known[key] = here
            after = at + wire[at] + 1
            out += wire[at:after]
            at = after
        out.append(0)


def make_answer(
    name: bytes,
    answers: Iterable[Record],
    authority: Iterable[Record] = (),
    *,
    rcode: int = 0,
    ttl: int,
    chain: tuple[str, ...] = (),
    addresses: tuple[IPAddress, ...] = (),
    trusted: bool = False,
    authoritative: bool = False,
    authentic: bool = False,
) -> Answer:
    """Encode an answer to a question for `name` (wire form).

    Raises:
        WireError: as `encode_records`.
    """
    first, second = tuple(answers), tuple(authority)
    records, ttls = encode_records(name, first + second)
    counts = len(first), len(second)
    return Answer(rcode, counts, records, ttls, ttl, chain, addresses, trusted, authoritative, authentic)


def aged(records: bytes, ttls: tuple[int, ...], age: int) -> bytes:
    """Return records with their TTLs counted down."""
    if not age or not ttls:
        return records
    out = bytearray(records)
    for at in ttls:
        _pack_ttl(out, at, max(int.from_bytes(out[at : at + 4], "big") - age, 0))
    return bytes(out)


def with_ttl(answer: Answer, ttl: int) -> Answer:
    """Return an answer whose records all say the same TTL."""
    out = bytearray(answer.records)
    for at in answer.ttls:
        _pack_ttl(out, at, ttl)
    return replace(answer, records=bytes(out), ttl=ttl)


def head_of(query: Query, answer: Answer) -> bytes:
    """Return the header of an answer without its id."""
    flags = QR | RA | query.flags & (RD | CD) | answer.rcode & 0xF | (AA if answer.authoritative else 0)
    # AD is for those who asked for it, or for signatures (RFC 6840 section 5.8).
    if answer.authentic and (query.flags & AD or (query.edns is not None and query.edns.dnssec_ok)):
        flags |= AD
    return pack_header(0, flags, 1, *answer.counts, 0 if query.edns is None else 1)[2:]


def opt_of(query: Query, options: bytes = b"") -> bytes:
    """Return the OPT record of an answer: nothing for a client that sent none."""
    edns = query.edns
    if edns is None:
        return b""
    return encode_opt(dnssec_ok=edns.dnssec_ok, options=options) if options else _BARE_OPT[edns.dnssec_ok]


def render(query: Query, answer: Answer, *, age: int = 0, limit: int = STREAM_SIZE, options: bytes = b"") -> bytes:
    """Return the answer for one client: its id, its letter case, its size limit (TC=1 and no records beyond it)."""
    ident = query.id.to_bytes(2, "big")
    opt = opt_of(query, options)
    if HEADER + len(query.question) + len(answer.records) + len(opt) > limit:
        return truncated(query, options, answer.rcode)
    return ident + head_of(query, answer) + query.question + aged(answer.records, answer.ttls, age) + opt


def truncated(query: Query, options: bytes = b"", rcode: int = 0) -> bytes:
    """Return the answer that makes a client come again over TCP. Nobody keeps one (RFC 2181 section 9)."""
    flags = QR | RA | TC | query.flags & (RD | CD) | rcode & 0xF
    opt = opt_of(query, options)
    return pack_header(query.id, flags, 1, 0, 0, 1 if opt else 0) + query.question + opt


def address_record(owner: bytes, address: IPAddress, ttl: int) -> Record:
    """Return an A or AAAA record."""
    return Record(owner, Type.A if address.version == 4 else Type.AAAA, IN, ttl, address.packed)


_SOA_NAMES = encode_name("egress-gateway.invalid") + encode_name("nobody.invalid")


def soa_record(owner: bytes, ttl: int) -> Record:
    """Return the SOA that lets a client keep a negative answer (RFC 2308). Its names exist nowhere (RFC 6761)."""
    return Record(owner, Type.SOA, IN, ttl, _SOA_NAMES + struct.pack("!5I", 1, 3600, 600, 86400, ttl))
