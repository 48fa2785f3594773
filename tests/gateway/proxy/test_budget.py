"""Tests of `gateway.proxy.budget`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Budget
from gateway.proxy.budget import SIZE, Account, BudgetTable, account_of
from tests.builders import an_address

HOUR = Budget(1000, 3600)


def a_table() -> BudgetTable:
    """Return a table with nothing in it."""
    return BudgetTable(memoryview(bytearray(SIZE)))


def an_account(client: str = "10.1.0.5", host: str = "www.example.com", budget: Budget = HOUR) -> Account:
    """Return an account."""
    return account_of(an_address(client), host, budget)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("10.1.0.5", "a.example.com"), ("10.1.0.5", "b.c.example.com"), True),
        (("10.1.0.5", "a.example.com"), ("10.1.0.5", "example.org"), False),
        (("10.1.0.5", "a.github.io"), ("10.1.0.5", "b.github.io"), False),
        (("10.1.0.5", "a.example.com"), ("10.1.0.6", "a.example.com"), False),
        (("2001:db8::1", "a.example.com"), ("2001:db8::2", "a.example.com"), True),
        (("2001:db8::1", "a.example.com"), ("2001:db8:0:1::1", "a.example.com"), False),
    ],
    ids=[
        "hosts of one registered domain",
        "two domains",
        "two customers of one suffix",
        "two clients",
        "addresses of one /64",
        "addresses of two /64s",
    ],
)
def test_accounts(first: tuple[str, str], second: tuple[str, str], same: bool) -> None:
    """An account is for one client and one registered domain."""
    assert (an_account(*first) == an_account(*second)) is same


def test_address() -> None:
    """A destination without a name is its address."""
    account = account_of(an_address("10.1.0.5"), an_address("192.0.2.1"), HOUR)
    assert account.destination == "192.0.2.1"
    assert str(account) == "the upload budget for 192.0.2.1 (1000B in 1h) is used up"


def test_the_cap() -> None:
    """The cap is reached to the octet, and not passed."""
    table, account = a_table(), an_account()
    assert (grant := table.take(account, 600, 600, 1e9)) is not None
    assert grant.octets == 600
    assert table.take(account, 401, 401, 1e9) is None
    assert table.room(account, 1e9) == 400
    assert (grant := table.take(account, 999, 1, 1e9)) is not None
    assert grant.octets == 400
    assert table.take(account, 1, 1, 1e9) is None


def test_given_back() -> None:
    """What was not used is free again."""
    table, account = a_table(), an_account()
    grant = table.take(account, 1000, 1, 1e9)
    assert grant is not None
    table.give_back(account, grant, 300, 1e9)
    assert table.room(account, 1e9) == 300


def test_given_back_too_late() -> None:
    """Octets whose part of the window is over are nobody's any more."""
    table, account = a_table(), an_account()
    grant = table.take(account, 1000, 1, 1e9)
    assert grant is not None
    later = 1e9 + 3600 * 2
    assert table.take(account, 1000, 1000, later) is not None
    table.give_back(account, grant, 300, later)
    assert table.room(account, later) == 0


def test_a_clock_set_back() -> None:
    """A clock that was set back frees nothing."""
    table, account = a_table(), an_account()
    assert table.take(account, 1000, 1000, 1e9) is not None
    assert table.take(account, 1, 1, 1e9 - 7200) is None
    assert table.take(account, 1, 1, 1e9) is None


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 400)), max_size=60))
def test_no_window_holds_more(steps: list[tuple[int, int]]) -> None:
    """Whatever is asked for and when, no span of the window's length ever holds more than the cap."""
    table, account = a_table(), an_account()
    now, sent = 1e9, list[tuple[float, int]]()
    for pause, octets in steps:
        now += pause
        if table.take(account, octets, octets, now) is not None:
            sent.append((now, octets))
        assert sum(octets for at, octets in sent if at > now - HOUR.seconds) <= HOUR.octets


def test_a_full_region() -> None:
    """A client with too many destinations gets no more of them, keeps those it has, and disturbs no other region."""
    table = a_table()
    first = an_account(host="d0.test")
    for number in range(1024):
        assert table.take(an_account(host=f"d{number}.test"), 1, 1, 1e9) is not None
    assert table.take(an_account(host="more.test"), 1, 1, 1e9) is None
    assert table.room(first, 1e9) == 999
    other = next(account for last in range(6, 99) if (account := an_account(f"10.1.0.{last}")).region != first.region)
    assert table.take(other, 1, 1, 1e9) is not None
    assert table.take(an_account(host="more.test"), 1, 1, 1e9 + 2 * 3600) is not None
