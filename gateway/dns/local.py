"""Answers that need no upstream: configured records, special-use names, and what is refused to all alike.

Pure: no I/O, no clock. Policy has been asked before any of this.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from gateway.addresses import IPAddress
from gateway.dns.message import Answer, address_record, encode_name, make_answer, soa_record
from gateway.dns.wire import IN, Rcode, Record, Type
from gateway.names import suffixes

TTL = 60
"""Of local records, in seconds: a change of the configuration is seen within a minute."""
_ANY_TTL = 3600
_LOOPBACK: tuple[IPAddress, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_NEVER_SENT = frozenset(("local", "onion", "invalid"))
"""Top-level names that have no place in the DNS: RFC 6762, RFC 7686, RFC 6761 section 6.4."""
_RFC8482 = b"\x07RFC8482\x00"


def is_meta(qtype: int) -> bool:
    """Say whether a type asks for something other than records: transfers, signatures (RFC 6895 section 3.1)."""
    return 128 <= qtype < 255 or qtype in (0, Type.OPT)


def local_answer(name: str, qtype: int, records: Mapping[str, Sequence[IPAddress]]) -> Answer | None:
    """Return the answer that needs nobody else, if there is one."""
    if qtype == Type.ANY:
        owner = encode_name(name)
        return make_answer(owner, [Record(owner, Type.HINFO, IN, _ANY_TTL, _RFC8482)], ttl=_ANY_TTL)  # RFC 8482
    addresses = records.get(name)
    if addresses is None and (name == "localhost" or name.endswith(".localhost")):
        addresses = _LOOPBACK
    return None if addresses is None else _answer(name, qtype, addresses)


def special_answer(name: str) -> Answer | None:
    """Return NXDOMAIN for names that must not be sent to any upstream but one configured for them."""
    if name.rpartition(".")[2] not in _NEVER_SENT:
        return None
    owner = encode_name(name)
    return make_answer(owner, (), [soa_record(owner, TTL)], rcode=Rcode.NXDOMAIN, ttl=TTL)


def zone_of[V](name: str, zones: Mapping[str, V]) -> V | None:
    """Return what is configured for the longest zone that holds the name."""
    if not zones:
        return None
    return next((zones[suffix] for suffix in suffixes(name) if suffix in zones), None)


def _answer(name: str, qtype: int, addresses: Sequence[IPAddress]) -> Answer:
    owner = encode_name(name)
    wanted = 4 if qtype == Type.A else 6 if qtype == Type.AAAA else 0
    found = tuple(address for address in addresses if address.version == wanted)
    return make_answer(
        owner,
        [address_record(owner, address, TTL) for address in found],
        () if found else [soa_record(owner, TTL)],
        ttl=TTL,
        addresses=found,
        trusted=True,
        authoritative=True,
    )
