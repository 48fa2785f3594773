"""mitmproxy's TLS layers with less ado, once the handshake is over: what came together goes on together.

mitmproxy asks OpenSSL for more until it raises, in both directions and for each piece; and sends each piece of an
answer in a record, and in a system call, of its own.
"""

from collections.abc import Generator
from logging import WARNING
from typing import Any

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import tls as tls_layers
from mitmproxy.proxy.layers.tls import ServerTLSLayer, TLSLayer
from mitmproxy.proxy.tunnel import TunnelState
from OpenSSL import SSL

type Commands = Generator[commands.Command, Any, None]

_lib: Any = SSL._lib  # type: ignore[attr-defined]  # as mitmproxy's
_WHERE = SSL._ffi.new("char **")  # type: ignore[attr-defined]
_MOST = 65535


class LeanTls(TLSLayer):
    """Either side of TLS."""

    def handle_event(self, event: events.Event) -> Commands:
        """Go on with an event: there is nothing to wait for after the handshake."""
        if self.tunnel_state is TunnelState.OPEN and self._paused is None:
            if not isinstance(event, events.ConnectionEvent) or event.connection is not self.tunnel_connection:
                return self.event_to_child(event)
            if isinstance(event, events.DataReceived):
                return self.receive_data(event.data)
        return super().handle_event(event)

    def event_to_child(self, event: events.Event) -> Commands:
        """Let the layer inside see an event, and send what it says."""
        if self.tunnel_state is not TunnelState.OPEN:
            yield from super().event_to_child(event)
            return
        conn, held = self.conn, list[bytes]()
        for command in self.child_layer.handle_event(event):
            if isinstance(command, commands.SendData):
                if command.connection is conn:
                    held.append(command.data)
                else:
                    yield command
                continue
            if held:  # more may be sent because of the command, before it comes back here
                yield from self.send_data(b"".join(held))
                held.clear()
            if isinstance(command, commands.ConnectionCommand) and command.connection is conn:
                yield from self._handle_command(command)
            else:
                yield command
        if held:
            yield from self.send_data(b"".join(held))

    def receive_data(self, data: bytes) -> Commands:
        """Decrypt what came."""
        tls = self.tls
        if data:
            tls.bio_write(data)
        pieces: list[bytes] = []
        close = False
        try:
            pieces.append(tls.recv(_MOST))
            while tls.pending() or _waits(tls._into_ssl):
                pieces.append(tls.recv(_MOST))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            close = True
        except SSL.Error as error:
            yield commands.Log(f"TLS Error: {error}", WARNING)
        if _waits(tls._from_ssl):
            yield from self.tls_interact()
        if pieces:
            yield from self.event_to_child(events.DataReceived(self.conn, b"".join(pieces)))
        if close:
            self.conn.state &= ~ConnectionState.CAN_READ
            yield from self.event_to_child(events.ConnectionClosed(self.conn))

    def tls_interact(self) -> Commands:
        """Send what OpenSSL has to send."""
        while _waits(self.tls._from_ssl):
            yield commands.SendData(self.conn, self.tls.bio_read(_MOST))


class ServerTls(LeanTls, ServerTLSLayer):
    """TLS with an origin."""


# mitmproxy names the class in the middle of a method of its own; there is no other place to put ours.
tls_layers.ServerTLSLayer = ServerTls  # type: ignore[misc]


def _waits(bio: Any) -> bool:
    """Whether there are octets in one of OpenSSL's buffers."""
    return bool(_lib.BIO_get_mem_data(bio, _WHERE))
