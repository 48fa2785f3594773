"""What of a response answers the question: its CNAME chain, the records at the end of it, and the proof of absence.

Pure: no I/O, no clock. Everything else an upstream sends along is left out, because nobody asked for it and nobody
judged it. What is kept is also what a decision is made on: every name and every address in it.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from gateway.addresses import IPAddress
from gateway.dns.message import Answer, make_answer
from gateway.dns.servicebinding import read_service, without_ech
from gateway.dns.wire import AD, IN, Rcode, Record, Response, Type, WireError, name_text

MAX_CHAIN = 16
"""CNAMEs followed. Unbound gives up after 11; longer chains are loops or attacks."""
MAX_LABELS = 1_000
"""Labels of all names that an answer leads on to: for each, every list is asked. Chains of 16 names below `ip6.arpa`
have half as many."""
MAX_ADDRESSES = 400
"""Addresses in one answer: each is judged, for every client anew."""
MAX_SERVICE = 8192
"""Octets of service records in one answer, a parameter of which may be four. Honest ones are of a few hundred."""
_SERVICES = (Type.SVCB, Type.HTTPS)
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
    """Names and addresses met, each once, in order.

    Addresses are told apart by their octets: whoever chooses IPv6 addresses can give them all the same hash.
    """

    def __init__(self) -> None:
        self._names: dict[bytes, None] = {}
        self._labels = 0
        self._addresses: dict[bytes, None] = {}

    def add_name(self, wire: bytes) -> None:
        """Note a name in wire form.

        Raises:
            WireError: there are too many.
        """
        wire = wire.lower()
        if wire in self._names:
            return
        self._names[wire] = None
        at = 0
        while wire[at]:
            at += wire[at] + 1
            self._labels += 1
        if self._labels > MAX_LABELS:
            raise WireError("more names than any honest answer leads to")

    def add_address(self, packed: bytes) -> None:
        """Note an address.

        Raises:
            WireError: there are too many.
        """
        self._addresses[packed] = None
        if len(self._addresses) > MAX_ADDRESSES:
            raise WireError("more addresses than any honest answer has")

    @property
    def chain(self) -> tuple[str, ...]:
        """The names."""
        return tuple(name_text(wire) for wire in self._names)

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The addresses."""
        return tuple(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed) for packed in self._addresses)


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

    `aliases` led from what the client asked to `name`: CNAME records of our own, or what `leads_out` returned. They
    go in front, and the first is a CNAME.

    Raises:
        WireError: a record that belongs to the answer is malformed, the chain has no end, or there is more of
            something than any honest answer has.
    """
    path, kept = _follow(response.answers, name, qtype)
    if sum(len(record.rdata) for record in kept if record.rtype in _SERVICES) > MAX_SERVICE:
        raise WireError("service records longer than any honest ones")
    stripped = trust.strip_ech and _strip(kept)
    facts = _Facts()
    for alias in aliases:
        if alias.rtype == Type.CNAME:
            facts.add_name(alias.rdata)
    for step in path[1:]:
        facts.add_name(step)
    data = [record for record in kept if record.rtype == qtype and record.owner.lower() == path[-1]]
    for record in data:
        _gather(record, facts)
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
        [_clamped(record, limits) for record in kept],
        authority,
        rcode=response.rcode,
        ttl=ttl,
        chain=facts.chain,
        addresses=facts.addresses,
        trusted=trust.zone,
        authentic=trust.authentic and bool(response.flags & AD) and not stripped and not aliases,
    )


def leads_out(response: Response, name: bytes, qtype: int) -> tuple[Record, ...]:
    """Return the way from the question to a name that the response says nothing of: its CNAME records in order, and
    what belongs to them. That is how a server answers that knows its own zones and asks nobody. Nothing where there
    is an answer at the end, or the absence of one.
    """
    if response.rcode != Rcode.NOERROR or any(record.rtype == Type.SOA for record in response.authority):
        return ()
    path, kept = _follow(response.answers, name, qtype)
    if any(record.rtype == qtype for record in kept):
        return ()
    order = {owner: at for at, owner in enumerate(path)}
    way = [record for record in kept if record.rtype == Type.CNAME]
    way.sort(key=lambda record: order[record.owner.lower()])
    return (*way, *(record for record in kept if record.rtype != Type.CNAME)) if way else ()


def _strip(records: list[Record]) -> bool:
    """Take ECH keys out of service records, in place. Returns whether there were any.

    What is changed is no longer what was signed, so its signature goes: a client that validates for itself then finds
    the answer bogus, which is what stripping means to it. `strip: {ech: false}` leaves both.
    """
    changed: set[tuple[bytes, int]] = set()
    for at, record in enumerate(records):
        if record.rtype in _SERVICES:
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
    above: set[bytes] | None = None
    kept: list[Record] = []
    for record in records:
        if record.rclass != IN:
            continue
        owner = record.owner.lower()
        if record.rtype == Type.DNAME:
            # One above a name of the chain made that name's CNAME; one at its end is an answer.
            above = _above(path) if above is None else above
            belongs = owner in above or (qtype == Type.DNAME and owner == path[-1])
        elif record.rtype == Type.RRSIG:
            above = _above(path) if above is None else above
            belongs = owner in on_path or owner in above
        elif record.rtype == Type.CNAME and qtype != Type.CNAME:
            belongs = owner in on_path and aliases[owner] is record
        else:
            belongs = record.rtype == qtype and owner == path[-1]
        if belongs:
            kept.append(record)
    return path, kept


def _above(names: Iterable[bytes]) -> set[bytes]:
    """Return every zone that one of some names is below: to look one up is cheaper than to compare each record."""
    found: set[bytes] = set()
    for name in names:
        at = 0
        while name[at]:
            at += name[at] + 1
            found.add(name[at:])
    return found


def _authority(records: tuple[Record, ...], name: bytes, *, negative: bool) -> list[Record]:
    """Return the SOA of a negative answer, and DNSSEC proofs (of absence, or of a wildcard's expansion)."""
    kept: list[Record] = []
    zones = {name, *_above((name,))} if negative else set()
    for record in records:
        if record.rclass != IN:
            continue
        if record.rtype == Type.SOA:
            belongs = record.owner.lower() in zones
            if belongs:
                zones = set()  # a zone has one: more are not needed
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


def _clamped(record: Record, limits: Limits) -> Record:
    ttl = _clamp(record.ttl, limits)
    return record if ttl == record.ttl else record._replace(ttl=ttl)


def _gather(record: Record, facts: _Facts) -> None:
    """Note every address in a record, and every name that a client would go on to."""
    if record.rtype in (Type.A, Type.AAAA):
        facts.add_address(record.rdata)
    elif record.rtype in _SERVICES:
        service = read_service(record.rdata)
        if service.target != b"\0":
            facts.add_name(service.target)
        for hint in service.hints:
            facts.add_address(hint)
    elif record.rtype in (Type.CNAME, Type.DNAME):
        facts.add_name(record.rdata)
