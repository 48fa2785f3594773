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
from gateway.schema import ProxySection
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


async def test_counting() -> None:
    """Connections are counted by client, and a client with none is forgotten."""
    desk = Desk(
        Bench(Policy()),
        ProxySection,
        Dialer(Names({})),
        cast(Inspector, None),
        Sweeper(),
        Authenticator(lambda: None, asyncio.get_running_loop().time),
        Uploads(),
    )
    one, other = client_at("192.0.2.1"), client_at("192.0.2.2")
    assert [desk.enter(one), desk.enter(one), desk.enter(other)] == [0, 1, 0]
    desk.leave(one)
    assert desk.per_client == {one: 1, other: 1}
    desk.leave(one)
    desk.leave(other)
    desk.leave(other)
    assert desk.per_client == {}
