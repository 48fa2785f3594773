"""Tests of `gateway.proxy.websockets`: what is held of messages. With real ones: test_proxy_messages.py."""

from mitmproxy import options
from mitmproxy.connection import Client
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.websocket import WebsocketLayer
from mitmproxy.test import tflow

from gateway.proxy.websockets import MESSAGE, Messages


def a_layer() -> WebsocketLayer:
    """Return the layer of a WebSocket that has begun."""
    context = Context(Client(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128)), options.Options())
    layer = WebsocketLayer(context, tflow.twebsocketflow())
    list(layer.handle_event(events.Start()))
    return layer


def test_a_message_under_way() -> None:
    """Octets count while a message has no end, each direction by itself, and from nothing when the next begins."""
    layer = a_layer()
    messages = Messages(layer)
    assert not messages.too_long(MESSAGE * 2, from_client=True)  # complete: nothing is held
    layer.client_ws.frame_buf = [b"begun"]
    assert not messages.too_long(MESSAGE, from_client=True)
    assert not messages.too_long(1, from_client=False)
    assert messages.too_long(1, from_client=True)
    layer.client_ws.frame_buf = [b""]
    assert not messages.too_long(1, from_client=True)
    layer.client_ws.frame_buf = [b"", b""]  # two empty fragments and no end
    assert not messages.too_long(1, from_client=True)
