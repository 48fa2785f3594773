"""Tests of `gateway.proxy.farewell`."""

import pytest

from gateway.proxy.farewell import Farewell
from gateway.proxy.sweeper import Sweeper
from tests.gateway.proxy.fakes import FakeTransport


async def test_said_and_waited_for() -> None:
    """The words are sent and ended; the transport is closed by the client, or when it is time."""
    sweeper, transport, done = Sweeper(), FakeTransport(), list[bool]()
    farewell = Farewell(transport, b"no", sweeper, lambda: done.append(True))
    assert bytes(transport.sent) == b"no"
    assert transport.calls == ["write_eof", "resume_reading"]
    assert farewell.eof_received() is False
    farewell.check(0)
    assert not transport.closing
    farewell.check(1e12)
    assert transport.calls[-1] == "abort"
    farewell.connection_lost(None)
    assert done == [True]
    assert not sweeper.alive
    sweeper.stop()


async def test_bounded() -> None:
    """A client that goes on sending for ever is cut off."""
    sweeper, transport = Sweeper(), FakeTransport()
    farewell = Farewell(transport, b"no", sweeper, lambda: None)
    for _ in range(5):
        farewell.data_received(bytes(64 * 1024))
    assert transport.calls[-1] == "abort"
    sweeper.stop()


@pytest.mark.parametrize("state", ["broken", "closing"])
async def test_client_gone(state: str) -> None:
    """A client that is gone already is no trouble."""
    sweeper, transport, done = Sweeper(), FakeTransport(), list[bool]()
    setattr(transport, state, True)
    Farewell(transport, b"no", sweeper, lambda: done.append(True))
    assert transport.closing
    assert done == ([True] if state == "closing" else [])
    sweeper.stop()
