"""Tests of `gateway.proxy.http1client`: what an origin may say in HTTP/1. With real ones: test_proxy_messages.py."""

from collections.abc import Iterable

import h11
import pytest
from h11._readers import ChunkedReader, ContentLengthReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import options
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpClient
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.test import tutils

from gateway.proxy.http1client import HEAD, INTERIM, LINE, StrictHttp1Client, make_strict, without_trailers


def a_context() -> Context:
    """Return the context of a connection to an origin that is open."""
    context = Context(Client(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128)), options.Options())
    context.server = Server(address=("good.test", 80))
    context.server.state = ConnectionState.OPEN
    return context


def heard(pieces: Iterable[bytes]) -> list[object]:
    """Ask an origin, let it answer in pieces, and return what mitmproxy hears of it."""
    context = a_context()
    client = StrictHttp1Client(context)
    found: list[object] = list(client.handle_event(events.Start()))
    found += client.handle_event(RequestHeaders(1, tutils.treq(content=None), True))
    found += client.handle_event(RequestEndOfMessage(1))
    for piece in pieces:
        found += client.handle_event(events.DataReceived(context.server, piece))
    return [command.event for command in found if isinstance(command, ReceiveHttp)]


ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX: 1\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


@pytest.mark.parametrize("early", [0, 1, INTERIM])
@pytest.mark.parametrize("whole", [True, False])
def test_one_answer(early: int, whole: bool) -> None:
    """However it is split, and whatever comes before it, an answer is one, with its body and no trailers."""
    data = EARLY * early + ANSWER
    found = heard([data] if whole else [data[at : at + 1] for at in range(len(data))])
    heads = [event.response.status_code for event in found if isinstance(event, ResponseHeaders)]
    assert heads == [200]
    assert b"".join(event.data for event in found if isinstance(event, ResponseData)) == b"ok"
    assert isinstance(found[-1], ResponseEndOfMessage)


@pytest.mark.parametrize(
    "pieces",
    [
        [EARLY * (INTERIM + 1)],
        [b"HTTP/1.1 200 OK\r\nX: ", b"x" * (HEAD + 1)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * (LINE + 1)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX:", b"x" * (LINE + 1)],
    ],
    ids=["interim answers", "a head", "a chunk's size", "trailers"],
)
def test_too_much(pieces: list[bytes]) -> None:
    """What never ends is a failure of the origin."""
    assert isinstance(heard(pieces)[-1], ResponseProtocolError)


def test_switching_is_an_answer() -> None:
    """101 is no interim answer: what follows it is no HTTP."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    (head,) = [event for event in heard([answer]) if isinstance(event, ResponseHeaders)]
    assert head.response.status_code == 101


def test_readers() -> None:
    """A chunked body is read without trailers, and its end has to come; other bodies are read as they are."""
    other = ContentLengthReader(1)
    assert without_trailers(other) is other
    reader = without_trailers(ChunkedReader())
    assert without_trailers(reader) is reader
    buffer = ReceiveBuffer()
    buffer += b"0\r\nA: b\r\n\r\n"
    assert reader(buffer) == h11.EndOfMessage()
    with pytest.raises(h11.RemoteProtocolError):
        reader.read_eof()


def test_it_takes_the_place_of_another() -> None:
    """Where mitmproxy has made a client for HTTP/1, ours takes over."""
    layer = HttpClient(a_context())
    for command in layer.handle_event(events.Start()):
        assert isinstance(command, commands.Command)
    make_strict(layer)
    assert isinstance(layer.child_layer, StrictHttp1Client)
    make_strict(layer)
    assert isinstance(layer.child_layer, StrictHttp1Client)
