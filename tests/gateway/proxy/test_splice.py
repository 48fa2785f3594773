"""Tests of `gateway.proxy.splice`."""

import pytest

from gateway.proxy.splice import Splice
from tests.gateway.proxy.fakes import FakeTransport


class Tunnel:
    """A splice between two transports that tests can look into."""

    def __init__(self, *, ended: bool = False, idle: float = 10, lifetime: float = 100) -> None:
        self.finished: list[Splice] = []
        self.splice = Splice(now=0, idle=idle, lifetime=lifetime, finished=self.finished.append)
        self.client, self.origin = FakeTransport(), FakeTransport()
        self.splice.origin.connection_made(self.origin)
        self.splice.join(self.client, bytearray(b"hello"), ended=ended)


def test_octets() -> None:
    """Octets go both ways and are counted, those read before included."""
    tunnel = Tunnel()
    tunnel.splice.client.data_received(b"12")
    tunnel.splice.origin.data_received(b"345")
    assert (bytes(tunnel.origin.sent), bytes(tunnel.client.sent)) == (b"hello12", b"345")
    assert (tunnel.splice.octets_out, tunnel.splice.octets_in) == (7, 3)


def test_back_pressure() -> None:
    """A side that is behind stops the other from being read, until it has caught up."""
    tunnel = Tunnel()
    tunnel.splice.client.pause_writing()
    assert tunnel.origin.calls == ["pause_reading"]
    tunnel.splice.client.resume_writing()
    assert tunnel.origin.calls == ["pause_reading", "resume_reading"]


def test_half_close() -> None:
    """The end of one direction is passed on; the end of both closes the tunnel."""
    tunnel = Tunnel()
    assert tunnel.splice.client.eof_received()
    assert tunnel.origin.calls == ["write_eof"]
    assert not tunnel.client.closing
    assert tunnel.splice.origin.eof_received()
    assert tunnel.client.calls == ["close"]
    assert tunnel.origin.calls[-1] == "close"


def test_client_ended_while_dialling() -> None:
    """A client that had ended before the origin was there ends that direction at once."""
    assert Tunnel(ended=True).origin.calls == ["write_eof"]


def test_lost() -> None:
    """When one side is gone, the other is closed, and the end is told once."""
    tunnel = Tunnel()
    tunnel.splice.origin.connection_lost(ConnectionResetError("reset"))
    assert tunnel.client.calls == ["close"]
    assert not tunnel.finished
    tunnel.splice.client.connection_lost(None)
    tunnel.splice.client.connection_lost(None)
    assert tunnel.finished == [tunnel.splice]
    assert tunnel.splice.error == "reset"


def test_idle() -> None:
    """Only time without an octet counts as idle."""
    tunnel = Tunnel()
    tunnel.splice.check(5)
    tunnel.splice.client.data_received(b"x")
    tunnel.splice.check(11)
    tunnel.splice.check(20)
    assert not tunnel.client.closing
    tunnel.splice.check(21)
    assert tunnel.client.calls == ["abort"]
    assert tunnel.splice.error == "idle for too long"


def test_lifetime() -> None:
    """However busy, a tunnel does not live for ever."""
    tunnel = Tunnel(lifetime=15)
    for now in range(14):
        tunnel.splice.client.data_received(b"x")
        tunnel.splice.check(now)
    assert not tunnel.client.closing
    tunnel.splice.client.data_received(b"x")
    tunnel.splice.check(15)
    assert tunnel.splice.error == "open for too long"


def test_origin_lost_before_joining() -> None:
    """An origin that is gone before it was used closes the client."""
    finished: list[Splice] = []
    splice = Splice(now=0, idle=1, lifetime=1, finished=finished.append)
    splice.origin.connection_made(FakeTransport())
    splice.origin.connection_lost(None)
    client = FakeTransport()
    splice.join(client, b"hello")
    assert client.calls == ["close"]
    assert finished == [splice]


def test_origin_speaks_first() -> None:
    """An origin that speaks before it was asked is cut off."""
    splice = Splice(now=0, idle=1, lifetime=1, finished=lambda _: None)
    origin = FakeTransport()
    splice.origin.connection_made(origin)
    splice.origin.data_received(b"SSH-2.0")
    assert origin.calls == ["abort"]


@pytest.mark.parametrize("side", ["client", "origin"])
def test_reset_peer(side: str) -> None:
    """A peer that cannot be told the end any more is cut off."""
    tunnel = Tunnel()
    getattr(tunnel, side).broken = True
    (tunnel.splice.origin if side == "client" else tunnel.splice.client).eof_received()
    assert tunnel.client.closing
    assert tunnel.origin.closing
