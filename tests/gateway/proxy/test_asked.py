"""Tests of `gateway.proxy.asked`."""

from dataclasses import replace

import pytest

from gateway.decision import Reason
from gateway.proxy.asked import hello_request, host_flaw, own_authorities, plain_request, tunnel_request
from gateway.proxy.clienthello import REMEMBERED_HELLO, Hello, HelloReader
from gateway.proxy.head import Head, Limits, read_head
from tests.builders import a_client, a_tunnel, an_address
from tests.gateway.proxy.samples import CAPTURED


def head_of(data: bytes) -> Head:
    """Read a head."""
    head = read_head(data, Limits())
    assert head is not None
    return head


def test_tunnel() -> None:
    """A CONNECT carries host, port and agent."""
    tunnel = tunnel_request(a_client(), head_of(b"CONNECT Good.test:443 HTTP/1.1\r\nUser-Agent: curl/8\r\n\r\n"))
    assert (tunnel.host, tunnel.port, tunnel.user_agent, tunnel.flaw) == ("good.test", 443, "curl/8", None)


def test_the_same_is_asked_about_the_same() -> None:
    """Who says the same again is the same request, down to the object; others are not mixed up."""
    client, head = a_client(), head_of(b"CONNECT good.test:443 HTTP/1.1\r\n\r\n")
    hello = HelloReader().feed(CAPTURED["curl"])
    assert isinstance(hello, Hello)
    tunnel = tunnel_request(client, head)
    assert tunnel_request(client, head) is tunnel
    assert tunnel_request(a_client("10.9.9.9"), head).client.address == an_address("10.9.9.9")
    assert hello_request(tunnel, hello) is hello_request(tunnel, hello)
    other = a_tunnel("other.test")
    assert hello_request(other, hello).tunnel is other


def test_what_is_long_is_not_remembered() -> None:
    """Nobody fills memory with requests: of long heads, proven names and large hellos nothing is kept."""
    client = a_client()
    long = head_of(b"CONNECT good.test:443 HTTP/1.1\r\nUser-Agent: " + b"x" * 500 + b"\r\n\r\n")
    assert tunnel_request(client, long) == tunnel_request(client, long)
    assert tunnel_request(client, long) is not tunnel_request(client, long)
    short = head_of(b"CONNECT good.test:443 HTTP/1.1\r\n\r\n")
    proven = replace(client, certificate="CN=batch")
    assert tunnel_request(proven, short) is not tunnel_request(proven, short)
    hello = HelloReader().feed(CAPTURED["curl"])
    assert isinstance(hello, Hello)
    large = replace(hello, octets=REMEMBERED_HELLO + 1)
    tunnel = tunnel_request(client, short)
    assert hello_request(tunnel, large) is not hello_request(tunnel, large)
    talkative = a_tunnel(user_agent="x" * 500)
    assert hello_request(talkative, hello) is not hello_request(talkative, hello)


def test_an_id_that_is_used_again() -> None:
    """Whatever happens to be where another object was is not taken for it."""
    for number in range(3000):  # more than are remembered, each gone before the next is made
        client = a_client(f"10.9.{number >> 8}.{number & 255}")
        head = head_of(b"CONNECT good.test:%d HTTP/1.1\r\n\r\n" % (number + 1))
        tunnel = tunnel_request(client, head)
        assert (tunnel.client, tunnel.port) == (client, number + 1)


@pytest.mark.parametrize(
    ("values", "agrees"),
    [
        ([], True),
        (["good.test:443"], True),
        (["GOOD.test"], True),
        (["evil.test:443"], False),
        (["good.test:80"], False),
        (["good.test.evil"], False),
        ([""], False),
        (["127.0.0.1:3128"], True),
        (["LOCALHOST:3128"], True),
        (["127.0.0.1:3129"], False),
        (["127.0.0.1"], False),
        (["127.0.0.1:3128", "evil.test"], False),
    ],
)
def test_host_of_a_connect(values: list[str], agrees: bool) -> None:
    """The Host field of a CONNECT may be left out or shortened, or be the gateway itself, and names nothing else."""
    flaw = host_flaw("good.test:443", values, own_authorities(an_address("127.0.0.1"), 3128))
    assert (flaw is None) is agrees
    assert flaw is None or flaw.reason is Reason.HOST_MISMATCH


def test_plain() -> None:
    """A plain request carries the authority of its target beside every Host field."""
    request = plain_request(a_client(), head_of(b"GET http://a.test:81/x?y HTTP/1.1\r\nHost: b.test\r\n\r\n"))
    assert (request.host, request.port, request.path) == ("a.test", 81, "/x?y")
    assert request.authorities == ("a.test:81", "b.test")


def test_hello() -> None:
    """A ClientHello carries names, protocols, fingerprint and the tool behind it."""
    hello = HelloReader().feed(CAPTURED["curl"])
    assert isinstance(hello, Hello)
    request = hello_request(a_tunnel(), hello)
    assert request.server_names == ("localhost",)
    assert request.alpn == ("h2", "http/1.1")
    assert request.tool == "curl"


def test_own_authorities() -> None:
    """A client may call the gateway by the address that it is connected to."""
    assert own_authorities(an_address("10.0.0.1"), 3128) == ("10.0.0.1:3128",)
    assert own_authorities(an_address("::1"), 3128) == ("[::1]:3128", "localhost:3128")
