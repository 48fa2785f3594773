"""Tests for gateway.dns.settings."""

from ipaddress import ip_address

import pytest

from gateway.dns.settings import make_settings, parse_endpoint, parse_resolv_conf, without_self
from gateway.schema import DnsSection


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


def test_the_section_in_our_terms() -> None:
    """Every key of the section that is built has its effect."""
    section = DnsSection.model_validate(
        {
            "upstreams": ["system", "udp://192.0.2.1", "tcp://192.0.2.2:5353"],
            "strategy": "ordered",
            "forward": {"corp.example": ["udp://10.0.0.53"]},
            "records": {"gw.corp.example": ["10.0.0.1"]},
            "cache": {"entries": 5, "min_ttl": "1s", "max_ttl": "1h", "negative_ttl": "9s"},
            "block": {"answer": {"sinkhole": ["192.0.2.9"]}, "ttl": "7s"},
        }
    )
    system = (parse_endpoint("udp://192.0.2.1"),)
    settings = make_settings(section, record_allowed=True, system=system, is_local=lambda _: False)
    assert [str(server) for server in settings.upstreams] == ["udp://192.0.2.1:53", "tcp://192.0.2.2:5353"]
    assert [str(place) for place in settings.listen] == ["udp://127.0.0.1:5335", "tcp://127.0.0.1:5335"]
    assert (settings.strategy, settings.cache_entries, settings.limits) == ("ordered", 5, (1, 3600, 9))
    assert [str(server) for server in settings.forward["corp.example"]] == ["udp://10.0.0.53:53"]
    assert settings.records == {"gw.corp.example": (ip_address("10.0.0.1"),)}
    assert (settings.block_answer, settings.block_ttl) == ((ip_address("192.0.2.9"),), 7)
    assert settings.record_allowed
