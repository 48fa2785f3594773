"""What connections share: who has how many open, and who is behind an address."""

import asyncio
from typing import cast

import pytest

from gateway.policy import Policy
from gateway.proxy.authentication import Authenticator
from gateway.proxy.desk import Desk, Inspector, client_at
from gateway.proxy.dial import Dialer
from gateway.proxy.sweeper import Sweeper
from gateway.proxy.uploads import Uploads
from gateway.proxysection import ProxyLimits, ProxySection
from tests.builders import an_address
from tests.integration.proxy_rig import Bench, Names


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7"),
    ],
)
def test_who_is_there(name: str, address: str) -> None:
    """A client is its address, however the socket writes it."""
    assert client_at(name).address == an_address(address)


def a_desk() -> Desk:
    """Return a desk at which a client may have three connections."""
    return Desk(
        Bench(Policy()),
        lambda: ProxySection(limits=ProxyLimits(connections_per_client=3)),
        Dialer(Names({})),
        cast(Inspector, None),
        Sweeper(),
        Authenticator(lambda: None, asyncio.get_running_loop().time),
        Uploads(),
    )


async def test_counting() -> None:
    """Connections are counted by client, and a client with none is forgotten."""
    desk = a_desk()
    one, other = client_at("192.0.2.1"), client_at("192.0.2.2")
    assert [desk.enter(one), desk.enter(one), desk.enter(other)] == [0, 1, 0]
    desk.leave(one)
    assert desk.per_client == {one: 1, other: 1}
    desk.leave(one)
    desk.leave(other)
    desk.leave(other)
    assert desk.per_client == {}
    assert desk.open == 0


async def test_too_many() -> None:
    """One client may have so many, all together as many as there are descriptors for; each is told which it was."""
    desk = a_desk()
    assert 0 < desk.spare <= 1024
    assert desk.spare < desk.most
    desk.most, desk.spare = 5, 2
    ours, others = client_at("192.0.2.1"), [client_at(f"192.0.2.{each}") for each in range(2, 7)]
    assert not any(desk.too_many(ours, desk.enter(ours)) for _ in range(3))
    assert desk.too_many(ours, desk.enter(ours)) == "3 connections are open from 192.0.2.1"
    desk.leave(ours)
    told = [desk.too_many(other, desk.enter(other)) for other in others]
    assert told[:2] == ["", ""]
    assert told[2] == "5 connections are open, and there are file descriptors for 5"
    assert not desk.has_room_for_words
    desk.leave(ours)
    assert desk.has_room_for_words
