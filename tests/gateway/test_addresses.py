"""Addresses: parsing, classes, and the map of networks."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import (
    AddressClass,
    IPAddress,
    IPNetwork,
    NetworkMap,
    classify,
    classify_network,
    client_key,
    parse_address,
    unmap,
)
from tests.builders import an_address

CLASSES = [
    ("8.8.8.8", "global"),
    ("0.0.0.0", "reserved"),
    ("0.1.2.3", "reserved"),
    ("9.255.255.255", "global"),
    ("10.0.0.0", "private"),
    ("10.255.255.255", "private"),
    ("11.0.0.0", "global"),
    ("100.63.255.255", "global"),
    ("100.64.0.0", "cgnat"),
    ("100.100.100.199", "cgnat"),
    ("100.100.100.200", "metadata"),
    ("100.100.100.201", "cgnat"),
    ("100.127.255.255", "cgnat"),
    ("100.128.0.0", "global"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.255", "loopback"),
    ("168.63.129.16", "metadata"),
    ("168.63.129.17", "global"),
    ("169.254.0.1", "link-local"),
    ("169.254.169.254", "metadata"),
    ("169.254.170.2", "metadata"),
    ("172.15.255.255", "global"),
    ("172.16.0.0", "private"),
    ("172.31.255.255", "private"),
    ("172.32.0.0", "global"),
    ("192.0.0.192", "metadata"),
    ("192.0.0.1", "reserved"),
    ("192.0.2.1", "reserved"),
    ("192.88.99.1", "reserved"),
    ("192.168.255.255", "private"),
    ("198.19.255.255", "reserved"),
    ("198.51.100.1", "reserved"),
    ("203.0.113.1", "reserved"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("2606:4700::1111", "global"),
    ("::", "reserved"),
    ("::1", "loopback"),
    ("::2", "embedded-ipv4"),
    ("::127.0.0.1", "embedded-ipv4"),
    ("::ffff:8.8.8.8", "embedded-ipv4"),
    ("::ffff:0:127.0.0.1", "embedded-ipv4"),
    ("64:ff9b::8.8.8.8", "embedded-ipv4"),
    ("64:ff9b:1::1", "embedded-ipv4"),
    ("100::1", "reserved"),
    ("2001::1", "embedded-ipv4"),
    ("2001:20::1", "reserved"),
    ("2001:db8::1", "reserved"),
    ("2001:4860:4860::8888", "global"),
    ("2002:7f00:1::", "embedded-ipv4"),
    ("2a00:1:2:3:0:5efe:7f00:1", "embedded-ipv4"),
    ("2a00:1:2:3:200:5efe:7f00:1", "embedded-ipv4"),
    ("3fff:fff::1", "reserved"),
    ("4000::1", "reserved"),
    ("5f00::1", "reserved"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "metadata"),
    ("fd20:ce::254", "metadata"),
    ("fd00:ec2::255", "private"),
    ("fe80::1", "link-local"),
    ("fec0::1", "private"),
    ("ff02::1", "multicast"),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
]


@pytest.mark.parametrize(("text", "kind"), CLASSES, ids=[text for text, _ in CLASSES])
def test_classes(text: str, kind: str) -> None:
    """An address has the most specific class that fits, on both sides of every border."""
    assert classify(an_address(text)) == kind


# Where the standard library calls an address global and this product does not: each line is a decision of ours.
STRICTER = (
    ip_network("192.88.99.0/24"),  # former 6to4 relays: a path into tunnels
    ip_network("168.63.129.16/32"),  # a metadata service on a public address
    ip_network("192.0.0.0/24"),  # protocol assignments; the library calls some, in older releases most, global
    ip_network("224.0.0.0/4"),  # multicast is "global" to the library
    ip_network("ff00::/8"),
    ip_network("2002::/16"),  # 6to4 carries any IPv4 address
    ip_network("64:ff9b::/96"),  # NAT64 does, too
    ip_network("2001::/23"),  # protocol assignments; some of them are globally reachable
    ip_network("3fff::/20"),  # documentation, too new for some releases of the library
    ip_network("5f00::/16"),  # segment routing, likewise
    ip_network("::/3"),  # what IANA has not allocated is no destination: only 2000::/3 is
    ip_network("4000::/2"),
    ip_network("8000::/1"),
)


def _stricter(address: IPAddress) -> bool:
    isatap = address.version == 6 and int(address) >> 32 & 0xFDFFFFFF == 0x5EFE
    return isatap or any(address.version == net.version and address in net for net in STRICTER)


@given(st.ip_addresses())
def test_nothing_is_global_that_the_standard_library_knows_better(address: IPAddress) -> None:
    """What is global here is global to `ipaddress`; what is global there is so here, but for our known exceptions."""
    if classify(address) is AddressClass.GLOBAL:
        assert address.is_global
        assert not address.is_private
        assert not address.is_multicast
    elif not _stricter(address):
        assert not address.is_global


@given(st.ip_addresses())
def test_classes_agree_with_the_standard_library(address: IPAddress) -> None:
    """Loopback, multicast and link-local are what `ipaddress` says, metadata services aside."""
    kind = classify(address)
    if address.version == 6 and kind is AddressClass.EMBEDDED_IPV4:
        return
    assert (kind is AddressClass.LOOPBACK) == address.is_loopback
    assert (kind is AddressClass.MULTICAST) == address.is_multicast
    if kind is not AddressClass.METADATA:
        assert (kind is AddressClass.LINK_LOCAL) == address.is_link_local


@given(st.ip_addresses(v=4))
def test_ipv4_inside_ipv6_is_never_global(address: IPv4Address) -> None:
    """However an IPv4 address is wrapped into an IPv6 one, the result is no global address."""
    value = int(address)
    wrapped = [
        IPv6Address(value),
        IPv6Address(0xFFFF << 32 | value),
        IPv6Address(0xFFFF << 48 | value),
        IPv6Address(0x64FF9B << 96 | value),
        IPv6Address(0x2002 << 112 | value << 80),
        IPv6Address(0x20010000 << 96 | value << 64),
        IPv6Address(0x20010000 << 96 | (value ^ 0xFFFFFFFF)),
        IPv6Address(0x2A000001 << 96 | 0x5EFE << 32 | value),
    ]
    assert all(classify(candidate) is not AddressClass.GLOBAL for candidate in wrapped)


NETWORKS = [
    ("10.0.0.0/8", AddressClass.PRIVATE),
    ("10.1.2.3/32", AddressClass.PRIVATE),
    ("8.0.0.0/8", AddressClass.GLOBAL),
    ("0.0.0.0/0", None),
    ("::/0", None),
    ("10.0.0.0/7", None),
    ("169.254.0.0/16", AddressClass.LINK_LOCAL),
    ("169.254.169.254/32", AddressClass.METADATA),
    ("100.64.0.0/10", AddressClass.CGNAT),
    ("fc00::/7", AddressClass.PRIVATE),
    ("168.0.0.0/8", AddressClass.GLOBAL),
    ("2000::/3", None),
    ("2606:4700::/32", AddressClass.GLOBAL),
]


@pytest.mark.parametrize(("text", "kind"), NETWORKS, ids=[text for text, _ in NETWORKS])
def test_classes_of_networks(text: str, kind: AddressClass | None) -> None:
    """A network has a class when all of it has, metadata services within it aside."""
    assert classify_network(ip_network(text)) is kind


SPELLINGS = [
    ("127.0.0.1", "127.0.0.1"),
    ("255.255.255.255", "255.255.255.255"),
    ("2001:DB8::1", "2001:db8::1"),
    ("::ffff:1.2.3.4", "::ffff:102:304"),
    ("127.0.0.01", None),
    ("0177.0.0.1", None),
    ("127.1", None),
    ("2130706433", None),
    ("0x7f000001", None),
    ("0x7f.0.0.1", None),
    ("256.0.0.1", None),
    ("1.2.3.4.", None),
    ("1.2.3.4/32", None),
    (" 1.2.3.4", None),
    ("１.2.3.4", None),
    ("fe80::1%lo", None),
    ("fe80::1%25lo", None),
    ("[::1]", None),
    (":::1", None),
    ("1::2::3", None),
    ("", None),
    ("example.com", None),
]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS, ids=[text or "empty" for text, _ in SPELLINGS])
def test_spellings(text: str, expected: str | None) -> None:
    """An address has one spelling; what other programs would read as an address is none here."""
    found = parse_address(text)
    assert found == (None if expected is None else an_address(expected))


@given(st.ip_addresses())
def test_every_address_is_read_back(address: IPAddress) -> None:
    """The canonical text of an address is read as that address."""
    assert parse_address(str(address)) == address


@given(st.text())
def test_parsing_is_total(text: str) -> None:
    """Any text is an address or None."""
    parse_address(text)


def test_unmapping() -> None:
    """A mapped address is the IPv4 address that it stands for; every other is itself."""
    assert unmap(an_address("::ffff:10.1.2.3")) == an_address("10.1.2.3")
    assert unmap(an_address("::10.1.2.3")) == an_address("::10.1.2.3")
    assert unmap(an_address("10.1.2.3")) == an_address("10.1.2.3")


def test_an_ipv6_client_is_its_network() -> None:
    """Addresses of one /64 share whatever a client has; an IPv4 address has its own."""
    assert client_key(an_address("2001:db8::1")) == client_key(an_address("2001:db8::ffff"))
    assert client_key(an_address("2001:db8:0:1::1")) != client_key(an_address("2001:db8::1"))
    assert client_key(an_address("192.0.2.1")) == "192.0.2.1"


networks = st.one_of(
    st.builds(lambda a, p: ip_network((a, p), strict=False), st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda a, p: ip_network((a, p), strict=False), st.ip_addresses(v=6), st.integers(0, 128)),
    st.sampled_from([ip_network(text) for text in ("0.0.0.0/0", "::/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/32")]),
)


@given(st.lists(st.tuples(networks, st.integers(1, 7)), max_size=12), st.data())
def test_network_map_equals_a_search(items: list[tuple[IPNetwork, int]], data: st.DataObject) -> None:
    """A look-up finds the masks of exactly the networks that hold the address, at their borders above all."""
    table = NetworkMap(items)
    candidates = st.ip_addresses()
    for network, _ in items:
        candidates |= st.sampled_from((network[0], network[-1]))
        if int(network[0]):
            candidates |= st.just(network[0] - 1)
    address = data.draw(candidates)
    expected = 0
    for network, mask in items:
        if network.version == address.version and address in network:
            expected |= mask
    assert table.lookup(address) == expected
