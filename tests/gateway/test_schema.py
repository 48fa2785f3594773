"""The shape of the policy file: what each kind of value accepts, and what it says to the rest."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from gateway.decision import Budget
from gateway.schema import (
    ClientSection,
    DestinationSection,
    HttpSection,
    PolicyFile,
    PolicySection,
    RuleSection,
)
from tests.gateway.sections import Accepted, Refused, accepted, assert_accepted, assert_refused, refused


def test_the_smallest_file_is_closed() -> None:
    """A file that only says its version denies everything, and listens on this machine alone."""
    file = PolicyFile.model_validate({"version": 1})
    assert (file.policy.default.proxy, file.policy.default.dns) == ("deny", "deny")
    assert file.policy.rules == ()
    assert all(place.startswith("127.0.0.1:") for place in file.proxy.listen)
    assert all("://127.0.0.1:" in place for place in file.dns.listen)


PIN = "A" * 43 + "="
RULE = {"name": "r", "action": "allow"}

ACCEPTED: Accepted = [
    (
        DestinationSection,
        {"domains": ["Example.COM.", "*.Bücher.test", ".a.test"]},
        ("example.com", "*.xn--bcher-kva.test", ".a.test"),
    ),
    (DestinationSection, {"registered_domains": ["EXAMPLE.co.uk"]}, ("example.co.uk",)),
    (
        DestinationSection,
        {"addresses": ["10.0.0.0/8", "192.0.2.1", "fd00::/8"]},
        tuple(ip_network(t) for t in ("10.0.0.0/8", "192.0.2.1", "fd00::/8")),
    ),
    (DestinationSection, {"address_class": ["private", "embedded-ipv4"]}, ("private", "embedded-ipv4")),
    (DestinationSection, {"ports": [443, "8443", "8000-8100"]}, ((443, 443), (8443, 8443), (8000, 8100))),
    (RuleSection, {"name": "r", "action": "deny", "qtypes": ["TXT", "aaaa", 65, "TYPE65280"]}, (16, 28, 65, 65280)),
    (HttpSection, {"max_body": "10MiB"}, 10 * 1024 * 1024),
    (ClientSection, {"users": ["batch", "Jürgen Müller"]}, ("batch", "Jürgen Müller")),
    (
        ClientSection,
        {"certificates": ["CN=batch,O=Example", "DNS:Batch.Example", "URI:spiffe://example/batch", "1.2.3=x"]},
        ("CN=batch,O=Example", "DNS:batch.example", "URI:spiffe://example/batch", "1.2.3=x"),
    ),
    (RuleSection, {"name": "r", "action": "allow", "upload": "50MiB/1h"}, Budget(50 << 20, 3600)),
    (RuleSection, {"name": "r", "action": "allow", "upload": "1GB/d"}, Budget(10**9, 86400)),
    (RuleSection, {"name": "r", "action": "allow", "pins": [f'pin-sha256="{PIN}"', f"sha256//{PIN}"]}, (PIN, PIN)),
]


@accepted(ACCEPTED)
def test_accepted(model: type[BaseModel], value: dict[str, Any], expected: Any) -> None:
    """A value is read into what the product works with."""
    assert_accepted(model, value, expected)


REFUSED: Refused = [
    ("an upload without a time", RuleSection, {"name": "r", "action": "allow", "upload": "50MiB"}, "as in 50MiB/1h"),
    ("an upload of nothing", RuleSection, {"name": "r", "action": "allow", "upload": "0B/1h"}, "more than nothing"),
    ("an upload in no time", RuleSection, {"name": "r", "action": "allow", "upload": "1KiB/1s"}, "in a minute to"),
    ("a pin that is none", RuleSection, {**RULE, "pins": ["sha256//AAAA"]}, "is no pin: give the SHA-256"),
    ("a bare pin", RuleSection, {**RULE, "pins": [PIN]}, "is no pin: give the SHA-256"),
    ("a pin of SHA-1", RuleSection, {**RULE, "pins": [f"sha1//{PIN}"]}, "is no pin: give the SHA-256"),
    ("no pins", RuleSection, {**RULE, "pins": []}, "is empty, which would mean any"),
    ("an unknown key", PolicyFile, {"version": 1, "polcy": {}}, "Extra inputs"),
    ("another version", PolicyFile, {"version": 2}, "Input should be 1"),
    ("no version", PolicyFile, {}, "Field required"),
    ("a star in the middle", DestinationSection, {"domains": ["a.*.test"]}, "a star stands only in front"),
    ("an address as a domain", DestinationSection, {"domains": ["10.0.0.1"]}, "ends in a number"),
    (
        "a URL as a domain",
        DestinationSection,
        {"domains": ["https://a.test"]},
        "character that host names do not have",
    ),
    (
        "a subdomain as a registered one",
        DestinationSection,
        {"registered_domains": ["www.example.com"]},
        "did you mean example.com?",
    ),
    (
        "a public suffix as a registered one",
        DestinationSection,
        {"registered_domains": ["co.uk"]},
        "it is a public suffix",
    ),
    ("a network with host bits", DestinationSection, {"addresses": ["10.0.0.1/8"]}, "has host bits set"),
    ("an odd spelling of an address", DestinationSection, {"addresses": ["0x7f.1"]}, "is no network"),
    ("an unknown class", DestinationSection, {"address_class": ["secret"]}, "'global', 'private'"),
    ("port zero", DestinationSection, {"ports": [0]}, "from 1 to 65535"),
    ("a range backwards", DestinationSection, {"ports": ["90-80"]}, "from 1 to 65535"),
    ("a word as a port", DestinationSection, {"ports": ["https"]}, "is no port"),
    ("no domains at all", DestinationSection, {"domains": []}, "is empty, which would mean any"),
    ("no methods at all", HttpSection, {"methods": []}, "is empty, which would mean any"),
    (
        "no clients at all",
        RuleSection,
        {"name": "r", "action": "allow", "clients": []},
        "is empty, which would mean any",
    ),
    ("a group of nobody", ClientSection, {}, "names nobody"),
    ("an unknown tool", RuleSection, {"name": "r", "action": "deny", "tools": ["netcat"]}, "it knows curl, wget"),
    (
        "an unknown query type",
        RuleSection,
        {"name": "r", "action": "deny", "qtypes": ["TYPE65536"]},
        "is no query type",
    ),
    (
        "a technique that is none",
        RuleSection,
        {"name": "r", "action": "deny", "technique": ["T12"]},
        "should match pattern",
    ),
    ("a name with a space", RuleSection, {"name": "a b", "action": "deny"}, "should match pattern"),
    ("an unknown action", RuleSection, {"name": "r", "action": "block"}, "'allow' or 'deny'"),
    ("a method in lower case", HttpSection, {"methods": ["get"]}, "should match pattern"),
    ("a path without a slash", HttpSection, {"paths": ["repos/**"]}, "should match pattern"),
    ("a size without a unit that makes sense", HttpSection, {"max_body": "10 apples"}, "expected a size"),
    ("an empty list of users", ClientSection, {"users": []}, "is empty, which would mean any"),
    ("a user with a colon", ClientSection, {"users": ["a:b"]}, "is no user name"),
    ("a user that is nothing", ClientSection, {"users": [""]}, "is no user name"),
    ("a name without a kind", ClientSection, {"certificates": ["batch"]}, "is no name of a certificate"),
    ("a name of no kind", ClientSection, {"certificates": ["dirName:x"]}, "is no name of a certificate"),
    ("an unknown mode", PolicySection, {"mode": "permissive"}, "'enforce' or 'report'"),
]


@refused(REFUSED)
def test_refused(model: type[BaseModel], value: dict[str, Any], why: str) -> None:
    """What cannot be meant is refused, with a message that says what is wrong or what is expected."""
    assert_refused(model, value, why)


def test_sections_do_not_change() -> None:
    """What was read from a file stays as it is."""
    section = PolicySection()
    with pytest.raises(ValidationError):
        section.mode = "report"  # type: ignore[misc]  # on purpose
