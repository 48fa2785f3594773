"""Reading DNS messages: bounds-checked, in linear time, and nothing half-understood.

Pure: no I/O, no clock. This stands in front of everything else because a general DNS codec can be frozen or crashed
by one packet (compression bombs, pointer loops). Limits: names of at most 255 octets (RFC 1035 section 3.1),
compression pointers strictly backwards (section 4.1.4), a cap on records, EDNS options and on the labels visited in
one message.
"""

import struct
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

HEADER = 12
QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE = 0x7800
IN = 1
EDNS_DO = 0x8000

MAX_NAME = 255
MAX_RECORDS = 400
"""Records in a response, each of which costs some 7 us until it is answered with. The largest honest ones (hundreds
of addresses, DNSKEY sets) stay below."""
MAX_STEPS = 6_000
"""Labels and pointers visited in one message: 1 to 2 ms. An honest message of 400 records needs a third."""
MAX_POINTERS = 127
"""Pointers in one name: as many as it may have labels. Without it, a name could be 8,000 pointers in a row."""
MAX_OPTIONS = 64
"""EDNS options in one message (CVE-2026-41292: endless options)."""
MAX_ADDITIONAL = 4
"""Additional records in a query: OPT, perhaps a signature."""


class Rcode(IntEnum):
    """Response codes (RFC 1035, RFC 6895)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    BADVERS = 16
    BADCOOKIE = 23


class Type(IntEnum):
    """Record types that something here treats differently from the rest."""

    A = 1
    NS = 2
    MD = 3
    MF = 4
    CNAME = 5
    SOA = 6
    MB = 7
    MG = 8
    MR = 9
    PTR = 12
    HINFO = 13
    MINFO = 14
    MX = 15
    RP = 17
    AFSDB = 18
    RT = 21
    PX = 26
    AAAA = 28
    SRV = 33
    KX = 36
    DNAME = 39
    OPT = 41
    DS = 43
    RRSIG = 46
    NSEC = 47
    NSEC3 = 50
    SVCB = 64
    HTTPS = 65
    ANY = 255


# Where names are in RDATA: octets in front, how many names, octets behind. They may be compressed in what is read
# (RFC 3597 section 4 tells receivers to accept that for these types); only those of RFC 1035 are when written.
_NAMES_IN: dict[int, tuple[int, int, int]] = {
    Type.NS: (0, 1, 0),
    Type.MD: (0, 1, 0),
    Type.MF: (0, 1, 0),
    Type.CNAME: (0, 1, 0),
    Type.SOA: (0, 2, 20),
    Type.MB: (0, 1, 0),
    Type.MG: (0, 1, 0),
    Type.MR: (0, 1, 0),
    Type.PTR: (0, 1, 0),
    Type.MINFO: (0, 2, 0),
    Type.MX: (2, 1, 0),
    Type.RP: (0, 2, 0),
    Type.AFSDB: (2, 1, 0),
    Type.RT: (2, 1, 0),
    Type.PX: (2, 2, 0),
    Type.SRV: (6, 1, 0),
    Type.KX: (2, 1, 0),
    Type.DNAME: (0, 1, 0),
}
_SIZES: dict[int, int] = {Type.A: 4, Type.AAAA: 16}

_header = struct.Struct("!6H").unpack_from
_pair = struct.Struct("!HH").unpack_from
_record = struct.Struct("!HHIH").unpack_from
# Visible ASCII but the backslash; dots are counted apart, because one inside a label looks like a separator here.
_PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet != 0x5C)


class Edns(NamedTuple):
    """What an OPT record says (RFC 6891)."""

    size: int
    """Largest UDP payload that the sender can take."""
    version: int
    dnssec_ok: bool
    options: int
    """Octets of options."""


class Query(NamedTuple):
    """A question as a client sent it. A tuple because one is made per packet, and tuples are made fastest."""

    id: int
    flags: int
    name: str
    """Lower case, with `\\DDD` escapes as in `gateway.names`; empty for the root."""
    question: bytes
    """The question section as sent, letter case included: an answer repeats it."""
    qtype: int
    qclass: int
    edns: Edns | None


class Record(NamedTuple):
    """A resource record with every name written out, so that it means the same in any message."""

    owner: bytes
    """Name in wire form, uncompressed, letter case as received."""
    rtype: int
    rclass: int
    ttl: int
    rdata: bytes


class Response(NamedTuple):
    """A reply of an upstream, read but not yet believed (see `gateway.dns.bailiwick`)."""

    id: int
    flags: int
    rcode: int
    """With the extension from OPT."""
    question: bytes
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]
    edns: bool


class WireError(ValueError):
    """A message that cannot be answered as asked."""

    def __init__(self, detail: str, rcode: Rcode | None = Rcode.FORMERR, query: Query | None = None) -> None:
        super().__init__(detail)
        self.rcode = rcode
        """What to answer; None: nothing at all."""
        self.query = query
        """The question, when that much was understood."""


def read_query(data: bytes) -> Query:
    """Read a query.

    Raises:
        WireError: it is none; the error says what to answer. Responses and what has no header get no answer, so that
            two servers cannot be set on each other.
    """
    end = data.find(0, HEADER) + 1
    if 0 < len(data) - end <= _FRAME:
        frame = _frame(data[2:HEADER], data[end:])
        if frame is not None and (name := _plain_name(data, end)):
            flags, qtype, qclass, edns = frame
            ident = data[0] << 8 | data[1]
            # As Query() does, in half the time.
            return _make(Query, (ident, flags, name, data[HEADER : end + 4], qtype, qclass, edns))
    return _read_query(data)


_make = tuple.__new__
_SHORT = 0x2C
"""The longest label of an ordinary name: the next octet is the hyphen, the first that such names consist of."""
_AS_TEXT = bytes(
    0x2E if octet <= _SHORT else 0x5C if octet in b".\\" or octet > 0x7E else octet for octet in range(256)
).lower()
"""Makes text of an ordinary name: dots of lengths, lower case of letters, and backslashes of what needs an escape."""
_FRAME = 32
"""Octets behind the name: more have a cookie or padding in them, and seldom come again."""


@lru_cache(maxsize=1024)
def _frame(head: bytes, tail: bytes) -> tuple[int, int, int, Edns | None] | None:
    """Return flags, type, class and EDNS of a query without its id and name; None when it is not a plain good one.

    What stands around the name is the same in most packets. Nothing in it refers to the name: a pointer has no place
    in a query.
    """
    try:
        query = _read_query(b"\0\0" + head + b"\0" + tail)
    except WireError:
        return None
    return query.flags, query.qtype, query.qclass, query.edns


def _plain_name(data: bytes, end: int) -> str:
    """Return the name of the question, if it ends there and is an ordinary one; else nothing."""
    at, last, dots = HEADER, end - 1, -1
    while at < last:
        length = data[at]
        if length > _SHORT:
            return ""
        at += length + 1
        dots += 1
    text = data[HEADER + 1 : last].translate(_AS_TEXT)
    # With as many dots as there are lengths, no other octet has become one.
    if at != last or end - HEADER > MAX_NAME or text.count(b".") != dots or b"\\" in text:
        return ""
    return text.decode("ascii")


def _read_query(data: bytes) -> Query:
    if len(data) < HEADER:
        raise WireError("shorter than a header", None)
    ident, flags, questions, answers, authority, additional = _header(data)
    if flags & QR:
        raise WireError("a response, not a query", None)
    if flags & OPCODE:
        raise WireError(f"opcode {(flags & OPCODE) >> 11}", Rcode.NOTIMP)
    if questions != 1:
        raise WireError(f"{questions} questions")  # RFC 9619: exactly one
    if answers or authority or additional > MAX_ADDITIONAL:
        raise WireError("records where a query has none")
    name, end = _question_name(data)
    if end + 4 > len(data):
        raise WireError("question cut short")
    qtype, qclass = _pair(data, end)
    end += 4
    edns = None
    if additional:
        edns, after = _additional(_Reader(data), end, additional)
    else:
        after = end
    if after != len(data):
        raise WireError("octets after the end of the message")
    query = Query(ident, flags, name, data[HEADER:end], qtype, qclass, edns and edns[0])
    if query.edns is not None and query.edns.version:
        raise WireError(f"EDNS version {query.edns.version}", Rcode.BADVERS, query)
    if qclass != IN:
        raise WireError(f"class {qclass}", Rcode.REFUSED, query)
    return query


def _question_name(data: bytes) -> tuple[str, int]:
    """Return the name of the question, and where it ends. Nothing stands before it that a pointer could point to."""
    labels: list[bytes] = []
    at, size = HEADER, len(data)
    while at < size:
        length = data[at]
        if not length:
            return _text(labels), at + 1
        if length > 63:
            raise WireError("compressed or unknown label in the question")
        at += length + 1
        if at > HEADER + MAX_NAME - 1:
            raise WireError("name longer than 255 octets")
        labels.append(data[at - length : at])
    raise WireError("name cut short")


def _text(labels: list[bytes]) -> str:
    joined = b".".join(labels).lower()
    if not joined.translate(None, _PLAIN) and joined.count(b".") == max(len(labels) - 1, 0):
        return joined.decode("ascii")
    return ".".join(_escape(label) for label in labels)


def _escape(label: bytes) -> str:
    return "".join(
        chr(octet) if 0x20 < octet < 0x7F and octet not in b".\\" else f"\\{octet:03d}" for octet in label.lower()
    )


def name_text(wire: bytes) -> str:
    """Return the text form of an uncompressed wire name.

    >>> name_text(bytes([3]) + b"A.b" + bytes([3]) + b"com" + bytes(1))
    'a\\\\046b.com'
    """
    labels: list[bytes] = []
    at = 0
    while length := wire[at]:
        labels.append(wire[at + 1 : at + 1 + length])
        at += length + 1
    return _text(labels)


def question_end(data: bytes) -> int:
    """Return where the one question of a message ends, and 0 when it has no readable one."""
    at = HEADER
    while at < len(data) and at < HEADER + MAX_NAME:
        length = data[at]
        if not length:
            return at + 5 if at + 5 <= len(data) else 0
        if length > 63:
            return 0
        at += length + 1
    return 0


def read_response(data: bytes) -> Response:
    """Read a response. Answer and authority sections are decoded; the additional section only for its OPT.

    Raises:
        WireError: it is malformed, or costs more than an honest one would.
    """
    if len(data) < HEADER:
        raise WireError("shorter than a header")
    ident, flags, questions, answers, authority, additional = _header(data)
    if questions != 1:
        raise WireError(f"{questions} questions")
    if answers + authority + additional > MAX_RECORDS:
        raise WireError("more records than any honest answer has")
    end = question_end(data)
    if not end:
        raise WireError("no readable question")
    reader = _Reader(data)
    found, at = _records(reader, end, answers)
    behind, at = _records(reader, at, authority)
    opt, at = _additional(reader, at, additional)
    if at != len(data):
        raise WireError("octets after the end of the message")
    rcode = flags & 0xF | (opt[1] if opt else 0)
    return Response(ident, flags, rcode, data[HEADER:end], found, behind, opt is not None)


def _records(reader: "_Reader", at: int, count: int) -> tuple[tuple[Record, ...], int]:
    found: list[Record] = []
    for _ in range(count):
        record, at = reader.record(at)
        found.append(record)
    return tuple(found), at


def _additional(reader: "_Reader", at: int, count: int) -> tuple[tuple[Edns, int] | None, int]:
    """Find the OPT record. Returns it with the upper bits of the rcode (in place), and where the section ends."""
    data, found = reader.data, None
    for _ in range(count):
        start = at
        at = reader.skip_name(at)
        if at + 10 > len(data):
            raise WireError("record cut short")
        rtype, rclass, ttl, length = _record(data, at)
        at += 10 + length
        if at > len(data):
            raise WireError("RDATA cut short")
        if rtype == Type.OPT:
            if found is not None or data[start]:
                raise WireError("more than one OPT, or one with an owner name")  # RFC 6891 section 6.1.1
            _check_options(data, at - length, at)
            edns = Edns(rclass, ttl >> 16 & 0xFF, bool(ttl & EDNS_DO), length)
            found = edns, ttl >> 24 << 4
    return found, at


def _check_options(data: bytes, at: int, end: int) -> None:
    for _ in range(MAX_OPTIONS):
        if at == end:
            return
        if at + 4 > end:
            break
        at += 4 + _pair(data, at)[1]
        if at > end:
            break
    if at != end:
        raise WireError("EDNS options cut short, or more than anybody needs")


class _Reader:
    """Decodes names and records of one message, and counts what that costs."""

    __slots__ = ("_names", "_steps", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._steps = 0
        self._names: dict[int, bytes] = {}

    def name(self, start: int) -> tuple[bytes, int]:
        """Return the name at an offset, written out, and where the reader goes on after it."""
        data, size, names = self.data, len(self.data), self._names
        pieces: list[bytes] = []
        at = floor = start
        after = jumped_to = jumped_after = 0
        total, steps, pointers = 1, self._steps, 0
        while True:
            steps += 1
            if at >= size:
                raise WireError("name cut short")
            length = data[at]
            if not length:
                after = after or at + 1
                pieces.append(b"\0")
                break
            if length < 64:
                end = at + 1 + length
                total += length + 1
                if total > MAX_NAME:
                    raise WireError("name longer than 255 octets")
                pieces.append(data[at:end])  # one cut short by the end is noticed at the next round
                at = end
                continue
            if length < 0xC0 or at + 1 >= size:
                raise WireError("unknown label type, or pointer cut short")
            target = (length & 0x3F) << 8 | data[at + 1]
            after = after or at + 2
            pointers += 1
            if pointers > MAX_POINTERS:
                raise WireError("a name with more pointers than it can have labels")
            # Each jump lands before all that was read of this name, so that no chain of them can turn round.
            if not HEADER <= target < floor:
                raise WireError("compression pointer does not point backwards")
            known = names.get(target)
            if known is not None:
                pieces.append(known)
                total += len(known) - 1
                break
            if not jumped_to:
                jumped_to, jumped_after = target, len(pieces)
            at = floor = target
        self._count(steps - self._steps)
        if total > MAX_NAME:
            raise WireError("name longer than 255 octets")
        name = names[start] = b"".join(pieces)
        if jumped_to:
            names[jumped_to] = b"".join(pieces[jumped_after:])
        return name, after

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise WireError("names cost more than an honest message would")

    def skip_name(self, at: int) -> int:
        """Return where a name ends, without following it."""
        data, size = self.data, len(self.data)
        for steps in range(MAX_NAME):
            if at >= size:
                break
            length = data[at]
            if not length or length >= 0xC0:
                self._count(steps + 1)
                return at + (2 if length else 1)
            if length > 63:
                break
            at += length + 1
        raise WireError("name cut short or too long")

    def record(self, at: int) -> tuple[Record, int]:
        """Return the record at an offset, and where it ends."""
        owner, at = self.name(at)
        if at + 10 > len(self.data):
            raise WireError("record cut short")
        rtype, rclass, ttl, length = _record(self.data, at)
        at += 10
        end = at + length
        if end > len(self.data):
            raise WireError("RDATA cut short")
        if rtype == Type.OPT:
            raise WireError("OPT outside the additional section")
        if ttl >> 31:
            ttl = 0  # RFC 2181 section 8
        return Record(owner, rtype, rclass, ttl, self._rdata(rtype, at, end)), end

    def _rdata(self, rtype: int, at: int, end: int) -> bytes:
        layout = _NAMES_IN.get(rtype)
        if layout is None:
            size = _SIZES.get(rtype)
            if size is not None and end - at != size:
                raise WireError(f"{end - at} octets of RDATA in a record of type {rtype}")
            return self.data[at:end]
        before, count, behind = layout
        pieces = [self.data[at : at + before]]
        at += before
        for _ in range(count):
            if at >= end:
                raise WireError("RDATA ends before its names do")
            name, at = self.name(at)
            pieces.append(name)
        if at + behind != end:
            raise WireError(f"RDATA of type {rtype} has the wrong length")
        pieces.append(self.data[at:end])
        return b"".join(pieces)
