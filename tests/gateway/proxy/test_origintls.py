"""Tests of `gateway.proxy.origintls`: a handshake succeeds with whom the name belongs to, and with nobody else.

Origins that prove nothing, or the wrong thing, are in tests/integration/test_proxy_inspect.py and test_proxy_pins.py.
"""

from pathlib import Path
from typing import Any

import pytest
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy.context import Context
from mitmproxy.test import taddons
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from gateway.proxy.origintls import OriginContexts
from tests.gateway.proxy.handshakes import shake_hands
from tests.peers.tls_origin import make_certificate


def _options(trust: Path | None) -> Any:
    with taddons.context(TlsConfig()) as context:  # type: ignore[no-untyped-call]  # mitmproxy's
        context.options.ssl_verify_upstream_trusted_ca = str(trust) if trust is not None else None
        return context.options


def _shake_hands(client: SSL.Connection, certificate: Path) -> SSL.Connection:
    """Do a handshake with an origin that has a certificate; return the origin's side."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(certificate))
    context.use_privatekey_file(str(certificate))
    context.set_alpn_select_callback(lambda _, offered: offered[0])
    server = SSL.Connection(context)
    shake_hands(client, server)
    return server


@pytest.mark.parametrize("name", ["good.test", "a.wild.test", "192.0.2.7", "2001:db8::7"])
def test_whom_it_belongs_to(tmp_path: Path, name: str) -> None:
    """Names, wildcards and addresses are compared with the certificate; names alone are said in the ClientHello."""
    certificate = make_certificate(tmp_path / "c.pem", "good.test", "*.wild.test", "192.0.2.7", "2001:db8::7")
    client = OriginContexts(_options(certificate)).connection(name, [b"h2", b"http/1.1"])
    server = _shake_hands(client, certificate)
    assert client.get_alpn_proto_negotiated() == b"h2"
    assert server.get_servername() == (name.encode() if name.endswith("test") else None)
    assert client.get_verified_chain()


@pytest.mark.parametrize("name", ["evil.test", "good.test2", "192.0.2.8", "2001:db8::8", "b.a.wild.test"])
def test_nobody_else(tmp_path: Path, name: str) -> None:
    """A good certificate for somebody else ends the handshake."""
    certificate = make_certificate(tmp_path / "c.pem", "good.test", "*.wild.test", "192.0.2.7", "2001:db8::7")
    client = OriginContexts(_options(certificate)).connection(name, [])
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        _shake_hands(client, certificate)


def test_nobody_unknown(tmp_path: Path) -> None:
    """A certificate of an authority that is not trusted ends the handshake."""
    certificate = make_certificate(tmp_path / "c.pem", "good.test")
    other = make_certificate(tmp_path / "d.pem", "good.test")
    for trust in (other, None):
        client = OriginContexts(_options(trust)).connection("good.test", [])
        with pytest.raises(SSL.Error, match="certificate verify failed"):
            _shake_hands(client, certificate)


@pytest.mark.parametrize(("offers", "offered"), [([b"h2", b"http/1.1"], (b"h2", b"http/1.1")), ([], ())])
def test_the_hook(tmp_path: Path, offers: list[bytes], offered: tuple[bytes, ...]) -> None:
    """The origin is asked for by the name of its connection, and for the protocols of the client."""
    client = Client(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128), state=ConnectionState.OPEN)
    client.alpn_offers = offers
    certificate = make_certificate(tmp_path / "c.pem", "good.test")
    options = _options(certificate)
    server = Server(address=("good.test", 443))
    start = TlsData(server, Context(client, options))
    OriginContexts(options).tls_start_server(start)
    assert (server.sni, server.alpn_offers) == ("good.test", offered)
    assert isinstance(start.ssl_conn, SSL.Connection)
    _shake_hands(start.ssl_conn, certificate)
    assert start.ssl_conn.get_verified_chain()
