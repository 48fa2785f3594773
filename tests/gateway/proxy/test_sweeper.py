"""Tests of `gateway.proxy.sweeper`."""

import asyncio
import logging

import pytest

from gateway.proxy.sweeper import Sweeper


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
