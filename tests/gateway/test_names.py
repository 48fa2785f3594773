"""Names and hosts: one normal form, and every other spelling refused."""

import pytest
import tldextract
from hypothesis import given
from hypothesis import strategies as st

from gateway.names import (
    embedded_addresses,
    names_addresses,
    normalize,
    parse_host,
    registered_domain,
    suffixes,
)
from gateway.suffixlist import read_rules
from tests.builders import an_address

NORMAL = [
    ("example.com", "example.com"),
    ("EXAMPLE.Com", "example.com"),
    ("example.com.", "example.com"),
    ("localhost", "localhost"),
    ("a_b._tcp.example.com", "a_b._tcp.example.com"),
    ("-x.example.com", "-x.example.com"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER。example", "xn--bcher-kva.example"),
    ("straße.example", "xn--strae-oqa.example"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("0x.example", "0x.example"),
    ("1.2.3.4.example", "1.2.3.4.example"),
    ("a" * 63 + ".example", "a" * 63 + ".example"),
    (".".join(["a" * 49] * 5) + ".xyz", ".".join(["a" * 49] * 5) + ".xyz"),
]


@pytest.mark.parametrize(("text", "expected"), NORMAL, ids=[text[:30] for text, _ in NORMAL])
def test_normal_form(text: str, expected: str) -> None:
    """A host name has the one normal form that it should have."""
    assert normalize(text) == expected


REFUSED = [
    ("nothing", "", "empty name"),
    ("only a dot", ".", "empty name"),
    ("two dots at the end", "example.com..", "empty label"),
    ("two dots", "a..b", "empty label"),
    ("a dot in front", ".example.com", "empty label"),
    ("a space", "a b", "character"),
    ("a NUL", "a\0.example", "character"),
    ("a line break at the end", "example.com\n", "character"),
    ("a slash", "a/b", "character"),
    ("a port", "example.com:80", "character"),
    ("a star", "*.example.com", "character"),
    ("a long label", "a" * 64 + ".example", "longer than 63"),
    ("a long name", "a." * 127 + "example", "longer than 253"),
    ("an address", "127.0.0.1", "ends in a number"),
    ("an address with a dot behind", "127.0.0.1.", "ends in a number"),
    ("a decimal address", "2130706433", "ends in a number"),
    ("a hexadecimal address", "0x7f000001", "ends in a number"),
    ("half of a hexadecimal address", "0x", "ends in a number"),
    ("a name whose last label is a number", "example.1", "ends in a number"),
    ("a name whose last label is hexadecimal", "example.0xA", "ends in a number"),
    ("fullwidth digits", "１２７.０.０.１", "ends in a number"),
    ("Unicode that no name may hold", "a\u202eb.example", "international name"),
    ("a lone surrogate", "a\udc80.example", "international name"),
    ("a label that is only a combining mark", "\u0301.example", "international name"),
]


@pytest.mark.parametrize(("text", "why"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_name(text: str, why: str) -> None:
    """What is no host name is refused, and the message says what is wrong."""
    with pytest.raises(ValueError, match=why):
        normalize(text)


labels = st.text("abcXYZ019-_", min_size=1, max_size=12)
names = st.lists(labels, min_size=1, max_size=6).map(".".join)


@given(st.text() | names)
def test_normalize_is_idempotent(text: str) -> None:
    """Any text is a name or a ValueError; a name in normal form stays as it is."""
    try:
        name = normalize(text)
    except ValueError:
        return
    assert normalize(name) == name
    assert name.isascii()
    assert name == name.lower()
    assert len(name) <= 253


@given(names)
def test_normalize_is_blind_to_case_and_the_last_dot(name: str) -> None:
    """Letter case and one trailing dot change nothing, neither for names nor for what is none."""

    def outcome(text: str) -> str | None:
        try:
            return normalize(text)
        except ValueError:
            return None

    assert outcome(name) == outcome(name.upper()) == outcome(name + ".") == outcome(name.lower())


HOSTS = [
    ("Example.COM.", "example.com"),
    ("127.0.0.1", an_address("127.0.0.1")),
    ("[::1]", an_address("::1")),
    ("[2001:DB8::1]", an_address("2001:db8::1")),
    ("[::ffff:127.0.0.1]", an_address("::ffff:127.0.0.1")),
]


@pytest.mark.parametrize(("text", "expected"), HOSTS, ids=[text for text, _ in HOSTS])
def test_hosts(text: str, expected: object) -> None:
    """A host is a name, an IPv4 address, or an IPv6 address in brackets."""
    assert parse_host(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "::1",
        "[127.0.0.1]",
        "[example.com]",
        "[::1",
        "::1]",
        "[]",
        "[[::1]]",
        "[fe80::1%lo]",
        "[fe80::1%25lo]",
        "127.1",
        "0177.0.0.1",
        "127.0.0.01",
        "0x7f.0.0.1",
        "1.2.3.4.5",
        "1.2.3.256",
        "bücher.example",
        "",
        "a@b",
        " a",
    ],
)
def test_what_is_no_host(text: str) -> None:
    """Other spellings of addresses, and what is neither, are refused and never repaired."""
    with pytest.raises(ValueError):
        parse_host(text)


@given(st.text())
def test_parse_host_is_total(text: str) -> None:
    """Any text is a host or a ValueError."""
    try:
        parse_host(text)
    except ValueError:
        return


@given(names)
def test_suffixes(name: str) -> None:
    """The suffixes are the name and all that remains when labels are taken off its front."""
    parts = name.split(".")
    assert list(suffixes(name)) == [".".join(parts[at:]) for at in range(len(parts))]


REGISTERED = [
    ("example.com", "example.com"),
    ("a.b.example.com", "example.com"),
    ("com", ""),
    ("co.uk", ""),
    ("www.example.co.uk", "example.co.uk"),
    ("github.io", ""),
    ("a.me.github.io", "me.github.io"),
    ("bucket.s3.amazonaws.com", "bucket.s3.amazonaws.com"),
    ("www.ck", "www.ck"),
    ("a.b.c.ck", "b.c.ck"),
    ("xn--bcher-kva.xn--p1ai", "xn--bcher-kva.xn--p1ai"),
    ("host.corp.internal", "corp.internal"),
    ("intranet", ""),
    ("", ""),
    ("x/y.example.com", "example.com"),
    ("example.com/.evil.net", "evil.net"),
    ("a?b=c.example.com", "example.com"),
    ("user@a.example.co.uk", "example.co.uk"),
    ("a:80.example.com", "example.com"),
    ("http://good.com/.evil.net", "evil.net"),
    ("x\\046y.example.com", "example.com"),
    ("x y.example.com", "example.com"),
]


@pytest.mark.parametrize(("name", "expected"), REGISTERED, ids=[name or "root" for name, _ in REGISTERED])
def test_registered_domains(name: str, expected: str) -> None:
    """The registered domain is one label below the public suffix, whatever a name off the wire holds in front."""
    assert registered_domain(name) == expected


def test_registered_domains_are_those_of_the_library() -> None:
    """At every rule of the public suffix list, above it, and below it."""
    library = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)
    rules = [rule.lstrip("!").replace("*", "star") for rule in read_rules().everything]
    for rule in rules:
        for name in (rule, f"a.{rule}", f"b.a.{rule}", "a." + rule.partition(".")[2]):
            found = library(name)
            if found.suffix:
                assert registered_domain(name) == found.top_domain_under_public_suffix, name


@given(st.lists(st.text("ab/?#@:[]%\\ -.", min_size=1, max_size=8), max_size=3).map(".".join))
def test_nothing_in_front_moves_the_registered_domain(front: str) -> None:
    """No visible character in a label changes which domain a name belongs to: accounts and rules hang on it."""
    assert registered_domain(f"{front}.example.co.uk") == "example.co.uk"


EMBEDDED = [
    ("127.0.0.1.nip.io", ["127.0.0.1"]),
    ("www.127-0-0-1.nip.io", ["127.0.0.1"]),
    ("app-10-1-2-3.nip.io", ["10.1.2.3"]),
    ("7f000001.nip.io", ["127.0.0.1"]),
    ("x-0a000001.nip.io", ["10.0.0.1"]),
    ("10.0.0.1.sslip.io", ["10.0.0.1"]),
    ("--1.sslip.io", ["::1"]),
    ("www.2606-4700--1111.sslip.io", ["2606:4700::1111"]),
    ("fd00-a-b-c-d-e-f-1.sslip.io", ["fd00:a:b:c:d:e:f:1"]),
    ("7f000001.c0a80001.rbndr.us", ["127.0.0.1", "192.168.0.1"]),
    ("make-8.8.8.8-rebind-127.0.0.1-rr.1u.ms", ["8.8.8.8", "127.0.0.1"]),
    ("1.2.3.127.0.0.1.nip.io", ["1.2.3.127", "2.3.127.0", "3.127.0.0", "127.0.0.1"]),
    ("127-0-0-1.traefik.me", ["127.0.0.1"]),
    ("lvh.me", ["127.0.0.1"]),
    ("any.thing.localtest.me", ["127.0.0.1"]),
    ("localhost", ["127.0.0.1"]),
    ("a.localhost", ["127.0.0.1"]),
    ("localhost.localdomain", ["127.0.0.1"]),
    ("nip.io", []),
    ("www.nip.io", []),
    ("999.0.0.1.nip.io", []),
    ("a--b.sslip.io", ["a::b"]),
    ("x--y.sslip.io", []),
    ("127.0.0.1.example.com", []),
    ("notnip.io", []),
    ("127.0.0.1.evilnip.io", []),
    ("mylocalhost", []),
]


@pytest.mark.parametrize(("name", "expected"), EMBEDDED, ids=[name for name, _ in EMBEDDED])
def test_embedded_addresses(name: str, expected: list[str]) -> None:
    """A name under a name-your-address service stands for every address that can be read out of it."""
    assert [str(address) for address in embedded_addresses(name)] == expected


@given(st.text() | names)
def test_embedded_addresses_is_total(text: str) -> None:
    """Whatever is in front of such a zone, reading it raises nothing."""
    for zone in ("nip.io", "sslip.io", "rbndr.us"):
        embedded_addresses(f"{text}.{zone}")


@given(names)
def test_zones_of_addresses(name: str) -> None:
    """A name that stands for an address is under a zone that names addresses."""
    for text in (name, f"{name}.nip.io", "10-0-0-1.nip.io"):
        if embedded_addresses(text.lower()):
            assert names_addresses(text.lower())
