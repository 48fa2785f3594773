"""What of a response answers the question: its CNAME chain, the records at the end of it, and the proof of absence.

Pure: no I/O, no clock. Everything else an upstream sends along is left out, because nobody asked for it and nobody
judged it. What is kept is also what a decision is made on: every name and every address in it.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from gateway.addresses import IPAddress
from gateway.dns.message import Answer, make_answer
from gateway.dns.servicebinding import read_service, without_ech
from gateway.dns.wire import AD, IN, Rcode, Record, Response, Type, WireError, name_text

MAX_CHAIN = 16
"""CNAMEs followed. Unbound gives up after 11; longer chains are loops or attacks."""
MAX_ADDRESSES = 512
"""Addresses in one answer: each is judged, for every client anew."""
_PROOFS = (Type.NSEC, Type.NSEC3)


class Limits(NamedTuple):
    """How long answers may be kept, in seconds."""

    min_ttl: int = 0
    max_ttl: int = 86400
    negative_ttl: int = 300


class Trust(NamedTuple):
    """What is believed of an upstream, and what is taken out of its answers."""

    zone: bool = False
    """It serves a forward zone: private addresses are expected."""
    authentic: bool = False
    """Its AD bit is passed on."""
    strip_ech: bool = False


_PLAIN = Trust()


class _Facts:
    """Names and addresses met, each once, in order."""

    def __init__(self) -> None:
        self.chain: dict[str, None] = {}
        self.addresses: dict[IPAddress, None] = {}


def select(
    response: Response,
    name: bytes,
    qtype: int,
    limits: Limits,
    trust: Trust = _PLAIN,
    *,
    aliases: Sequence[Record] = (),
) -> Answer:
    """Return what of a response answers the question (`name` in wire form, lower case).

    `aliases` are CNAME records of our own that led from what the client asked to `name`; they go in front.

    Raises:
        WireError: a record that belongs to the answer is malformed, or the chain has no end.
    """
    path, kept = _follow(response.answers, name, qtype)
    stripped = trust.strip_ech and _strip(kept)
    facts = _Facts()
    for alias in aliases:
        facts.chain[name_text(alias.rdata)] = None
    for step in path[1:]:
        facts.chain[name_text(step)] = None
    data = [record for record in kept if record.rtype == qtype and record.owner.lower() == path[-1]]
    for record in data:
        _gather(record, facts)
    if len(facts.addresses) > MAX_ADDRESSES:
        raise WireError("more addresses than any honest answer has")
    negative = response.rcode != Rcode.NOERROR or not data
    authority = _authority(response.authority, path[-1], negative=negative)
    kept = [*aliases, *kept]
    if negative:
        ttl = _negative_ttl(authority, limits)
        if kept:
            ttl = min(ttl, *(_clamp(record.ttl, limits) for record in kept))
        authority = [record._replace(ttl=min(record.ttl, ttl)) for record in authority]
    else:
        ttl = min(_clamp(record.ttl, limits) for record in kept)
    return make_answer(
        aliases[0].owner if aliases else name,
        [record._replace(ttl=_clamp(record.ttl, limits)) for record in kept],
        authority,
        rcode=response.rcode,
        ttl=ttl,
        chain=tuple(facts.chain),
        addresses=tuple(facts.addresses),
        trusted=trust.zone,
        authentic=trust.authentic and bool(response.flags & AD) and not stripped and not aliases,
    )


def _strip(records: list[Record]) -> bool:
    """Take ECH keys out of service records, in place. Returns whether there were any.

    What is changed is no longer what was signed, so its signature goes: a client that validates for itself then finds
    the answer bogus, which is what stripping means to it. `strip: {ech: false}` leaves both.
    """
    changed: set[tuple[bytes, int]] = set()
    for at, record in enumerate(records):
        if record.rtype in (Type.SVCB, Type.HTTPS):
            rdata = without_ech(record.rdata)
            if rdata != record.rdata:
                records[at] = record._replace(rdata=rdata)
                changed.add((record.owner.lower(), record.rtype))
    if changed:
        records[:] = [
            record
            for record in records
            if record.rtype != Type.RRSIG or (record.owner.lower(), _covers(record)) not in changed
        ]
    return bool(changed)


def _follow(records: tuple[Record, ...], name: bytes, qtype: int) -> tuple[list[bytes], list[Record]]:
    """Return the names from the question to the end of its CNAME chain, and the records that belong to them."""
    aliases: dict[bytes, Record] = {}
    for record in records:
        if record.rtype == Type.CNAME and record.rclass == IN:
            aliases.setdefault(record.owner.lower(), record)
    path = [name]
    while qtype != Type.CNAME and (alias := aliases.get(path[-1])) is not None:
        target = alias.rdata.lower()
        if target in path or len(path) > MAX_CHAIN:
            raise WireError("CNAME chain without an end")
        path.append(target)
    on_path = set(path)
    kept: list[Record] = []
    for record in records:
        if record.rclass != IN:
            continue
        owner = record.owner.lower()
        if record.rtype == Type.DNAME:
            # One above a name of the chain made that name's CNAME; one at its end is an answer.
            belongs = any(step != owner and is_within(step, owner) for step in path)
            belongs = belongs or (qtype == Type.DNAME and owner == path[-1])
        elif record.rtype == Type.RRSIG:
            belongs = owner in on_path or any(is_within(step, owner) for step in path)
        elif record.rtype == Type.CNAME and qtype != Type.CNAME:
            belongs = owner in on_path and aliases[owner] is record
        else:
            belongs = record.rtype == qtype and owner == path[-1]
        if belongs:
            kept.append(record)
    return path, kept


def is_within(name: bytes, zone: bytes) -> bool:
    """Say whether a wire name is a zone's apex or below it; both in the same letter case.

    >>> is_within(bytes([1]) + b"a" + bytes([1]) + b"b" + bytes(1), bytes([1]) + b"b" + bytes(1))
    True
    """
    if not name.endswith(zone):
        return False
    at, start = 0, len(name) - len(zone)
    while at < start:
        at += name[at] + 1
    return at == start


def _authority(records: tuple[Record, ...], name: bytes, *, negative: bool) -> list[Record]:
    """Return the SOA of a negative answer, and DNSSEC proofs (of absence, or of a wildcard's expansion)."""
    kept: list[Record] = []
    for record in records:
        if record.rclass != IN:
            continue
        owner = record.owner.lower()
        if record.rtype == Type.SOA:
            belongs = negative and is_within(name, owner)
        else:
            belongs = record.rtype in _PROOFS or (record.rtype == Type.RRSIG and _covers(record) != Type.NS)
        if belongs:
            kept.append(record)
    return kept


def _covers(signature: Record) -> int:
    return int.from_bytes(signature.rdata[:2], "big")


def _negative_ttl(authority: list[Record], limits: Limits) -> int:
    """Return how long absence may be remembered (RFC 2308 section 5): not at all without an SOA."""
    for record in authority:
        if record.rtype == Type.SOA:
            minimum = int.from_bytes(record.rdata[-4:], "big")
            # A proof of absence that came along lives no longer than itself (RFC 9077).
            return min(minimum, limits.negative_ttl, *(proof.ttl for proof in authority))
    return 0


def _clamp(ttl: int, limits: Limits) -> int:
    return min(max(ttl, limits.min_ttl), limits.max_ttl)


def _gather(record: Record, facts: _Facts) -> None:
    """Note every address in a record, and every name that a client would go on to."""
    if record.rtype == Type.A:
        facts.addresses[IPv4Address(record.rdata)] = None
    elif record.rtype == Type.AAAA:
        facts.addresses[IPv6Address(record.rdata)] = None
    elif record.rtype in (Type.SVCB, Type.HTTPS):
        service = read_service(record.rdata)
        if service.target:
            facts.chain[service.target] = None
        facts.addresses.update(dict.fromkeys(service.hints))
    elif record.rtype in (Type.CNAME, Type.DNAME):
        facts.chain[name_text(record.rdata)] = None
