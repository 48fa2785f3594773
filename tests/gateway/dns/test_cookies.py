"""Tests for gateway.dns.cookies."""

from ipaddress import ip_address

import pytest
from dnslib import EDNSOption
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.cookies import Cookies, cookie_in
from gateway.dns.wire import Rcode, WireError, read_query
from tests.gateway.dns.support import ask

HERE, ELSEWHERE = ip_address("10.1.0.7"), ip_address("10.1.0.8")
MINE = b"12345678"


def cookies(secret: bytes = b"s" * 32) -> Cookies:
    """Return cookies of a process."""
    return Cookies(secret)


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


def test_processes_with_one_secret_know_each_others_cookies() -> None:
    """A cookie of one worker is good at another of the same service, and at nobody else's."""
    cookie = sent_back(cookies().reply(MINE, HERE, 1000.0))
    assert cookies().is_valid(cookie, HERE, 1010.0)
    assert not cookies(b"t" * 32).is_valid(cookie, HERE, 1010.0)


def test_the_key_changes_every_day() -> None:
    """A cookie outlives the change of the key, and the same question gets another hash under another key."""
    jar, day = cookies(), 86400.0
    cookie = sent_back(jar.reply(MINE, HERE, day - 1))
    for now in (day - 1, day, day + 1800):
        assert jar.is_valid(cookie, HERE, now)
    tomorrow = cookie[:12] + int(day).to_bytes(4, "big") + cookie[16:]
    assert not jar.is_valid(tomorrow, HERE, day)
    for today in range(20):
        assert jar.is_valid(sent_back(jar.reply(MINE, HERE, today * day)), HERE, today * day)


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
