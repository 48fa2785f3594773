"""The costliest messages there are, of clients and of upstreams: each does as much as it can of one thing.

They are legal, or nearly: what is turned away at the first octet costs nothing. Names say what is done too often.
"""

import itertools
import struct
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import NamedTuple

from gateway.dns.bailiwick import MAX_ADDRESSES, MAX_SERVICE
from gateway.dns.message import encode_name
from gateway.dns.wire import MAX_RECORDS

LARGEST = 65535
A, NS, CNAME, SOA, MINFO, MX, TXT, RP, AAAA, OPT, DNAME, RRSIG, NSEC, SVCB, HTTPS = (
    *(1, 2, 5, 6, 14, 15, 16, 17, 28, 41, 39, 46, 47, 64, 65),
)
OWNER = b"\xc0\x0c"
"""A pointer to the question."""
HASH_PRIME = (1 << 61) - 1
"""Integers that differ by a multiple of it have the same hash in Python, whatever its seed."""


class Bomb(NamedTuple):
    """A question, and what an upstream answers to it."""

    name: bytes
    """In wire form."""
    qtype: int
    packet: bytes


def record(name: bytes, rtype: int, rdata: bytes, *, ttl: int = 60, rclass: int = 1) -> bytes:
    """Return a record."""
    return name + struct.pack("!HHIH", rtype, rclass, ttl, len(rdata)) + rdata


def bomb(
    answers: list[bytes],
    authority: list[bytes] | None = None,
    additional: list[bytes] | None = None,
    *,
    name: bytes = encode_name("www.example.com"),
    qtype: int = A,
    rcode: int = 0,
) -> Bomb:
    """Return a response of as many of these records as a message can have."""
    out = bytearray(name + struct.pack("!HH", qtype, 1))
    counts = [0, 0, 0]
    for section, records in enumerate((answers, authority or [], additional or [])):
        for each in records:
            if 12 + len(out) + len(each) > LARGEST:
                break
            out += each
            counts[section] += 1
    return Bomb(name, qtype, struct.pack("!6H", 1, 0x8180 | rcode, 1, *counts) + out)


def pointer(at: int) -> bytes:
    """Return a compression pointer."""
    return (0xC000 | at).to_bytes(2, "big")


def address(number: int) -> bytes:
    """Return a public IPv4 address."""
    return (0x5DB80000 + number).to_bytes(4, "big")


LONG = b"\1\xff" * 125 + b"\1a\0"
"""A name of 126 labels, each of which has to be escaped."""
AFTER = 12 + len(LONG) + 4
"""Where records begin in a response about it."""


def long_names(rtype: int, before: bytes = b"", behind: bytes = b"", count: int = MAX_RECORDS) -> Bomb:
    """Return records whose RDATA are the longest names, each another, written in four octets."""
    rdata = (before + b"\1" + bytes((number & 0xFF,)) + pointer(14) for number in range(count))
    return bomb([record(OWNER, rtype, data + behind) for data in rdata], name=LONG, qtype=rtype)


def beyond_pointers() -> Bomb:
    """Return names that could be compressed if those before them did not take all the room that pointers reach."""
    pair = pointer(14) + pointer(14)  # which has to be written out in full, in 500 octets
    names = [b"\1" + bytes((number,)) + b"\1b" * 124 + b"\0" for number in range(100)]
    return bomb([record(OWNER, RP, pair)] * 32, [record(name, NSEC, b"") for name in names], name=LONG, qtype=RP)


def misaligned(rtype: int, *, authority: bool = False) -> Bomb:
    """Return records of zones that the names of a chain seem to end in, but for where their labels begin."""
    tail = b"\3\2\1\1\0"
    path = [b"\1\1" * 123 + b"\1" + bytes((number,)) + tail for number in range(16)]
    chain: list[bytes] = []
    for name, target in itertools.pairwise(path):
        chain.append(record(name, CNAME, target))
    rdata = b"\0" if rtype == DNAME else b"\0" + bytes(24) if rtype == SOA else b"\0\1" + bytes(16)
    if rtype == SOA:
        rdata = b"\0\0" + bytes(20)
    zones = [record(b"\2\1\1\0", rtype, rdata)] * (MAX_RECORDS - len(chain))
    if authority:
        return bomb(chain, zones, name=path[0], rcode=3)
    return bomb(chain + zones, name=path[0])


def chain(length: int, labels: int = 120) -> Bomb:
    """Return a chain of aliases with long names, and an address at its end."""
    names = [b"\1\xff" * labels + b"\3%03d\0" % number for number in range(length + 1)]
    aliases = [record(name, CNAME, target) for name, target in itertools.pairwise(names)]
    return bomb([*aliases, record(names[-1], A, address(1))], name=names[0])


def service(parameters: bytes, count: int = MAX_RECORDS, target: bytes = b"\0") -> Bomb:
    """Return service records."""
    return bomb([record(OWNER, HTTPS, b"\0\1" + target + parameters)] * count, qtype=HTTPS)


def parameter(key: int, value: bytes = b"") -> bytes:
    """Return a parameter of a service record."""
    return struct.pack("!HH", key, len(value)) + value


def equal_hashes(count: int) -> list[bytes]:
    """Return IPv6 addresses that Python's dictionaries cannot tell apart without comparing them."""
    first = int(IPv6Address("2606:4700::1"))
    return [(first + number * HASH_PRIME).to_bytes(16, "big") for number in range(count)]


def pointers_in_a_row() -> Bomb:
    """Return names that spend most of the steps, then one more that is nothing but pointers."""
    start = 12 + 17 + 4 + 12
    hops = b"\1a\0" + pointer(start) + b"".join(pointer(start + 3 + 2 * number) for number in range(8000))
    steps = [record(b"\1b" * 78 + b"\0", TXT, b"")] * 100
    return bomb([record(OWNER, TXT, hops), *steps, record(pointer(start + 3 + 15900), A, address(1))])


def compression(records: int = MAX_RECORDS - 1) -> Bomb:
    """Return records whose owners all point into long names, each somewhere else."""
    names = b"".join(b"\1a" * 126 + b"\0" for _ in range(40))
    base = 12 + 17 + 4 + 11
    owners = [pointer(min(base + 253 * (number % 40) + 2 * (number // 40), 0x3FFF)) for number in range(records)]
    return bomb([record(b"\0", TXT, names), *(record(owner, A, address(1)) for owner in owners)])


def names_in_names() -> Bomb:
    """Return names each of which is one label and a pointer to the name before."""
    out, at, previous = [], 12 + 17 + 4, 12
    while at < 0x3FF0:
        out.append(record(b"\1a" + pointer(previous), A, address(1)))
        previous, at = at, at + len(out[-1])
    return bomb(out)


def addresses(count: int) -> Bomb:
    """Return different addresses."""
    return bomb([record(OWNER, A, address(number)) for number in range(count)])


UPSTREAM: dict[str, Callable[[], Bomb]] = {
    "compression bomb": compression,
    "names in names": names_in_names,
    "a row of pointers": pointers_in_a_row,
    "as many addresses as may be": lambda: addresses(MAX_ADDRESSES),
    "one address too many": lambda: addresses(MAX_ADDRESSES + 1),
    "listed addresses": lambda: bomb(
        [record(OWNER, A, bytes((45, 0, 0, number & 255))) for number in range(MAX_RECORDS)]
    ),
    "private addresses": lambda: bomb(
        [record(OWNER, A, bytes((10, 0, number >> 8, number & 255))) for number in range(MAX_RECORDS)]
    ),
    "IPv6 addresses": lambda: bomb(
        [record(OWNER, AAAA, IPv6Address(f"2606:4700::{number:x}").packed) for number in range(MAX_RECORDS)],
        qtype=AAAA,
    ),
    "private IPv6 addresses": lambda: bomb(
        [record(OWNER, AAAA, IPv6Address(f"fd00::{number:x}").packed) for number in range(MAX_RECORDS)], qtype=AAAA
    ),
    "addresses of one hash": lambda: bomb(
        [record(OWNER, AAAA, packed) for packed in equal_hashes(MAX_ADDRESSES)], qtype=AAAA
    ),
    "equal addresses": lambda: bomb([record(OWNER, A, address(1))] * MAX_RECORDS),
    "4,000 hints of one hash": lambda: service(parameter(6, b"".join(equal_hashes(4000))), 1),
    "hints of one hash": lambda: service(parameter(6, b"".join(equal_hashes(MAX_ADDRESSES))), 1),
    "16,000 equal hints": lambda: service(parameter(4, address(1) * 16000), 1),
    "equal hints": lambda: service(parameter(4, address(1) * (MAX_SERVICE // 4 - 2)), 1),
    "16,000 parameters": lambda: service(b"".join(parameter(number) for number in range(7, 16000)), 1),
    "parameters": lambda: service(b"".join(parameter(number) for number in range(7, MAX_SERVICE // 4)), 1),
    "parameters that go": lambda: service(parameter(5) * (MAX_SERVICE // 4 - 1), 1),
    "30,000 mandatory keys": lambda: service(parameter(0, b"\0\5" * 30_000), 1),
    "mandatory keys": lambda: service(parameter(0, b"\0\5" * (MAX_SERVICE // 2 - 4)), 1),
    "service records": lambda: service(parameter(5, b"a"), MAX_RECORDS),
    "long targets": lambda: bomb(
        [record(OWNER, HTTPS, b"\0\1\1" + bytes((number,)) + b"\1\xff" * 125 + b"\0") for number in range(31)],
        qtype=HTTPS,
    ),
    "240 long targets": lambda: service(b"", target=b"\1\xff" * 126 + b"\0"),
    "long aliases, asked for": lambda: long_names(CNAME),
    "long DNAMEs, asked for": lambda: long_names(DNAME),
    "long exchanges": lambda: long_names(MX, b"\0\1"),
    "long pairs of names": lambda: long_names(RP, pointer(14)),
    "long SOAs, asked for": lambda: long_names(SOA, pointer(14), bytes(20)),
    "names beyond the reach of pointers": beyond_pointers,
    "misaligned DNAMEs": lambda: misaligned(DNAME),
    "misaligned signatures": lambda: misaligned(RRSIG),
    "misaligned SOAs": lambda: misaligned(SOA, authority=True),
    "SOAs": lambda: bomb([], [record(OWNER, SOA, b"\0\0" + bytes(20))] * MAX_RECORDS, rcode=3),
    "proofs": lambda: bomb([], [record(OWNER, NSEC, b"")] * MAX_RECORDS, rcode=3),
    "signatures": lambda: bomb([record(OWNER, RRSIG, b"\0\1" + bytes(16))] * MAX_RECORDS),
    "chain of 16 long names": lambda: chain(16),
    "chain of 8 long names": lambda: chain(8),
    "chain of 16 names of 61 labels": lambda: chain(16, 61),
    "chain of 100 long names": lambda: chain(100),
    "chain of 400 names": lambda: bomb(
        [
            record(encode_name(f"{number}.example.com"), CNAME, encode_name(f"{number + 1}.example.com"))
            for number in range(MAX_RECORDS)
        ],
        name=encode_name("0.example.com"),
    ),
    "long names in the additional section": lambda: bomb(
        [record(OWNER, A, address(1))], None, [record(b"\1a" * 126 + b"\0", A, address(1))] * 1000
    ),
    "additional records": lambda: bomb(
        [record(OWNER, A, address(1))], None, [record(b"\0", A, address(1))] * (MAX_RECORDS - 1)
    ),
    "64 KB in one record": lambda: bomb([record(OWNER, TXT, bytes(65000))], qtype=TXT),
    "64 KB of records": lambda: bomb([record(OWNER, TXT, bytes(150))] * MAX_RECORDS, qtype=TXT),
    "64 KB of records of another type": lambda: bomb([record(b"\0", TXT, bytes(150))] * MAX_RECORDS),
    "64 KB of empty records": lambda: bomb([record(b"\0", TXT, b"")] * 5900),
    "64 KB of labels": lambda: bomb([record(b"\1a" * 126 + b"\0", TXT, b"")] * MAX_RECORDS),
    "64 KB of labels in RDATA": lambda: bomb([record(OWNER, CNAME, b"\1a" * 32_000)]),
    "10,000 EDNS options": lambda: bomb(
        [record(OWNER, A, address(1))], None, [record(b"\0", OPT, b"\xff\0\0\0" * 10_000)]
    ),
}
"""What an upstream can send, over TCP or TLS."""


def query(name: bytes, options: bytes | None = None, *, qtype: int = A, additional: bytes = b"") -> bytes:
    """Return a query."""
    opt = b"" if options is None else record(b"\0", OPT, options, rclass=1232, ttl=0)
    count = (options is not None) + bool(additional)
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, count) + name + struct.pack("!HH", qtype, 1) + additional + opt


def option(code: int, value: bytes = b"") -> bytes:
    """Return an EDNS option."""
    return struct.pack("!HH", code, len(value)) + value


def quads(zone: str = "nip.io") -> bytes:
    """Return a name that stands for as many addresses as it can hold."""
    return encode_name(".".join(["1"] * 123) + "." + zone)


CLIENT: dict[str, Callable[[], bytes]] = {
    "long name": lambda: query(b"\1a" * 127 + b"\0"),
    "long name of octets to be escaped": lambda: query(b"\1\xff" * 127 + b"\0"),
    "four labels of octets to be escaped": lambda: query(
        (b"\x3f" + b"\xff" * 63) * 3 + b"\x3d" + b"\xff" * 61 + b"\0"
    ),
    "name full of addresses": lambda: query(quads()),
    "name full of dashes": lambda: query(encode_name(".".join(["-" * 62 + "x"] * 3) + ".x.nip.io")),
    "listed long name": lambda: query(b"\1a" * 120 + encode_name("bad.example")),
    "localhost far down": lambda: query(b"\1a" * 120 + encode_name("localhost")),
    "long name under arpa": lambda: query(b"\1a" * 120 + encode_name("ip6.arpa")),
    "64 options": lambda: query(encode_name("www.example.com"), option(65001) * 64),
    "64 cookies": lambda: query(encode_name("www.example.com"), option(10, bytes(40)) * 64),
    "64 KB in one option": lambda: query(encode_name("www.example.com"), option(65001, bytes(65000))),
    "10,000 options": lambda: query(encode_name("www.example.com"), option(65001) * 10_000),
    "64 KB of labels": lambda: struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\1a" * 32_700,
    "64 KB of pointers": lambda: struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + OWNER * 32_700,
    "64 KB of zeros": lambda: struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + bytes(65_000),
    "64 KB of additional records": lambda: (
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, 5000)
        + query(encode_name("www.example.com"))[12:]
        + record(b"\0", A, b"") * 5000
    ),
    "long additional names": lambda: query(
        encode_name("www.example.com"), additional=record(b"\1a" * 250 + b"\0", 250, bytes(60_000))
    ),
    "malformed at its end": lambda: query(b"\1a" * 127 + b"\0", option(65001, bytes(60_000))) + b"x",
    "type ANY": lambda: query(b"\1a" * 127 + b"\0", qtype=255),
}
"""What a client can send, over any transport."""
