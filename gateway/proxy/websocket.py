"""mitmproxy's WebSocket, bounded: it keeps a message until it is complete, and a message may be without end. And
metered: what is in frames that are no part of a message passes its hooks by.

Compression is not offered (`Sec-WebSocket-Extensions` is left out of what goes on, see `gateway.proxy.layers`): a few
octets could be unpacked into any number here, and no endpoint depends on it (RFC 7692 section 5).
"""

from collections.abc import Callable, Iterator
from functools import partial

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.websocket import WebsocketConnection, WebsocketEndHook, WebsocketLayer
from wsproto.events import CloseConnection, Event, Message, Ping, Pong

MOST_MESSAGE = 1024 * 1024
"""Octets of a message: what servers take by default is the same, or less."""
MOST_FRAMES = 4096
"""Frames of a message: each takes memory, though it be empty."""
BROKEN = "egress_broken"
"""Key of `flow.metadata`: why a WebSocket was ended."""
METER = "egress_meter"
"""Key of `flow.metadata`: takes note of a frame and says whether it may pass, given whether it is the client's, and
the octets in it that are no message's."""
EXTENSIONS = "sec-websocket-extensions"

type Meter = Callable[[bool, int], bool]


class MeteredConnection(WebsocketConnection):
    """One side of a WebSocket. mitmproxy shows its messages; other frames carry octets as well, unseen."""

    meter: Callable[[int], bool]

    def events(self) -> Iterator[Event]:
        """Yield what has come, as far as it may pass."""
        for event in super().events():
            if isinstance(event, Message):
                counted = not event.frame_finished or self.meter(0)
            else:
                counted = self.meter(_held(event))
            if not counted:
                return
            yield event


def _held(event: Event) -> int:
    """Return the octets in a frame that controls the connection."""
    if isinstance(event, Ping | Pong):
        return len(event.payload)
    if isinstance(event, CloseConnection):
        return 2 + len((event.reason or "").encode())
    return 0


class BoundedWebsocketLayer(WebsocketLayer):
    """Passes messages on, one after the other."""

    def relay_messages(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Pass on what is complete; end the connection over a message that is too long."""
        meter: Meter = self.flow.metadata[METER]
        for end in (self.client_ws, self.server_ws):
            assert isinstance(end, MeteredConnection)
            end.meter = partial(meter, end is self.client_ws)
        yield from super().relay_messages(event)
        for end in (self.client_ws, self.server_ws):
            long, many = sum(map(len, end.frame_buf)) > MOST_MESSAGE, len(end.frame_buf) > MOST_FRAMES
            if long or many:
                bound = f"{MOST_MESSAGE} octets" if long else f"{MOST_FRAMES} frames"
                self.flow.metadata[BROKEN] = f"a WebSocket message of more than {bound}"
                yield commands.CloseConnection(self.client_ws.conn)
                yield commands.CloseConnection(self.server_ws.conn)
                yield WebsocketEndHook(self.flow)
                self.flow.live = False
                self._handle_event = self.done
                return


# mitmproxy names the classes in the middle of methods of its own; there is no other place to put ours.
websocket.WebsocketLayer = BoundedWebsocketLayer  # type: ignore[misc]
websocket.WebsocketConnection = MeteredConnection  # type: ignore[misc]
