"""What is done to an encoded answer before it leaves over an encrypted transport: padding, and its time to live.

Pure: no I/O, no clock. Reads only what this process has encoded itself.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from gateway.dns.message import STREAM_SIZE
from gateway.dns.wire import HEADER, Rcode, Type, question_end

BLOCK = 468
"""Answers are padded to a multiple of this (RFC 8467 section 4.1)."""
_PADDING = 12  # option code, RFC 7830

_record = struct.Struct("!HHIH").unpack_from
_counts = struct.Struct("!4H").unpack_from


class _Span(NamedTuple):
    rtype: int
    ttl: int
    rdata: int
    """Where its RDATA begins."""
    end: int
    section: int
    """0 answer, 1 authority, 2 additional."""


def padded(reply: bytes) -> bytes:
    """Return an answer padded, so that its length tells little of what was asked.

    An answer without OPT record is left alone: its client sent none, so it may have none (RFC 6891 section 6.1.1).
    """
    if len(reply) < HEADER or not _counts(reply, 4)[3]:
        return reply
    last = None
    for span in _spans(reply):
        last = span
    if last is None or last.rtype != Type.OPT or last.end != len(reply):
        return reply
    missing = -(len(reply) + 4) % BLOCK
    if len(reply) + 4 + missing > STREAM_SIZE:
        return reply
    length = last.end - last.rdata + 4 + missing
    return (
        reply[: last.rdata - 2]
        + length.to_bytes(2, "big")
        + reply[last.rdata :]
        + struct.pack("!HH", _PADDING, missing)
        + bytes(missing)
    )


def freshness(reply: bytes) -> int:
    """Return for how many seconds an answer may be kept (RFC 8484 section 5.1): 0 for failures."""
    if len(reply) < HEADER or reply[3] & 0xF not in (Rcode.NOERROR, Rcode.NXDOMAIN) or reply[2] & 2:
        return 0
    ttls: tuple[list[int], list[int], list[int]] = ([], [], [])
    for span in _spans(reply):
        ttls[span.section].append(span.ttl)
    return min(ttls[0] or ttls[1] or [0])


def _spans(reply: bytes) -> Iterator[_Span]:
    """Yield where the records of an answer are."""
    at = question_end(reply) or HEADER
    for section, count in enumerate(_counts(reply, 4)[1:]):
        for _ in range(count):
            while (length := reply[at]) and length < 0xC0:
                at += length + 1
            at += 2 if length else 1
            rtype, _, ttl, size = _record(reply, at)
            at += 10 + size
            yield _Span(rtype, ttl, at - size, at, section)
