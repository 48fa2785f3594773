"""Tests for gateway.dns.settings."""

from ipaddress import ip_address
from typing import Any

import pytest

from gateway.dns.records import parse_data
from gateway.dns.settings import (
    Settings,
    make_settings,
    parse_endpoint,
    parse_place,
    parse_resolv_conf,
    parse_upstream,
    without_self,
)
from gateway.dnssection import DnsSection


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp://192.0.2.53", "udp://192.0.2.53:53"),
        ("tcp://192.0.2.53:5353", "tcp://192.0.2.53:5353"),
        ("udp://[2001:db8::1]", "udp://[2001:db8::1]:53"),
        ("udp://[2001:db8::1]:5353", "udp://[2001:db8::1]:5353"),
        ("udp://2001:db8::1", "udp://[2001:db8::1]:53"),
    ],
)
def test_endpoints(text: str, expected: str) -> None:
    """Endpoints are read in every form that the configuration accepts."""
    assert str(parse_endpoint(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp://192.0.2.53", "udp://192.0.2.53:53"),
        ("tls://9.9.9.9", "tls://9.9.9.9:853"),
        ("tls://9.9.9.9:8853#dns.quad9.net", "tls://9.9.9.9:8853#dns.quad9.net"),
        ("tls://[2620:fe::fe]#dns.quad9.net", "tls://[2620:fe::fe]:853#dns.quad9.net"),
        ("https://1.1.1.1/dns-query#cloudflare-dns.com", "https://1.1.1.1:443/dns-query#cloudflare-dns.com"),
        ("https://[2606:4700::1111]:8443/q", "https://[2606:4700::1111]:8443/q"),
    ],
)
def test_upstreams(text: str, expected: str) -> None:
    """Upstreams are read in every form that the configuration accepts, and come out the same again."""
    assert str(parse_upstream(text)) == expected
    assert parse_upstream(expected) == parse_upstream(text)


@pytest.mark.parametrize("text", ["tls://dns.quad9.net", "tls://9.9.9.9/x", "https://1.1.1.1", "https://a.test/q"])
def test_what_is_no_upstream(text: str) -> None:
    """An encrypted upstream needs an address, and DNS over HTTPS a path."""
    with pytest.raises(ValueError, match="expected"):
        parse_upstream(text)


@pytest.mark.parametrize("text", ["192.0.2.1", "tls://192.0.2.1", "udp://name:53", "udp://192.0.2.1:x", "udp://"])
def test_what_is_no_endpoint(text: str) -> None:
    """Anything else is refused with what was expected."""
    with pytest.raises(ValueError, match="expected udp://"):
        parse_endpoint(text)


def test_resolv_conf() -> None:
    """Comments, other keywords, zones and nonsense are passed over; three servers are enough."""
    text = """# nameserver 192.0.2.9
search example.com
nameserver 192.0.2.1
  nameserver   2001:db8::1 extra
nameserver fe80::1%eth0
nameserver
nameserver localhost
nameserver 192.0.2.2
nameserver 192.0.2.3
"""
    assert [str(server) for server in parse_resolv_conf(text)] == [
        "udp://192.0.2.1:53",
        "udp://[2001:db8::1]:53",
        "udp://192.0.2.2:53",
    ]
    assert parse_resolv_conf("") == ()


@pytest.mark.parametrize(
    ("listen", "kept"),
    [
        (["udp://127.0.0.1:5335"], ["udp://127.0.0.1:53", "udp://192.0.2.1:53"]),
        (["tcp://127.0.0.1:53"], ["udp://192.0.2.1:53"]),
        (["udp://0.0.0.0:53"], ["udp://192.0.2.1:53"]),
        (["udp://[::]:53"], ["udp://192.0.2.1:53"]),
        (["udp://0.0.0.0:5335"], ["udp://127.0.0.1:53", "udp://192.0.2.1:53"]),
    ],
)
def test_the_resolver_does_not_ask_itself(listen: list[str], kept: list[str]) -> None:
    """A server that is one of our own listeners is left out, also behind a wildcard."""
    servers = [parse_endpoint("udp://127.0.0.1"), parse_endpoint("udp://192.0.2.1")]
    found = without_self(servers, [parse_endpoint(text) for text in listen], lambda address: address.is_loopback)
    assert [str(server) for server in found] == kept


@pytest.mark.parametrize("name", Settings._fields)
def test_what_answers_depend_on(name: str) -> None:
    """Configurations whose answers may differ are told apart; those that differ in what clients get alone are not."""
    clients = {"listen", "block_answer", "block_ttl", "record_allowed", "rate_limit", "tunnelling"}
    settings: Any = Settings(upstreams=())
    changed = settings._replace(**{name: "something else"})
    assert (changed.for_answers == settings.for_answers) is (name in clients)


def test_the_section_in_our_terms() -> None:
    """Every key of the section that is built has its effect."""
    section = DnsSection.model_validate(
        {
            "upstreams": ["system", "udp://192.0.2.1", "tcp://192.0.2.2:5353"],
            "strategy": "ordered",
            "forward": {"corp.example": ["udp://10.0.0.53"]},
            "records": {"gw.corp.example": ["10.0.0.1", {"txt": "hi"}]},
            "rate_limit": {"queries_per_second": 7, "burst": 9},
            "strip": {"ech": False},
            "trust_ad": True,
            "cache": {
                "entries": 5,
                "memory": "64MiB",
                "min_ttl": "1s",
                "max_ttl": "1h",
                "negative_ttl": "9s",
                "serve_stale": "2h",
                "prefetch": False,
            },
            "block": {"answer": {"sinkhole": ["192.0.2.9"]}, "ttl": "7s"},
        }
    )
    system = (parse_endpoint("udp://192.0.2.1"),)
    settings = make_settings(
        section, record_allowed=True, system=system, is_local=lambda _: False, upstream_ca="certificates"
    )
    assert (settings.upstream_ca, settings.cache_memory) == ("certificates", 64 << 20)
    assert [str(server) for server in settings.upstreams] == ["udp://192.0.2.1:53", "tcp://192.0.2.2:5353"]
    assert [str(place) for place in settings.listen] == ["udp://127.0.0.1:5335", "tcp://127.0.0.1:5335"]
    assert (settings.strategy, settings.cache_entries, settings.limits) == ("ordered", 5, (1, 3600, 9))
    assert [str(server) for server in settings.forward["corp.example"]] == ["udp://10.0.0.53:53"]
    assert settings.records == {"gw.corp.example": (ip_address("10.0.0.1"), parse_data("txt", "hi"))}
    assert (settings.rate_limit, settings.strip_ech, settings.trust_ad) == ((7, 9), False, True)
    assert (settings.serve_stale, settings.prefetch) == (7200, False)
    assert (settings.block_answer, settings.block_ttl) == ((ip_address("192.0.2.9"),), 7)
    assert settings.record_allowed


@pytest.mark.parametrize(
    "text", ["udp://127.0.0.1:53", "tcp://[::1]:0", "tls://127.0.0.1:853", "https://[::]:443/dns-query"]
)
def test_places_to_listen(text: str) -> None:
    """Every transport can be listened on."""
    assert str(parse_place(text)) == text


@pytest.mark.parametrize("text", ["tls://127.0.0.1", "tls://[::1]:1/q", "https://127.0.0.1:1", "https://x:1/q", "x"])
def test_places_that_are_none(text: str) -> None:
    """A place to listen has an address and a port, and DoH alone has a path."""
    with pytest.raises(ValueError):
        parse_place(text)
