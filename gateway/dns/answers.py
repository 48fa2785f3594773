"""Decisions rendered as DNS answers, and the replies to what cannot be answered.

Pure: no I/O, no clock. An Extended DNS Error (RFC 8914) says why, to clients that sent EDNS: `Blocked` (15) for what
the policy denies, `Prohibited` (18) where the client rather than the name is the cause, and of upstream failures
whether nobody answered (22), the network failed (23) or the answer was unusable (24). `Censored` (16: demanded by
others) and `Filtered` (17: wished by the client) would be untrue of an operator's own policy.
"""

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from gateway.addresses import IPAddress
from gateway.decision import Decision, Reason
from gateway.dns.message import UDP_SIZE, address_record, encode_opt, opt_of, pack_header, soa_record
from gateway.dns.wire import (
    CD,
    EDNS_DO,
    HEADER,
    IN,
    OPCODE,
    QR,
    RA,
    RD,
    TC,
    Query,
    Rcode,
    Record,
    Type,
    WireError,
    question_end,
)

EDE_OTHER, EDE_STALE, EDE_BLOCKED, EDE_PROHIBITED, EDE_STALE_ABSENCE = 0, 3, 15, 18, 19
EDE_UNREACHABLE, EDE_NETWORK, EDE_INVALID = 22, 23, 24
_EDE_OPTION = 15
MAX_TEXT = 160
"""Octets of EXTRA-TEXT. Rule and list names are at most 64 each."""

type BlockAnswer = str | tuple[IPAddress, ...]
"""`nxdomain nodata zero-ip refused drop`, or the addresses of a sinkhole."""

_EDE_CODES: dict[Reason, int] = {
    Reason.CLIENT_UNKNOWN: EDE_PROHIBITED,
    Reason.RATE_LIMIT: EDE_PROHIBITED,
    Reason.MALFORMED: EDE_OTHER,
    Reason.PROTOCOL: EDE_OTHER,
    Reason.INTERNAL_ERROR: EDE_OTHER,
    Reason.UPSTREAM_FAILURE: EDE_UNREACHABLE,
}
_OWN_FAILURES = (Reason.INTERNAL_ERROR, Reason.UPSTREAM_FAILURE, Reason.RATE_LIMIT)
"""Not verdicts on the name: SERVFAIL, so that nobody remembers the name as absent."""
_ZEROS: tuple[IPAddress, ...] = (IPv4Address(0), IPv6Address(0))


def ede_option(code: int, text: bytes) -> bytes:
    """Return the EDNS option of an extended error."""
    return struct.pack("!HHH", _EDE_OPTION, len(text) + 2, code) + text


class Block:
    """The answer to a denied query, ready but for what differs each time: id, letter case and ledger id."""

    __slots__ = ("_body", "_code", "_edns", "_head", "_opt", "_room", "_text", "_whole", "dropped")

    def __init__(
        self, query: Query, decision: Decision, answer: BlockAnswer, ttl: int, *, ede: int | None = None
    ) -> None:
        self.dropped = answer == "drop" and decision.reason not in _OWN_FAILURES
        rcode, counts, self._body = _body(query, decision.reason, answer, ttl)
        self._edns = query.edns is not None
        self._opt = opt_of(query)[:-2]  # but its length, which comes last
        flags = QR | RA | query.flags & (RD | CD) | rcode
        self._head = pack_header(0, flags, 1, *counts, int(self._edns))[2:]
        self._code = _EDE_CODES.get(decision.reason, EDE_BLOCKED) if ede is None else ede
        self._text = _text(decision)[:MAX_TEXT]
        # An answer is never longer than the smallest limit of a client with EDNS, so that it need not be cut.
        self._room = 512 - HEADER - len(self._body) - 17
        self._whole: dict[int, tuple[int, bytes]] = {}
        """By the size of a ledger id: the longest question with which the text need not be cut, and what stands
        between question and id then."""

    def render(self, ident: bytes, question: bytes, record_id: str, options: bytes = b"") -> bytes | None:
        """Return the answer; None to stay silent. The parts are `bytes` as they stand in the query.

        `options` are EDNS options beside the extended error.
        """
        if self.dropped:
            return None
        if not self._edns:
            return ident + self._head + question + self._body
        if record_id and not options:
            longest, between = self._whole.get(len(record_id)) or self._prepare(len(record_id))
            if len(question) <= longest:
                return b"".join((ident, self._head, question, between, record_id.encode("ascii")))
        return self._in_full(ident, question, record_id, options)

    def _prepare(self, size: int) -> tuple[int, bytes]:
        """Put together what is the same for all ids of a size, as long as the text need not be cut."""
        text = self._text + b" id="
        option = ede_option(self._code, text + bytes(size))
        between = self._body + self._opt + len(option).to_bytes(2) + option[:-size]
        found = self._whole[size] = self._room - len(text) - size, between
        return found

    def _in_full(self, ident: bytes, question: bytes, record_id: str, options: bytes) -> bytes:
        tail = b" id=" + record_id.encode() if record_id else b""
        room = max(self._room - len(question) - len(tail) - len(options), 0)
        options += ede_option(self._code, self._text[:room] + tail)
        return b"".join((ident, self._head, question, self._body, self._opt, len(options).to_bytes(2), options))


def _body(query: Query, reason: Reason, answer: BlockAnswer, ttl: int) -> tuple[int, tuple[int, int], bytes]:
    """Return rcode, record counts and records."""
    if reason in _OWN_FAILURES:
        return Rcode.SERVFAIL, (0, 0), b""
    if answer in ("refused", "drop"):
        return Rcode.REFUSED, (0, 0), b""
    addresses = _ZEROS if answer == "zero-ip" else () if isinstance(answer, str) else answer
    records = _addresses(addresses, query.qtype, ttl)
    if records:
        return Rcode.NOERROR, (len(records), 0), b"".join(records)
    # NXDOMAIN would deny every type of the name, and every name below it (RFC 8020).
    absent = answer == "nxdomain" and reason is not Reason.QTYPE
    return Rcode.NXDOMAIN if absent else Rcode.NOERROR, (0, 1), _absence(ttl)


@lru_cache(maxsize=64)
def _absence(ttl: int) -> bytes:
    """Return the SOA record of a denied name, whichever it is: its owner is a pointer to the question.

    No zone above it is named, for a cache on the way would then have this SOA for names in it that are allowed.
    """
    return _record(soa_record(b"", ttl))


@lru_cache(maxsize=64)
def _addresses(addresses: tuple[IPAddress, ...], qtype: int, ttl: int) -> tuple[bytes, ...]:
    """Return at most five address records of the type asked for."""
    records = (address_record(b"", address, ttl) for address in addresses)
    return tuple(_record(record) for record in records if record.rtype == qtype)[:5]


def _record(record: Record) -> bytes:
    head = struct.pack("!HHHIH", 0xC000 | HEADER, record.rtype, IN, record.ttl, len(record.rdata))
    return head + record.rdata


def _text(decision: Decision) -> bytes:
    """Return the public reason, then what decided. Nothing in it comes from the network."""
    words = [decision.reason.value, decision.rule]
    if decision.matched is not None:
        words.append(decision.matched.list)
    return " ".join(word for word in words if word).encode()


def why(decision: Decision, record_id: str) -> bytes:
    """Return the extended error of a decision, for replies that are no block answers."""
    tail = f" id={record_id}".encode() if record_id else b""
    return ede_option(_EDE_CODES.get(decision.reason, EDE_BLOCKED), _text(decision)[:MAX_TEXT] + tail)


def flawed(data: bytes, error: WireError, options: bytes = b"") -> bytes | None:
    """Return the reply to a message that cannot be answered as asked; None to stay silent. `options` are EDNS options
    for a client that sent EDNS.
    """
    if error.rcode is None:
        return None
    query = error.query
    if query is None:
        flags = int.from_bytes(data[2:4], "big") & (OPCODE | RD)
        opt = _opt_for(data, options)
        return data[:2] + pack_header(0, QR | RA | flags | error.rcode & 0xF, 0, 0, 0, 1 if opt else 0)[2:] + opt
    flags = QR | RA | query.flags & (RD | CD) | error.rcode & 0xF
    if query.edns is None:
        return pack_header(query.id, flags, 1, 0, 0, 0) + query.question
    opt = encode_opt(dnssec_ok=query.edns.dnssec_ok, extended=error.rcode, options=options)
    return pack_header(query.id, flags, 1, 0, 0, 1) + query.question + opt


def _opt_for(data: bytes, options: bytes = b"") -> bytes:
    """Return the OPT record for the reply to a message that could not be read: it had one if that is what follows the
    question (RFC 6891 section 7).
    """
    at = question_end(data) if data[4:6] == b"\0\1" else HEADER
    if not at or data[6:10] != bytes(4) or data[10:12] == b"\0\0" or len(data) < at + 11:
        return b""
    if data[at] or int.from_bytes(data[at + 1 : at + 3], "big") != Type.OPT:
        return b""
    return encode_opt(dnssec_ok=bool(int.from_bytes(data[at + 7 : at + 9], "big") & EDNS_DO), options=options)


def over_limit(data: bytes, options: bytes = b"") -> bytes | None:
    """Return the reply that makes a client come over TCP, without having read much; None for what is no query.
    `options` are EDNS options for a client that sent EDNS.
    """
    end = question_end(data)
    flags = int.from_bytes(data[2:4], "big")
    if not end or flags & (QR | OPCODE) or data[4:6] != b"\0\1":
        return None
    opt = _opt_for(data, options)
    head = pack_header(0, QR | TC | RA | flags & (RD | CD), 1, 0, 0, 1 if opt else 0)
    return data[:2] + head[2:] + data[HEADER:end] + opt


def servfail(query: Query) -> bytes:
    """Return the barest answer there is, for when nothing else works."""
    flags = QR | RA | query.flags & (RD | CD) | Rcode.SERVFAIL
    opt = opt_of(query)
    return pack_header(query.id, flags, 1, 0, 0, 1 if opt else 0) + query.question + opt


assert HEADER + 259 + 170 + 17 + 28 <= 512 < UDP_SIZE  # the longest block answer, but for its text, fits
