"""Tests of `gateway.selfcheck.http2`, against h2."""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived

from gateway.selfcheck import http2

ASKING = ((b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"good.test"))


def a_server() -> H2Connection:
    """Return a server that has said its settings."""
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    return server


def test_a_library_reads_it() -> None:
    """What is written by hand is HTTP/2, where it wants to be."""
    server = a_server()
    events = server.receive_data(http2.begin() + http2.requests(ASKING, ended=False) + http2.data(b"x"))
    assert [event.headers for event in events if isinstance(event, RequestReceived)] == [list(ASKING)]
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"x"]


def test_answers_are_told() -> None:
    """An answer is told as HTTP/1 would write it, and what is cut off is not."""
    server = a_server()
    server.receive_data(http2.begin() + http2.requests(ASKING))
    server.send_headers(1, [(":status", "403"), ("x-gateway-reason", "port")])
    server.send_data(1, b"no", end_stream=True)
    said = server.data_to_send()
    assert http2.told(said) == b"HTTP/2 403\r\nx-gateway-reason: port\r\n\r\nno"
    assert http2.ended(said)
    assert not http2.ended(said[:-3])
    assert http2.told(b"HTTP/1.1 200 OK\r\n\r\n") == b""


def test_ends_are_told() -> None:
    """A reset, and the end of the connection, are lines of their own."""
    server = a_server()
    server.receive_data(http2.begin() + http2.requests(ASKING))
    server.reset_stream(1, 8)
    server.close_connection(1)
    assert http2.told(server.data_to_send()) == b"RST_STREAM 8\r\nGOAWAY 1\r\n"
