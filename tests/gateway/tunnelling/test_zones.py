"""Registered domains, top-level domains, private and reverse names."""

import pytest

from gateway.names import registered_domain
from gateway.tunnelling.zones import NO_TLD, classify, exists, is_hosted

ZONES = [
    ("a name below a registered domain", "a.b.example.com", "example.com"),
    ("a suffix of two labels", "a.example.co.uk", "example.co.uk"),
    ("a customer of a hosting service", "x.me.github.io", "me.github.io"),
    ("a wildcard of the list", "a.b.c.ck", "b.c.ck"),
    ("an international top-level domain", "a.b.xn--3e0b707e", "b.xn--3e0b707e"),
    ("no such top-level domain", "dnscat.00d0ae7c", NO_TLD),
    ("a private domain", "db.svc.cluster.local", "local"),
    ("a host in a private network", "printer.lan", "lan"),
    ("a zone in a private network", "db.eu.site.corp", "site.corp"),
    ("home.arpa", "printer.home.arpa", "home.arpa"),
    ("a reverse name of IPv4", "4.3.2.1.in-addr.arpa", "arpa"),
    ("what only looks like one", "x.3.2.1.in-addr.arpa", "in-addr.arpa"),
    ("a reverse name of IPv6", ".".join("0" * 20 + "8bd01002") + ".ip6.arpa", "0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
]


@pytest.mark.parametrize(("name", "zone"), [row[1:] for row in ZONES], ids=[row[0] for row in ZONES])
def test_the_zone_of_a_name(name: str, zone: str) -> None:
    """A name is told to whoever registered its domain."""
    assert classify(name).zone == zone


@pytest.mark.parametrize(
    "name", ["a.example.com", "b.example.co.jp", "c.d.appspot.com", "e.s3.amazonaws.com", "f.no"]
)
def test_it_agrees_with_the_public_suffix_list(name: str) -> None:
    """The short way to a registered domain comes to the same result as the long one."""
    assert classify(name).zone == (registered_domain(name) or name)


def test_what_exists() -> None:
    """Delegated top-level domains exist, private and invented ones do not."""
    assert all(map(exists, ("com", "uk", "arpa", "xn--p1ai", "xn--3e0b707e", "zip")))
    assert not any(map(exists, ("", "local", "d0ae7c", "internal", "contoso")))


def test_who_is_hosted() -> None:
    """A name under a suffix of the private section is a customer's."""
    assert is_hosted("me.github.io")
    assert not is_hosted("example.com")
    assert not is_hosted("example.co.uk")
