"""Answers that need no upstream: configured records, special-use names, and what is refused to all alike.

Pure: no I/O, no clock. Policy has been asked before any of this.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from gateway.addresses import IPAddress
from gateway.dns.message import Answer, encode_name, make_answer, soa_record
from gateway.dns.records import TTL, LocalData, LocalRecords, aliases, of_type, parse_data, targets
from gateway.dns.wire import IN, Rcode, Record, Type
from gateway.names import is_localhost, suffixes

_ANY_TTL = 3600
_RFC8482 = b"\x07RFC8482\x00"
_META = frozenset((0, int(Type.OPT), *range(128, 255)))
_LOOPBACK: tuple[IPAddress | LocalData, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_LOCALHOST = (parse_data("ptr", "localhost"),)
_NAT64 = "ipv4only.arpa"
"""Asked for to find out whether there is NAT64 (RFC 7050). Its IPv4 addresses are well known and reserved (RFC 8880
section 7): no rebinding. Whether it has others, the upstream knows.
"""
_BUILT_IN: LocalRecords = {
    _NAT64: (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171")),
    "1.0.0.127.in-addr.arpa": _LOCALHOST,
    "1." + "0." * 31 + "ip6.arpa": _LOCALHOST,
}
_NEVER_SENT = frozenset(("local", "onion", "invalid", "alt"))
"""Top-level names that have no place in the DNS: RFC 6762, RFC 7686, RFC 6761 section 6.4, RFC 9476.

`test` is not among them: people run zones of that name.
"""
_EMPTY_ZONES = frozenset(
    (
        "home.arpa",  # RFC 8375
        "resolver.arpa",  # RFC 9462 section 6.4: or clients would learn how to go round this resolver
        # Reverse zones of what is not on the Internet: RFC 6303, RFC 7793.
        *(f"{zone}.in-addr.arpa" for zone in ("0", "10", "127", "254.169", "168.192", "255.255.255.255")),
        *(f"{zone}.in-addr.arpa" for zone in ("2.0.192", "100.51.198", "113.0.203")),
        *(f"{second}.172.in-addr.arpa" for second in range(16, 32)),
        *(f"{second}.100.in-addr.arpa" for second in range(64, 128)),
        *(f"{zone}.ip6.arpa" for zone in ("d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2")),
        *(f"{digit}." + "0." * 31 + "ip6.arpa" for digit in (0, 1)),
    )
)
"""Zones that are served here, and empty."""


def is_meta(qtype: int) -> bool:
    """Say whether a type asks for something other than records: transfers, signatures (RFC 6895 section 3.1)."""
    return qtype in _META


def local_answer(name: str, qtype: int, records: LocalRecords) -> Answer | None:
    """Return the answer that needs nobody else, if there is one.

    There is none for a local CNAME that leads to a name that is not local: see `records.aliases`.
    """
    if name not in records and name not in _BUILT_IN and qtype != Type.ANY and not is_localhost(name):
        return None
    if qtype == Type.ANY:
        owner = encode_name(name)
        return make_answer(owner, [Record(owner, Type.HINFO, IN, _ANY_TTL, _RFC8482)], ttl=_ANY_TTL)  # RFC 8482
    chain, end = aliases(name, qtype, records)
    entries = local_data(end, qtype, records)
    if entries is None:
        return None
    owner = encode_name(end)
    found = of_type(owner, qtype, entries)
    return make_answer(
        chain[0].owner if chain else owner,
        chain + found,
        () if found else [soa_record(owner, TTL)],
        ttl=TTL,
        chain=targets((*chain, *found)),
        addresses=tuple(entry for entry in entries if not isinstance(entry, LocalData) and _type_of(entry) == qtype),
        trusted=True,
        authoritative=True,
    )


def local_data(name: str, qtype: int, records: LocalRecords) -> Sequence[IPAddress | LocalData] | None:
    """Return all that a name has which is known here alone; None where it is for others to say."""
    entries = records.get(name)
    if entries is None and not (name == _NAT64 and qtype != Type.A):
        entries = _LOOPBACK if is_localhost(name) else _BUILT_IN.get(name)
    return entries


def _type_of(address: IPAddress) -> int:
    return Type.A if address.version == 4 else Type.AAAA


def names_above(names: Iterable[str]) -> frozenset[str]:
    """Return the names that have some of these below them, or a built-in one: they exist, though they have no records
    (RFC 8020), and who is told otherwise may take what is below for absent, too.
    """
    return frozenset(above for name in (*names, *_BUILT_IN) for above in suffixes(name.partition(".")[2]))


def special_answer(name: str, qtype: int = Type.A, above: Container[str] = ()) -> Answer | None:
    """Return the absence of names that must not be sent to any upstream but one configured for them. Those `above`
    others have no records.
    """
    top = name.rpartition(".")[2]
    if top in _NEVER_SENT:
        return absent(name, top, above)
    if top == "arpa":
        zone = next((suffix for suffix in suffixes(name) if suffix in _EMPTY_ZONES), None)
        # Whether the delegation is signed is a question to the zone above.
        if zone is not None and not (name == zone and qtype == Type.DS):
            return absent(name, zone, above) if name != zone else _apex(zone, qtype)
    return None


def absent(name: str, zone: str, above: Container[str] = ()) -> Answer:
    """Return the absence of a name below a zone that is served here, or of its records if it is `above` others."""
    rcode = Rcode.NOERROR if name in above else Rcode.NXDOMAIN
    soa = [soa_record(encode_name(zone), TTL)]
    return make_answer(encode_name(name), (), soa, rcode=rcode, ttl=TTL, authoritative=True)


def _apex(zone: str, qtype: int) -> Answer:
    """Answer for the top of an empty zone, which exists: it has an SOA (RFC 6303 section 3)."""
    owner = encode_name(zone)
    soa = [soa_record(owner, TTL)]
    wanted = qtype == Type.SOA
    return make_answer(owner, soa if wanted else (), () if wanted else soa, ttl=TTL, authoritative=True)


def zone_of[V](name: str, zones: Mapping[str, V]) -> V | None:
    """Return what is configured for the longest zone that holds the name."""
    if not zones:
        return None
    return next((zones[suffix] for suffix in suffixes(name) if suffix in zones), None)
