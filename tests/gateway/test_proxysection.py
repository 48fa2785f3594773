"""The `proxy` section of the policy file: what each kind of value accepts, and what it says to the rest."""

from typing import Any

from pydantic import BaseModel

from gateway.proxysection import ProxySection, TenantsSection
from tests.gateway.sections import Accepted, Refused, accepted, assert_accepted, assert_refused, refused

ACCEPTED: Accepted = [
    (ProxySection, {"listen": ["[::1]:3128", "0.0.0.0:0"]}, ("[::1]:3128", "0.0.0.0:0")),
    (ProxySection, {"listen": ["tls://[::1]:3129"]}, ("tls://[::1]:3129",)),
    (ProxySection, {"parent": "http://proxy.example:3128"}, "http://proxy.example:3128"),
    (ProxySection, {"parent": "http://[2001:db8::1]:3128"}, "http://[2001:db8::1]:3128"),
    (ProxySection, {"workers": 4}, 4),
    (TenantsSection, {"google": ["Acme.Example", "consumer_accounts"]}, ("acme.example", "consumer_accounts")),
]


@accepted(ACCEPTED)
def test_accepted(model: type[BaseModel], value: dict[str, Any], expected: Any) -> None:
    """A value is read into what the product works with."""
    assert_accepted(model, value, expected)


REFUSED: Refused = [
    ("a TLS listener by name", ProxySection, {"listen": ["tls://localhost:3128"]}, "is no place to listen"),
    ("a listener for https", ProxySection, {"listen": ["https://127.0.0.1:3128"]}, "is no place to listen"),
    ("authentication without a file", ProxySection, {"auth": {"required": True}}, "Field required"),
    ("a parent over TLS", ProxySection, {"parent": "https://proxy.example:3128"}, "is no parent"),
    ("a parent without a scheme", ProxySection, {"parent": "proxy.example:3128"}, "is no parent"),
    ("a parent without a port", ProxySection, {"parent": "http://proxy.example"}, "has no port"),
    ("a parent with a slash", ProxySection, {"parent": "http://proxy.example:3128/"}, "is not host or host:port"),
    ("a parent with a password", ProxySection, {"parent": "http://a:b@proxy.example:3128"}, "is not host or host"),
    ("a load balancer by name", ProxySection, {"proxy_protocol_from": ["lb.example"]}, "is no network"),
    ("a listener without a port", ProxySection, {"listen": ["127.0.0.1"]}, "is no place to listen"),
    ("a listener by name", ProxySection, {"listen": ["localhost:3128"]}, "is no place to listen"),
    ("no workers", ProxySection, {"workers": 0}, "expected 'auto' or a number"),
]


@refused(REFUSED)
def test_refused(model: type[BaseModel], value: dict[str, Any], why: str) -> None:
    """What cannot be meant is refused, with a message that says what is wrong or what is expected."""
    assert_refused(model, value, why)
