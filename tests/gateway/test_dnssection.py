"""The `dns` section of the policy file: what each kind of value accepts, and what it says to the rest."""

from typing import Any

from pydantic import BaseModel

from gateway.dnssection import BlockSection, CacheSection, DnsSection
from tests.gateway.sections import Accepted, Refused, accepted, assert_accepted, assert_refused, refused

ACCEPTED: Accepted = [
    (CacheSection, {"negative_ttl": "5m"}, 300),
    (
        DnsSection,
        {"upstreams": ["system", "udp://192.0.2.53", "tcp://192.0.2.53:5353", "udp://[2001:db8::1]:53"]},
        ("system", "udp://192.0.2.53", "tcp://192.0.2.53:5353", "udp://[2001:db8::1]:53"),
    ),
    (
        DnsSection,
        {
            "upstreams": [
                "tls://9.9.9.9#dns.quad9.net",
                "tls://[2620:fe::fe]:853",
                "https://1.1.1.1/dns-query#one.one",
            ]
        },
        ("tls://9.9.9.9#dns.quad9.net", "tls://[2620:fe::fe]:853", "https://1.1.1.1/dns-query#one.one"),
    ),
]


@accepted(ACCEPTED)
def test_accepted(model: type[BaseModel], value: dict[str, Any], expected: Any) -> None:
    """A value is read into what the product works with."""
    assert_accepted(model, value, expected)


REFUSED: Refused = [
    ("a duration without a unit", CacheSection, {"max_ttl": 60}, "needs a unit"),
    ("a DoH listener without a path", DnsSection, {"listen": ["https://127.0.0.1:443"]}, "needs a path, as in"),
    ("a DoH listener with a query", DnsSection, {"listen": ["https://127.0.0.1:443/?a"]}, "needs a path, as in"),
    ("a DoT listener with a path", DnsSection, {"listen": ["tls://127.0.0.1:853/q"]}, "is no place to listen"),
    ("a DoT listener by name", DnsSection, {"listen": ["tls://localhost:853"]}, "is no place to listen"),
    ("a certificate without key", DnsSection, {"certificate": {"cert": "a"}}, "Field required"),
    ("a listener without a scheme", DnsSection, {"listen": ["127.0.0.1:53"]}, "is no listener"),
    ("an upstream by name", DnsSection, {"upstreams": ["udp://dns.test"]}, "is no place to listen|is no upstream"),
    ("a TLS upstream by name", DnsSection, {"upstreams": ["tls://dns.test"]}, "write its address, and its name"),
    ("a DoH upstream by name", DnsSection, {"upstreams": ["https://dns.test/q"]}, "write its address, and its name"),
    ("a DoH upstream without a path", DnsSection, {"upstreams": ["https://1.1.1.1"]}, "https:// alone has a path"),
    ("an upstream with a name that is none", DnsSection, {"upstreams": ["tls://1.1.1.1#a b"]}, "has a character"),
    ("no upstreams", DnsSection, {"upstreams": []}, "at least 1 item"),
    ("an alias in a circle", DnsSection, {"records": {"a": [{"cname": "b"}], "b": [{"cname": "a"}]}}, "in a circle"),
    ("an alias beside others", DnsSection, {"records": {"a": [{"cname": "b"}, "10.0.0.1"]}}, "stands alone"),
    ("a record of two kinds", DnsSection, {"records": {"a": [{"txt": "b", "ptr": "c"}]}}, "expected one of cname"),
    ("a service without a port", DnsSection, {"records": {"a": [{"srv": "1 2 b"}]}}, "priority weight port target"),
    ("a record of no kind", DnsSection, {"records": {"a": ["b"]}}, "expected an address or one of {cname"),
    ("a rate of nothing", DnsSection, {"rate_limit": {"queries_per_second": 0}}, "greater than 0"),
    ("an unknown answer", BlockSection, {"answer": "nx"}, "expected one of nxdomain"),
    ("an empty sinkhole", BlockSection, {"answer": {"sinkhole": []}}, "sinkhole"),
]


@refused(REFUSED)
def test_refused(model: type[BaseModel], value: dict[str, Any], why: str) -> None:
    """What cannot be meant is refused, with a message that says what is wrong or what is expected."""
    assert_refused(model, value, why)
