"""Tests of `gateway.proxy.records`: what goes through TLS is what went in, in fewer pieces.

With real clients and origins, and with what breaks, in tests/integration/test_proxy_inspect.py and faults.
"""

import datetime
from collections.abc import Generator
from typing import Any

from mitmproxy import options
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.tunnel import TunnelState
from OpenSSL import SSL

from gateway.proxy.ca import _make
from gateway.proxy.records import ServerTls
from tests.gateway.proxy.handshakes import shake_hands


class Inside(Layer):
    """Answers each piece with two, and something for somebody else between them."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.heard: list[events.Event] = []

    def _handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
        self.heard.append(event)
        if isinstance(event, events.DataReceived):
            yield commands.SendData(self.context.server, b"<" + event.data)
            yield commands.SendData(self.context.client, b"seen")
            yield commands.SendData(self.context.server, b">")
            if event.data.endswith(b"bye"):
                yield commands.CloseConnection(self.context.server)


class Established:
    """A layer whose handshake is over, and the other side."""

    def __init__(self) -> None:
        client = Client(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128), state=ConnectionState.OPEN)
        context = Context(client, options.Options())
        self.conn = context.server = Server(address=("good.test", 443))
        self.conn.state = ConnectionState.OPEN
        self.layer = ServerTls(context)
        self.layer.child_layer = self.inside = Inside(context)
        key, certificate = _make(datetime.datetime.now(datetime.UTC))
        serving = SSL.Context(SSL.TLS_SERVER_METHOD)
        serving.use_certificate(certificate)
        serving.use_privatekey(key)
        self.peer, self.layer.tls = SSL.Connection(serving), SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        shake_hands(self.layer.tls, self.peer)
        self.layer.tunnel_state = TunnelState.OPEN

    def sealed(self, data: bytes) -> bytes:
        """Return what the peer sends to say something."""
        self.peer.sendall(data)
        return self.peer.bio_read(1 << 20)

    def receive(self, *pieces: bytes, size: int = 65535) -> list[commands.Command]:
        """Let the peer say something, in a record for each piece, and pass it on in segments of a size."""
        data = b"".join(map(self.sealed, pieces))
        found: list[commands.Command] = []
        for at in range(0, len(data), size):
            found += self.layer.handle_event(events.DataReceived(self.conn, data[at : at + size]))
        return found

    def read(self, found: list[commands.Command]) -> bytes:
        """Return what the peer can read of what was sent."""
        for command in found:
            if isinstance(command, commands.SendData) and command.connection is self.conn:
                self.peer.bio_write(command.data)
        read = b""
        try:
            while True:
                read += self.peer.recv(65536)
        except SSL.WantReadError:
            return read

    @property
    def heard(self) -> list[bytes]:
        """What came through."""
        return [event.data for event in self.inside.heard if isinstance(event, events.DataReceived)]


def test_what_came_together_goes_on_together() -> None:
    """Several records are one piece, and an answer in two pieces is one record."""
    tls = Established()
    found = tls.receive(b"a" * 20000, b"b", b"c")
    assert tls.heard == [b"a" * 20000 + b"bc"]
    to = [command.connection for command in found if isinstance(command, commands.SendData)]
    assert to.count(tls.conn) == 1
    assert tls.read(found) == b"<" + b"a" * 20000 + b"bc>"


def test_in_any_pieces() -> None:
    """Records that come octet by octet say the same."""
    tls = Established()
    found = tls.receive(b"one", b"two", size=1)
    assert b"".join(tls.heard) == b"onetwo"
    assert tls.read(found) == b"<one><two>"


def test_what_was_said_last_is_sent_before_the_end() -> None:
    """What is held back does not come after the connection is closed."""
    tls = Established()
    found = tls.receive(b"bye")
    ours = [each for each in found if isinstance(each, commands.ConnectionCommand) and each.connection is tls.conn]
    assert [type(each) for each in ours] == [commands.SendData, commands.CloseConnection]
    assert tls.read(found) == b"<bye>"


class Answering(Inside):
    """Says something, tells of it, and has said something more before it goes on."""

    def _handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
        if isinstance(event, events.Wakeup):
            yield commands.SendData(self.context.server, b"second")
            return
        yield commands.SendData(self.context.server, b"first, ")
        yield commands.Log("told")
        yield commands.SendData(self.context.server, b", third")


def test_what_is_said_meanwhile_keeps_its_order() -> None:
    """Who hears a command may have the layer inside send more at once: HTTP/2 begins like that."""
    tls = Established()
    tls.layer.child_layer = Answering(tls.layer.context)
    found: list[commands.Command] = []
    for command in tls.layer.handle_event(events.DataReceived(tls.conn, tls.sealed(b"go"))):
        if isinstance(command, commands.Log):
            found += tls.layer.handle_event(events.Wakeup(commands.RequestWakeup(0)))
        else:
            found.append(command)
    assert tls.read(found) == b"first, second, third"


def test_the_end() -> None:
    """The end of a session comes through, behind what was said before it."""
    tls = Established()
    tls.peer.sendall(b"last")
    tls.peer.shutdown()
    list(tls.layer.handle_event(events.DataReceived(tls.conn, tls.peer.bio_read(65536))))
    assert [type(event) for event in tls.inside.heard] == [events.DataReceived, events.ConnectionClosed]
    assert tls.heard == [b"last"]


def test_nonsense() -> None:
    """Octets that are no record are told to the log and to nobody inside."""
    tls = Established()
    found = list(tls.layer.handle_event(events.DataReceived(tls.conn, b"GET / HTTP/1.1\r\n\r\n")))
    assert any(isinstance(command, commands.Log) for command in found)
    assert not tls.inside.heard
