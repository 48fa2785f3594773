"""Tests of `gateway.proxy.entrance`: one in a turn of the event loop, and a line for whoever is turned away."""

import asyncio
import logging
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.decision import Reason
from gateway.policy import Policy
from gateway.proxy import entrance as module
from gateway.proxy.desk import Desk, client_at
from gateway.proxy.entrance import Entrance
from gateway.request import Client
from tests.integration.proxy_rig import Bench, Line, until

ONE, OTHER = client_at("192.0.2.1"), client_at("192.0.2.2")


class Way:
    """An entrance, and what became of those who came."""

    def __init__(self, room: int = 100, descriptors: int = 100) -> None:
        self.judge = Bench(Policy())
        self.desk = SimpleNamespace(
            loop=asyncio.get_running_loop(), open=0, most=descriptors, spare=0, judge=self.judge
        )
        self.entrance = Entrance(cast(Desk, self.desk), room)
        self.entered: list[Client] = []
        self.left: list[Client] = []
        self.told = 0

    def leave(self, client: Client, told: bool) -> None:
        """Remember who was turned away, and whether it was told."""
        self.left.append(client)
        self.told += told

    def come(self, *clients: Client) -> None:
        """Have clients come one after the other, in this turn of the event loop."""
        for client in clients:
            self.entrance.come(client, partial(self.entered.append, client), partial(self.leave, client))

    @property
    def lines(self) -> list[Line]:
        """What was recorded."""
        return self.judge.ledger.lines


async def test_nobody_waits_for_nobody() -> None:
    """Who comes alone goes in at once."""
    way = Way()
    for _ in range(3):
        way.come(ONE)
        assert not way.entrance.waiting
        await asyncio.sleep(0)
    assert way.entered == [ONE] * 3


async def test_one_in_each_turn() -> None:
    """Of many who come at once the event loop is given one at a time, and the sources take turns."""
    way = Way()
    way.come(*[ONE] * 5, OTHER)
    assert way.entered == [ONE]
    seen = []
    while way.entrance.waiting:
        await asyncio.sleep(0)
        seen.append(len(way.entered))
    assert seen == [2, 3, 4, 5, 6]
    assert way.entered.index(OTHER) <= 2


async def test_a_network_of_addresses_is_one_source() -> None:
    """One host may have every address of an IPv6 /64."""
    way = Way()
    flood = [client_at(f"2001:db8::{number:x}") for number in range(1, 20)]
    other = client_at("2001:db8:0:1::1")
    way.come(*flood, other)
    for _ in range(2):
        await asyncio.sleep(0)
    assert other in way.entered


async def test_who_is_turned_away_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first at once, the others in a line for each time, whose counts add up; then nothing more is said."""
    monkeypatch.setattr(module, "_TELLS", 0.05)
    way = Way(room=10)
    way.come(*[ONE] * 26)
    assert len(way.left) == 20
    assert way.told == 1
    assert [(line.request.client, line.decision.reason) for line in way.lines] == [(ONE, Reason.RATE_LIMIT)]
    assert all(line.decision.denied for line in way.lines)
    await until(lambda: len(way.lines) == 2)
    assert way.lines[1].outcome is not None
    assert way.lines[1].outcome.count == 19
    await until(lambda: not way.entrance._untold)
    assert len(way.lines) == 2
    way.come(*[ONE] * 26)
    assert len(way.lines) == 3


async def test_whoever_waits_will_need_descriptors() -> None:
    """With those who are in, no more than there are for."""
    way = Way(descriptors=10)
    way.desk.open = 7
    way.come(*[ONE] * 3, OTHER, OTHER)
    assert way.left == [OTHER]
    assert [line.request.client for line in way.lines] == [OTHER]


async def test_at_most_so_many_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless addresses that are turned away are counted together."""
    monkeypatch.setattr(module, "_TOLD", 3)
    way = Way(room=2)
    way.come(*(client_at(f"192.0.2.{number}") for number in range(1, 20)))
    assert len(way.left) == 16
    assert len(way.entrance._untold) == 4
    way.entrance.close()
    assert sum(line.outcome.count if line.outcome else 1 for line in way.lines) == 16


async def test_who_cannot_be_let_in_is_sent_away(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong with one is logged, and the next has its turn."""
    way = Way()

    def breaks() -> None:
        raise RuntimeError("injected")

    way.come(ONE)
    way.entrance.come(OTHER, breaks, partial(way.leave, OTHER))
    way.come(ONE)
    with caplog.at_level(logging.CRITICAL):
        await until(lambda: len(way.entered) == 2)
    assert way.left == [OTHER]


async def test_who_is_next_cannot_be_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all who wait are sent away, and whoever comes afterwards is let in."""
    way = Way()
    way.come(ONE, ONE, OTHER)

    def breaks() -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(way.entrance._queue, "take", breaks)
    with caplog.at_level(logging.CRITICAL):
        await until(lambda: way.left)
    assert not way.entrance.waiting
    assert len(way.left) == 2
    await asyncio.sleep(0)
    way.come(OTHER)
    assert way.entered == [ONE, OTHER]


async def test_what_cannot_be_recorded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is turned away stays turned away, and the log says so."""
    way = Way(room=2)

    def breaks(_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(Bench, "decide", breaks)
    with caplog.at_level(logging.ERROR):
        way.come(ONE, ONE, ONE)
    assert way.left == [ONE]
    assert "could not be recorded" in caplog.text


async def test_closing() -> None:
    """Who waits then, or comes later, is sent away, and nothing is recorded for that."""
    way = Way()
    way.come(ONE, ONE, OTHER)
    way.entrance.close()
    way.come(OTHER)
    await asyncio.sleep(0)
    assert way.entered == [ONE]
    assert sorted(map(str, way.left)) == sorted(map(str, [ONE, OTHER, OTHER]))
    assert not way.lines
