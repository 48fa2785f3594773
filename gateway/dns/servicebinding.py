"""Service binding records (SVCB and HTTPS, RFC 9460): what is judged in them, and what is taken out.

Pure: no I/O, no clock. RDATA is a priority, a target name and parameters of the form key, length, value.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from gateway.dns.wire import WireError

_pack_pair = struct.Struct("!HH").pack
_pair = struct.Struct("!HH").unpack_from

_MANDATORY, _IPV4_HINT, _ECH, _IPV6_HINT = 0, 4, 5, 6
_HINT_SIZES = {_IPV4_HINT: 4, _IPV6_HINT: 16}
"""Octets of an address in a hint (RFC 9460 section 7.3)."""


class Service(NamedTuple):
    """Where a service binding sends a client."""

    target: bytes
    """In wire form; the root stands for the owner's own name."""
    hints: tuple[bytes, ...]
    """Addresses, four or sixteen octets each."""


def read_service(rdata: bytes) -> Service:
    """Return the target and the address hints of a record.

    Raises:
        WireError: it is malformed.
    """
    end = _target_end(rdata)
    hints: list[bytes] = []
    for key, value in _parameters(rdata, end):
        size = _HINT_SIZES.get(key)
        if size is None:
            continue
        if not value or len(value) % size:
            raise WireError("address hint of the wrong length")
        hints += [value[start : start + size] for start in range(0, len(value), size)]
    return Service(rdata[2:end], tuple(hints))


def without_ech(rdata: bytes) -> bytes:
    """Return a record without keys for Encrypted ClientHello (RFC 9848), and no longer calling them mandatory.

    Raises:
        WireError: it is malformed.

    >>> without_ech(bytes.fromhex("000100 00050002abcd 00010003026832")).hex()
    '00010000010003026832'
    """
    end = _target_end(rdata)
    out = bytearray(rdata[:end])
    for key, value in _parameters(rdata, end):
        if key == _ECH:
            continue
        if key == _MANDATORY:
            pairs = (value[at : at + 2] for at in range(0, len(value), 2))
            value = b"".join(pair for pair in pairs if pair != _ECH.to_bytes(2, "big"))
            if not value:
                continue
        out += _pack_pair(key, len(value))
        out += value
    return bytes(out)


def _target_end(rdata: bytes) -> int:
    at = 2
    while at < len(rdata) and rdata[at]:
        if rdata[at] > 63:
            raise WireError("compressed name in a service record")
        at += rdata[at] + 1
    if at >= len(rdata) or at - 1 > 255:
        raise WireError("service record cut short")
    return at + 1


def _parameters(rdata: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    size = len(rdata)
    while at < size:
        if at + 4 > size:
            raise WireError("service parameter cut short")
        key, length = _pair(rdata, at)
        at += 4
        end = at + length
        if end > size:
            raise WireError("service parameter cut short")
        yield key, rdata[at:end]
        at = end
