"""Tests for gateway.dns.cookies."""

from collections.abc import Callable
from ipaddress import ip_address
from itertools import count

import pytest
from dnslib import EDNSOption
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.cookies import Cookies, cookie_in
from gateway.dns.wire import Rcode, WireError, read_query
from tests.gateway.dns.support import ask

HERE, ELSEWHERE = ip_address("10.1.0.7"), ip_address("10.1.0.8")
MINE = b"12345678"


def counting() -> Callable[[int], bytes]:
    """Return a source of secrets that are different, and the same in each run."""
    numbers = count()
    return lambda size: next(numbers).to_bytes(size, "big")


def cookies() -> Cookies:
    """Return cookies made at 1000."""
    return Cookies(1000.0, counting())


def sent_back(option: bytes) -> bytes:
    """Return what a client sends the next time."""
    assert option[:4] == b"\0\x0a\0\x18"
    return option[4:]


def test_a_cookie_proves_the_address() -> None:
    """Our cookie is valid for the client and the address that it was made for, and for no other."""
    jar = cookies()
    cookie = sent_back(jar.reply(MINE, HERE, 1000.0))
    assert cookie[:8] == MINE
    assert jar.is_valid(cookie, HERE, 1010.0)
    assert not jar.is_valid(cookie, ELSEWHERE, 1010.0)
    assert not jar.is_valid(b"87654321" + cookie[8:], HERE, 1010.0)
    assert not jar.is_valid(MINE, HERE, 1010.0)


@pytest.mark.parametrize(
    ("age", "valid", "kept"),
    [(0, True, True), (1800, True, True), (1801, True, False), (3600, True, False), (3601, False, False)],
)
def test_cookies_grow_old(age: int, valid: bool, kept: bool) -> None:
    """A cookie is replaced after half an hour and worth nothing after an hour."""
    jar = cookies()
    cookie = sent_back(jar.reply(MINE, HERE, 1000.0))
    assert jar.is_valid(cookie, HERE, 1000.0 + age) is valid
    assert (sent_back(jar.reply(cookie, HERE, 1000.0 + age)) == cookie) is kept


def test_the_secret_is_replaced() -> None:
    """A cookie outlives one change of the secret, and not a second one."""
    jar = cookies()
    last = 1000.0 + 86399
    cookie = sent_back(jar.reply(MINE, HERE, last))
    jar.reply(MINE, HERE, last + 1)
    assert jar.is_valid(cookie, HERE, last + 1)
    jar.reply(MINE, HERE, last + 86401)
    assert not jar.is_valid(cookie, HERE, last + 2)


@given(st.binary(min_size=16, max_size=32))
def test_guesses_are_worth_nothing(server: bytes) -> None:
    """A server cookie that we did not make is none."""
    assert not cookies().is_valid(MINE + server, HERE, 1000.0)


@pytest.mark.parametrize("length", range(42))
def test_lengths(length: int) -> None:
    """A cookie of 8 octets, or of 16 to 40, is read; any other length is FORMERR (RFC 7873 section 5.2.2)."""
    packet = ask("a.example", options=[EDNSOption(8, b"\0\1\0\0"), EDNSOption(10, b"x" * length)])
    query = read_query(packet)
    if length == 8 or 16 <= length <= 40:
        assert cookie_in(packet, query) == b"x" * length
        return
    with pytest.raises(WireError) as caught:
        cookie_in(packet, query)
    assert caught.value.rcode == Rcode.FORMERR


def test_no_cookie() -> None:
    """Other options are passed over, and no EDNS is no cookie."""
    for packet in (ask("a.example", options=[EDNSOption(65001, b"?")]), ask("a.example", edns=False)):
        assert cookie_in(packet, read_query(packet)) == b""
