"""Tests of `gateway.selfcheck.scripts`: against an open proxy they fail; against none they cannot pass."""

import asyncio

import pytest

from gateway.selfcheck.cases import NUMBERS
from gateway.selfcheck.client import Target
from gateway.selfcheck.scripts import SCRIPTS, Stage
from gateway.selfcheck.world import a_world
from tests.peers.open_proxy import open_proxy

CAUGHT = (
    (14, "the second answer leads elsewhere"), (15, "loopback"), (15, "IPv4 in IPv6"), (15, "metadata"),
    (24, "offer of h2c"), (25, "Alt-Svc"), (28, "unasked 101"),
    (28, "more than Content-Length says"), (28, "bare CR in a field"),
    (28, "2 MB of header fields"), (31, "chunked"), (31, "tunnel"), (32, "100,000 header fields"),
)  # fmt: skip
"""What goes through a proxy that connects each client with its first destination and looks at nothing."""


def test_numbers_are_told() -> None:
    """Every number that is used has a title."""
    assert {number for number, _, _ in SCRIPTS} <= set(NUMBERS)


async def attempt(wanted: tuple[int, str]) -> str:
    """Run a script against an open proxy, and return what went wrong."""
    script = next(script for number, name, script in SCRIPTS if (number, name) == wanted)
    async with a_world(dns=("127.0.0.1", 0)) as world, open_proxy(world.names.table) as port:
        target = Target("127.0.0.1", port, world.good.port, world.evil.port)
        async with asyncio.timeout(30):
            return await script(Stage(target, world, 0.1))


@pytest.mark.parametrize("wanted", CAUGHT, ids=str)
async def test_open_proxy(wanted: tuple[int, str]) -> None:
    """An attempt that goes through is a failure, told in words."""
    assert await attempt(wanted)


@pytest.mark.parametrize("wanted", [(0, "plain HTTP"), (0, "tunnel")], ids=str)
async def test_served(wanted: tuple[int, str]) -> None:
    """A proxy has to serve what is allowed: else it resists nothing, it is only broken."""
    assert not await attempt(wanted)
