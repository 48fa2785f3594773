"""mitmproxy's WebSocket, bounded: it keeps a message until it is complete, and a message may be without end.

Compression is not offered (`Sec-WebSocket-Extensions` is left out of what goes on, see `gateway.proxy.layers`): a few
octets could be unpacked into any number here, and no endpoint depends on it (RFC 7692 section 5).
"""

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketLayer

MOST_MESSAGE = 1024 * 1024
"""Octets of a message: what servers take by default is the same, or less."""
BROKEN = "egress_broken"
"""Key of `flow.metadata`: why a WebSocket was ended."""
EXTENSIONS = "sec-websocket-extensions"


class BoundedWebsocketLayer(WebsocketLayer):
    """Passes messages on, one after the other."""

    def relay_messages(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Pass on what is complete; end the connection over a message that is too long."""
        yield from super().relay_messages(event)
        for end in (self.client_ws, self.server_ws):
            if sum(map(len, end.frame_buf)) > MOST_MESSAGE:
                self.flow.metadata[BROKEN] = f"a WebSocket message of more than {MOST_MESSAGE} octets"
                yield commands.CloseConnection(self.client_ws.conn)
                yield commands.CloseConnection(self.server_ws.conn)
                yield WebsocketEndHook(self.flow)
                self.flow.live = False
                self._handle_event = self.done
                return


# mitmproxy names the class in the middle of a method of its own; there is no other place to put ours.
websocket.WebsocketLayer = BoundedWebsocketLayer  # type: ignore[misc]
