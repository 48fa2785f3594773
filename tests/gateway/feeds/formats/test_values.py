"""Values as strangers write them: names, addresses, ports, URLs."""

import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.entry import Entry, NameEntry, PathEntry, RangeEntry, Scope, Unsupported
from gateway.feeds.formats.values import (
    PLAIN_NAME,
    is_sink,
    make_range,
    read_name,
    read_range,
    read_url,
    read_value,
    strip_port,
    uncomment,
)
from gateway.names import normalize


@given(st.from_regex(PLAIN_NAME, fullmatch=True).filter(lambda name: len(name) <= 253))
def test_plain_names_are_normal(name: str) -> None:
    """What the short cut takes for a normal name is one, with two labels or more."""
    assert normalize(name) == name
    assert "." in name


def test_plain_names_do_not_backtrack() -> None:
    """The short cut gives up on a hostile line at once."""
    assert re.fullmatch(PLAIN_NAME, "a." * 2000 + "!") is None


@pytest.mark.parametrize("text", ["com", "localhost", "com."])
def test_single_labels(text: str) -> None:
    """A top-level domain is not taken for a name."""
    with pytest.raises(ValueError, match="single label"):
        read_name(1, text, Scope.EXACT)


@given(st.ip_addresses().filter(lambda address: int(address) >> 32 != 0xFFFF))
def test_addresses_are_read(address: object) -> None:
    """Every address reads as itself."""
    value = ip_address(str(address))
    assert read_range(1, str(address)) == RangeEntry(1, int(value), int(value), value.version)


@given(st.ip_addresses(v=4), st.integers(min_value=1, max_value=32))
def test_prefixes_are_masked(address: object, length: int) -> None:
    """A prefix covers its network, whatever its host bits are."""
    network = ip_network(f"{address}/{length}", strict=False)
    first, last = int(network.network_address), int(network.broadcast_address)
    assert read_range(7, f"{address}/{length}") == RangeEntry(7, first, last, 4)


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.01",
        "192.0.2",
        "1.2.3.4.5",
        "192.0.2.256",
        "192.0.2.0/33",
        "2001:db8::/129",
        "fe80::1%eth0",
        "1::2::3",
    ],
)
def test_malformed_addresses(text: str) -> None:
    """What looks like an address and is none, or is read differently by different programs, is refused."""
    with pytest.raises(ValueError, match="malformed address"):
        read_range(1, text)


@pytest.mark.parametrize("text", ["a.example", "192.0.2.1.example", "", "example:80"])
def test_not_addresses(text: str) -> None:
    """What does not look like an address is left to others."""
    assert read_range(1, text) is None


def test_mapped_addresses_are_ipv4() -> None:
    """An IPv4-mapped address means the IPv4 address."""
    assert read_range(1, "::ffff:192.0.2.0/120") == read_range(1, "192.0.2.0/24")


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
def test_everything_is_refused(text: str) -> None:
    """No line of a list can cover the whole Internet."""
    with pytest.raises(ValueError, match="covers every address"):
        read_range(1, text)


def test_ranges_have_a_direction() -> None:
    """A range that ends before it begins is refused."""
    with pytest.raises(ValueError, match="ends before it begins"):
        make_range(1, 2, 1, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0", True),
        ("127.0.0.1", True),
        ("127.0.53.53", True),
        ("::", True),
        ("0:0:0:0:0:0:0:1", True),
        ("0", True),
        ("192.0.2.1", False),
        ("name.example", False),
        ("", False),
    ],
)
def test_sinks(text: str, expected: bool) -> None:
    """Blocked names are sent to unspecified or loopback addresses."""
    assert is_sink(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example", "a.example"),
        ("a.example:80", "a.example"),
        ("a.example:", "a.example"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_ports(text: str, expected: str) -> None:
    """A port is taken off, and no part of an address."""
    assert strip_port(text) == expected


@pytest.mark.parametrize(
    "text", ["a.example:http", "a.example:65536", "a.example:²", "[2001:db8::1]80", "[a.example]"]
)
def test_bad_ports(text: str) -> None:
    """What is not a port, or no address in brackets, is refused."""
    with pytest.raises(ValueError, match=r"port|malformed"):
        strip_port(text)


@pytest.mark.parametrize("text", ["http://a.example#x", "HTTPS://user@A.example./", "a.example", "a.example:8080/"])
def test_urls_without_a_path(text: str) -> None:
    """A URL without a path is about its host, exactly."""
    assert read_url(1, text) == NameEntry(1, "a.example", Scope.EXACT)


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("http://a.example/x#y", "a.example", "/x"),
        ("a.example/%7Ex/../y?z", "a.example", "/y?z"),
        ("http://a.example?x", "a.example", "/?x"),
        ("http://user:pass@word@a.example:8080/x", "a.example", "/x"),
        ("http://192.0.2.1/x", "192.0.2.1", "/x"),
        ("http://[2001:DB8::1]/x", "2001:db8::1", "/x"),
        ("http://a.example/http://b.example/", "a.example", "/http://b.example/"),
        ("http://a.example/x@b.example", "a.example", "/x@b.example"),
    ],
)
def test_urls(text: str, host: str, path: str) -> None:
    """A URL with a path is about that path on that host; scheme, port, user and fragment are dropped."""
    assert read_url(1, text) == PathEntry(1, host, path)


@pytest.mark.parametrize(
    "text",
    [
        *("http://a.example\\@b.example/", "http://a b.example/", "http://a.example:x/", "http:///x", "/x", ""),
        *("http://%61.example/x", "//a.example/x", "http://0x7f.1/x", "http://[::1/x"),
    ],
)
def test_bad_urls(text: str) -> None:
    """A URL is refused when programs would not agree on its host, or it has none."""
    with pytest.raises(ValueError):
        read_url(1, text)


@pytest.mark.parametrize("text", ["ftp://a.example/x", "hxxp://a.example/"])
def test_other_schemes(text: str) -> None:
    """URLs of other schemes are of no use."""
    with pytest.raises(Unsupported, match="scheme"):
        read_url(1, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example", NameEntry(1, "a.example", Scope.EXACT)),
        ("a.example:443", NameEntry(1, "a.example", Scope.EXACT)),
        (".a.example", NameEntry(1, "a.example", Scope.TREE)),
        ("192.0.2.1:443", RangeEntry(1, 0xC0000201, 0xC0000201, 4)),
        ("192.0.2.0/24", RangeEntry(1, 0xC0000200, 0xC00002FF, 4)),
        ("http://a.example/x", PathEntry(1, "a.example", "/x")),
        ("a.example/x", PathEntry(1, "a.example", "/x")),
        ("http://[2001:db8::1]/x", PathEntry(1, "2001:db8::1", "/x")),
    ],
)
def test_values_of_any_kind(text: str, expected: Entry) -> None:
    """A value is read as what it is written like."""
    assert read_value(1, text, Scope.EXACT) == expected


@pytest.mark.parametrize("digits", [32, 40, 64])
def test_hashes(digits: int) -> None:
    """The hash of a file is not a name."""
    with pytest.raises(Unsupported, match="file hash"):
        read_value(1, "a" * digits, Scope.EXACT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# x", ""),
        ("! x", ""),
        ("a.example # x", "a.example"),
        ("a.example\t; x", "a.example"),
        ("a.example // x", "a.example"),
        ("a.example#x", "a.example#x"),
        ("http://a.example/", "http://a.example/"),
    ],
)
def test_comments(text: str, expected: str) -> None:
    """A comment begins the line or follows a space."""
    assert uncomment(text) == expected
