"""IP addresses: parsing, and which class an address belongs to.

Pure: no I/O, no clock. The classes are those a policy can name (`address_class`); everything but `global` is
refused by the built-in protections unless a rule names it.
"""

from bisect import bisect_right
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

_KEYS_KEPT = 8192
"""Clients whose keys are at hand: to write an address takes longer than to look one up."""

type IPAddress = IPv4Address | IPv6Address
type IPNetwork = IPv4Network | IPv6Network


class AddressClass(StrEnum):
    """What kind of place an address is. An address has exactly one class: the most specific that fits."""

    GLOBAL = "global"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"
    MULTICAST = "multicast"
    RESERVED = "reserved"
    CGNAT = "cgnat"
    EMBEDDED_IPV4 = "embedded-ipv4"


# IANA special-purpose address registries (RFC 6890 and updates). A longer prefix wins over a shorter one.
_SPECIAL: tuple[tuple[str, AddressClass], ...] = (
    ("0.0.0.0/8", AddressClass.RESERVED),  # RFC 791 "this network"; 0.0.0.0 reaches the local host on Linux
    ("10.0.0.0/8", AddressClass.PRIVATE),  # RFC 1918
    ("100.64.0.0/10", AddressClass.CGNAT),  # RFC 6598
    ("127.0.0.0/8", AddressClass.LOOPBACK),  # RFC 1122
    ("169.254.0.0/16", AddressClass.LINK_LOCAL),  # RFC 3927
    ("172.16.0.0/12", AddressClass.PRIVATE),  # RFC 1918
    ("192.0.0.0/24", AddressClass.RESERVED),  # RFC 6890 protocol assignments
    ("192.0.2.0/24", AddressClass.RESERVED),  # RFC 5737 documentation
    ("192.88.99.0/24", AddressClass.RESERVED),  # RFC 7526 former 6to4 relays
    ("192.168.0.0/16", AddressClass.PRIVATE),  # RFC 1918
    ("198.18.0.0/15", AddressClass.RESERVED),  # RFC 2544 benchmarking
    ("198.51.100.0/24", AddressClass.RESERVED),  # RFC 5737 documentation
    ("203.0.113.0/24", AddressClass.RESERVED),  # RFC 5737 documentation
    ("224.0.0.0/4", AddressClass.MULTICAST),  # RFC 5771
    ("240.0.0.0/4", AddressClass.RESERVED),  # RFC 1112; holds the limited broadcast address
    # Metadata services hand out credentials to whoever can reach them (ATT&CK T1552.005).
    ("169.254.169.254/32", AddressClass.METADATA),  # AWS, Azure, Google, DigitalOcean, OpenStack ...
    ("169.254.170.2/32", AddressClass.METADATA),  # AWS ECS task credentials
    ("169.254.170.23/32", AddressClass.METADATA),  # AWS EKS pod identity
    ("168.63.129.16/32", AddressClass.METADATA),  # Azure WireServer, a public address
    ("100.100.100.200/32", AddressClass.METADATA),  # Alibaba Cloud
    ("192.0.0.192/32", AddressClass.METADATA),  # Oracle Cloud Classic
    # Only 2000::/3 is allocated as global unicast (RFC 4291, IANA): the rest is reserved until it is not.
    ("::/3", AddressClass.RESERVED),
    ("4000::/2", AddressClass.RESERVED),
    ("8000::/1", AddressClass.RESERVED),
    ("::/96", AddressClass.EMBEDDED_IPV4),  # RFC 4291 IPv4-compatible, deprecated
    ("::/128", AddressClass.RESERVED),  # RFC 4291 unspecified
    ("::1/128", AddressClass.LOOPBACK),  # RFC 4291
    ("::ffff:0:0/96", AddressClass.EMBEDDED_IPV4),  # RFC 4291 IPv4-mapped
    ("::ffff:0:0:0/96", AddressClass.EMBEDDED_IPV4),  # RFC 2765 IPv4-translated
    ("64:ff9b::/96", AddressClass.EMBEDDED_IPV4),  # RFC 6052 NAT64
    ("64:ff9b:1::/48", AddressClass.EMBEDDED_IPV4),  # RFC 8215 local-use NAT64
    ("2001::/23", AddressClass.RESERVED),  # RFC 2928 protocol assignments
    ("2001::/32", AddressClass.EMBEDDED_IPV4),  # RFC 4380 Teredo
    ("2001:db8::/32", AddressClass.RESERVED),  # RFC 3849 documentation
    ("2002::/16", AddressClass.EMBEDDED_IPV4),  # RFC 3056 6to4
    ("3fff::/20", AddressClass.RESERVED),  # RFC 9637 documentation
    ("fc00::/7", AddressClass.PRIVATE),  # RFC 4193
    ("fe80::/10", AddressClass.LINK_LOCAL),  # RFC 4291
    ("fec0::/10", AddressClass.PRIVATE),  # RFC 3879 former site-local
    ("ff00::/8", AddressClass.MULTICAST),  # RFC 4291
    ("fd00:ec2::254/128", AddressClass.METADATA),  # AWS
    ("fd00:ec2::23/128", AddressClass.METADATA),  # AWS EKS pod identity
    ("fd20:ce::254/128", AddressClass.METADATA),  # Google Cloud
)


def _flatten(version: int) -> tuple[list[int], list[AddressClass]]:
    """Turn nested prefixes into disjoint runs: run i covers starts[i] up to, not including, starts[i + 1]."""
    networks = sorted(
        ((net, kind) for text, kind in _SPECIAL if (net := ip_network(text)).version == version),
        key=lambda item: item[0].prefixlen,
    )
    top = 1 << (32 if version == 4 else 128)
    edges = {0}
    for network, _ in networks:
        edges.add(int(network.network_address))
        edges.add(int(network.broadcast_address) + 1)
    edges.discard(top)
    starts = sorted(edges)
    kinds = [AddressClass.GLOBAL] * len(starts)
    for network, kind in networks:
        first, last = int(network.network_address), int(network.broadcast_address)
        for index, start in enumerate(starts):
            if first <= start <= last:
                kinds[index] = kind
    return starts, kinds


_STARTS_4, _KINDS_4 = _flatten(4)
_STARTS_6, _KINDS_6 = _flatten(6)
_ISATAP = (
    0x00005EFE,
    0x02005EFE,
)  # RFC 5214: the upper half of the interface identifier, before the IPv4 address


def classify(address: IPAddress) -> AddressClass:
    """Return the class of an address.

    >>> classify(IPv4Address("169.254.169.254")).value
    'metadata'
    >>> classify(IPv6Address("::ffff:127.0.0.1")).value
    'embedded-ipv4'
    """
    value = int(address)  # not cached by address: hashing one costs more than this
    if isinstance(address, IPv4Address):
        return _KINDS_4[bisect_right(_STARTS_4, value) - 1]
    kind = _KINDS_6[bisect_right(_STARTS_6, value) - 1]
    if kind is AddressClass.GLOBAL and (value >> 32) & 0xFFFFFFFF in _ISATAP:
        return AddressClass.EMBEDDED_IPV4
    return kind


@lru_cache(maxsize=1024)
def classify_network(network: IPNetwork) -> AddressClass | None:
    """Return the class that every address of a network has, or None when they have several.

    Single metadata addresses within a network do not count: `100.64.0.0/10` is CGNAT.
    """
    starts, kinds = (_STARTS_4, _KINDS_4) if network.version == 4 else (_STARTS_6, _KINDS_6)
    low = bisect_right(starts, int(network.network_address)) - 1
    high = bisect_right(starts, int(network.broadcast_address)) - 1
    found = set(kinds[low : high + 1])
    if len(found) > 1:
        found.discard(AddressClass.METADATA)
    return found.pop() if len(found) == 1 else None


@lru_cache(maxsize=16384)
def parse_address(text: str) -> IPAddress | None:
    """Return the address that `text` is in its one strict spelling, or None.

    Dotted quad without leading zeros, or RFC 4291 text without zone and brackets; nothing else, because every other
    spelling (`0x7f.1`, `2130706433`, `0177.0.0.1`) is read differently by different programs.
    """
    try:
        return IPv6Address(text) if ":" in text and "%" not in text else IPv4Address(text)
    except ValueError:
        return None


def unmap(address: IPAddress) -> IPAddress:
    """Return the IPv4 address behind an IPv4-mapped one: how a dual-stack socket names its IPv4 peers."""
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def client_key(address: IPAddress) -> str:
    """Return whose share, limit or account a client's is: an IPv6 client may use all addresses of its network."""
    return _key_of(address.packed)


@lru_cache(maxsize=_KEYS_KEPT)
def _key_of(packed: bytes) -> str:
    return str(IPv4Address(packed)) if len(packed) == 4 else packed[:8].hex()


class NetworkMap:
    """Maps networks to bit masks; a look-up ORs the masks of every network that holds an address.

    Built once into disjoint runs, so that a look-up is one bisection whatever the number of networks.
    """

    def __init__(self, networks: Iterable[tuple[IPNetwork, int]] = ()) -> None:
        self._runs: dict[int, tuple[list[int], list[int]]] = {4: ([0], [0]), 6: ([0], [0])}
        items = list(networks)
        for version in (4, 6):
            self._runs[version] = self._flatten([item for item in items if item[0].version == version])

    @staticmethod
    def _flatten(items: list[tuple[IPNetwork, int]]) -> tuple[list[int], list[int]]:
        # A sweep over range ends; each edge says which masks begin or end there. The same bit may be open in
        # several nested networks at once, so bits are counted.
        edges: dict[int, list[tuple[int, int]]] = {0: []}
        for network, mask in items:
            edges.setdefault(int(network.network_address), []).append((mask, 1))
            edges.setdefault(int(network.broadcast_address) + 1, []).append((mask, -1))
        starts: list[int] = []
        masks: list[int] = []
        open_masks: dict[int, int] = {}
        for start in sorted(edges):
            for mask, step in edges[start]:
                open_masks[mask] = open_masks.get(mask, 0) + step
                if not open_masks[mask]:
                    del open_masks[mask]
            union = 0
            for mask in open_masks:
                union |= mask
            starts.append(start)
            masks.append(union)
        return starts, masks

    def lookup(self, address: IPAddress) -> int:
        """Return the masks of all networks that hold the address, ORed."""
        starts, masks = self._runs[address.version]
        return masks[bisect_right(starts, int(address)) - 1]
