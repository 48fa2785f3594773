"""Tests of `gateway.proxy.sweeper`."""

import asyncio
import logging
import time

import pytest

from gateway.proxy.sweeper import SLICE, Sweeper
from tests.integration.proxy_rig import until


class Asked:
    """Counts how often it is asked."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.times = 0
        self.breaks = breaks
        self.enough = asyncio.Event()

    def check(self, now: float) -> None:
        """Count."""
        self.times += 1
        if self.breaks:
            raise RuntimeError("injected")
        if self.times > 2:
            self.enough.set()

    def abort(self) -> None:
        """Nothing to cut off."""


async def test_everybody_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """Everything alive is asked again and again, whatever becomes of one of them."""
    sweeper = Sweeper(tick=0.001)
    broken, healthy = Asked(breaks=True), Asked()
    sweeper.alive.update((broken, healthy))
    with caplog.at_level(logging.CRITICAL):
        await asyncio.wait_for(healthy.enough.wait(), 5)
    assert broken.times == 1
    sweeper.stop()
    sweeper.stop()


class Slow(Asked):
    """Takes a while."""

    def check(self, now: float) -> None:
        """Work."""
        super().check(now)
        ends = time.perf_counter() + SLICE / 4
        while time.perf_counter() < ends:
            pass


async def test_others_have_their_turn() -> None:
    """A tick with much to do gives way in between, asks everybody once, and nobody who is gone."""
    sweeper = Sweeper(tick=0.001)
    many = [Slow() for _ in range(40)]
    sweeper.alive.update(many)
    await until(lambda: any(each.times for each in many))
    turns, gone = 0, []
    while waiting := [each for each in many if not each.times and each not in gone]:
        turns += 1
        gone.append(waiting[0])
        sweeper.alive.discard(waiting[0])
        await asyncio.sleep(0)
    assert turns >= 3
    assert not any(each.times for each in gone)
    assert {each.times for each in many if each not in gone} == {1}
    sweeper.stop()
