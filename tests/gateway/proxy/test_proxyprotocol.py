"""Tests of `gateway.proxy.proxyprotocol`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.proxyprotocol import SIGNATURE, HeaderReader
from tests.builders import an_address


def version_2(command: int, family: int, data: bytes, length: int | None = None) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + bytes([command, family]) + (len(data) if length is None else length).to_bytes(2) + data


V4 = bytes([192, 0, 2, 7, 198, 51, 100, 1, 0x9C, 0x40, 0x0C, 0x38])
V6 = an_address("2001:db8::7").packed + an_address("2001:db8::1").packed + bytes([0x9C, 0x40, 0x0C, 0x38])
MAPPED = an_address("::ffff:192.0.2.7").packed + an_address("::ffff:198.51.100.1").packed + bytes(4)

GOOD = [
    ("version 1", b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 3128\r\n", "192.0.2.7"),
    ("version 1, IPv6", b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 3128\r\n", "2001:db8::7"),
    ("version 1, port 0", b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n", "192.0.2.7"),
    ("version 1, mapped", b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 1\r\n", "192.0.2.7"),
    ("version 1, unknown", b"PROXY UNKNOWN\r\n", None),
    ("version 1, unknown with addresses", b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 1 1\r\n", None),
    ("version 2", version_2(0x21, 0x11, V4), "192.0.2.7"),
    ("version 2, IPv6", version_2(0x21, 0x21, V6), "2001:db8::7"),
    ("version 2, mapped", version_2(0x21, 0x21, MAPPED), "192.0.2.7"),
    ("version 2 with more fields", version_2(0x21, 0x11, V4 + b"\x03\x00\x04abcd"), "192.0.2.7"),
    ("version 2, local", version_2(0x20, 0x00, b""), None),
    ("version 2, local with an address", version_2(0x20, 0x11, V4), None),
    ("version 2, unspecified", version_2(0x21, 0x00, b""), None),
]
BAD = [
    ("a request", b"GET http://good.test/ HTTP/1.1\r\n", "does not begin"),
    ("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaa", "does not begin"),
    ("lower case", b"proxy TCP4 192.0.2.7 198.51.100.1 1 1\r\n", "does not begin"),
    ("UDP", b"PROXY UDP4 192.0.2.7 198.51.100.1 1 1\r\n", "TCP4 or TCP6"),
    ("the other family", b"PROXY TCP4 2001:db8::7 2001:db8::1 1 1\r\n", "not IPv4"),
    ("a mixture", b"PROXY TCP6 2001:db8::7 198.51.100.1 1 1\r\n", "not IPv6"),
    ("no address", b"PROXY TCP4 192.0.2 198.51.100.1 1 1\r\n", "not IPv4"),
    ("octal", b"PROXY TCP4 192.0.2.07 198.51.100.1 1 1\r\n", "not IPv4"),
    ("a port too high", b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 1\r\n", "port"),
    ("a port with zeros", b"PROXY TCP4 192.0.2.7 198.51.100.1 01 1\r\n", "port"),
    ("two spaces", b"PROXY TCP4  192.0.2.7 198.51.100.1 1 1\r\n", "TCP4 or TCP6"),
    ("bare LF", b"PROXY TCP4 192.0.2.7 198.51.100.1 1 1\n", "TCP4 or TCP6"),
    ("more behind it", b"PROXY TCP4 192.0.2.7 198.51.100.1 1 1 x\r\n", "TCP4 or TCP6"),
    ("endless", b"PROXY TCP6 " + b"1" * 200, "more than 107"),
    ("version 3", version_2(0x31, 0x11, V4), "command 0x31"),
    ("another command", version_2(0x22, 0x11, V4), "command 0x22"),
    ("UDP in version 2", version_2(0x21, 0x12, V4), "family"),
    ("Unix", version_2(0x21, 0x31, bytes(216)), "family"),
    ("short", version_2(0x21, 0x11, V4[:-1]), "ends within"),
    ("IPv6 that is short", version_2(0x21, 0x21, V4), "ends within"),
    ("long", version_2(0x21, 0x11, V4, 0xFFFF), "at most 2048"),
]


def read(data: bytes, step: int = 1 << 16) -> tuple[HeaderReader, bytes]:
    """Feed a reader what it wants, at most `step` octets at a time; return it, and what is left."""
    reader = HeaderReader()
    while reader.wants and data:
        take = min(reader.wants, step)
        reader.feed(data[:take])
        data = data[take:]
    return reader, data


@pytest.mark.parametrize("step", [1, 3, 1 << 16])
@pytest.mark.parametrize(("data", "source"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_good(data: bytes, source: str | None, step: int) -> None:
    """A header gives the client's address, however it is split, and nothing behind it is taken."""
    reader, rest = read(data + b"\x16\x03\x01", step)
    assert reader.wants == 0
    assert reader.source == (None if source is None else an_address(source))
    assert rest == b"\x16\x03\x01"


@pytest.mark.parametrize("step", [1, 1 << 16])
@pytest.mark.parametrize(("data", "told"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad(data: bytes, told: str, step: int) -> None:
    """Anything else is refused as soon as it is seen, with what was wrong."""
    with pytest.raises(ValueError, match=told):
        read(data, step)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_any_octets(data: bytes, begin: bytes) -> None:
    """Any octets are a header, the beginning of one, or a ValueError; never does it want more than it may."""
    try:
        reader, _ = read(begin + data)
    except ValueError:
        return
    assert 0 <= reader.wants <= 2048 + 16
