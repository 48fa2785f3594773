"""How much of a WebSocket's message is held: mitmproxy holds each until its end has come."""

from mitmproxy.proxy.layers.websocket import WebsocketLayer

MESSAGE = 16 * 1024 * 1024
"""Octets of one message, with the heads of its frames; larger ones end the WebSocket."""


class Messages:
    """Watches the messages that are under way in a WebSocket, in both directions."""

    def __init__(self, layer: WebsocketLayer) -> None:
        self._layer = layer
        self._held = {True: 0, False: 0}

    def too_long(self, octets: int, *, from_client: bool) -> bool:
        """Count octets that have come, and say whether the message they belong to is too long to be held."""
        side = self._layer.client_ws if from_client else self._layer.server_ws
        if side.frame_buf == [b""]:  # the last message is complete, and no other has begun
            self._held[from_client] = 0
        else:
            self._held[from_client] += octets
        return self._held[from_client] > MESSAGE
