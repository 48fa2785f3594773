"""Authorities: host and port, split one way only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.authority import split_authority
from gateway.request import Host
from tests.builders import an_address

GOOD: list[tuple[str, int | None, Host, int]] = [
    ("example.com:443", None, "example.com", 443),
    ("EXAMPLE.com.:8443", 443, "example.com", 8443),
    ("example.com", 80, "example.com", 80),
    ("192.0.2.1:80", None, an_address("192.0.2.1"), 80),
    ("[::1]:65535", None, an_address("::1"), 65535),
    ("[2001:db8::1]", 443, an_address("2001:db8::1"), 443),
    ("example.com:00080", None, "example.com", 80),
]


@pytest.mark.parametrize(("text", "default", "host", "port"), GOOD, ids=[row[0] for row in GOOD])
def test_good_authorities(text: str, default: int | None, host: Host, port: int) -> None:
    """Host and port are what was written, the host in normal form."""
    assert split_authority(text, default) == (host, port)


BAD = [
    "",
    ":443",
    "example.com:",
    "example.com:0",
    "example.com:65536",
    "example.com:100000",
    "example.com:-1",
    "example.com:+80",
    "example.com:8 0",
    "example.com:４４３",
    "example.com:443:443",
    "::1:443",
    "::1",
    "[::1",
    "[::1]443",
    "[::1]:",
    "[example.com]:443",
    "[127.0.0.1]:443",
    "[fe80::1%25lo]:443",
    "user@example.com:443",
    "user:pass@example.com:443",
    "example.com/path",
    "example.com?x",
    "example.com#x",
    "example.com\\x",
    " example.com",
    "example.com ",
    "example.com\r\n",
    "example.com\n",
    "exam\tple.com",
    "a.test,b.test",
    "exa\0mple.com",
    "bücher.example",
    "0x7f.1:443",
    "2130706433:443",
]


@pytest.mark.parametrize("text", BAD, ids=[repr(text) for text in BAD])
def test_bad_authorities(text: str) -> None:
    """What is not host or host:port is refused, never repaired."""
    with pytest.raises(ValueError):
        split_authority(text, 443)


def test_a_missing_port_needs_a_default() -> None:
    """Without a default (as in CONNECT) the port has to be written."""
    with pytest.raises(ValueError, match="has no port"):
        split_authority("example.com", None)


@given(st.text() | st.text("a.:[]@/0189%- \r\n"))
def test_splitting_is_total(text: str) -> None:
    """Any text gives a host and a port that exists, or a ValueError."""
    try:
        host, port = split_authority(text, 443)
    except ValueError:
        return
    assert 0 < port < 65536
    assert host
