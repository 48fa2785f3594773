"""Tests of `gateway.proxy.clienttls`: OpenSSL contexts are kept for certificates, and for no others.

Handshakes with real clients are in tests/integration/test_proxy_inspect.py and test_proxy_clients.py.
"""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from mitmproxy import options
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.certs import CertStore
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.tls import TlsStartClientHook
from mitmproxy.test import taddons
from OpenSSL import SSL

from gateway.proxy.ca import BASENAME, ensure_ca
from gateway.proxy.clienttls import ClientContexts, ClientTls
from gateway.request import TlsHello, Tunnel
from tests.builders import a_client
from tests.gateway.proxy.handshakes import shake_hands


class Store:
    """Leaves in mitmproxy's store, as the inspector has them."""

    def __init__(self, folder: Path, most: int = 10) -> None:
        ensure_ca(folder)
        tls = TlsConfig()
        with taddons.context(tls) as context:  # type: ignore[no-untyped-call]  # mitmproxy's
            self.options: Any = context.options
        tls.certstore = CertStore.from_store(folder, BASENAME, 2048)
        self.store = tls.certstore
        self.contexts = ClientContexts(tls, self.options, most)

    def context(self, name: str) -> SSL.Context:
        """Return the context for a name."""
        from cryptography import x509

        return self.contexts._context(self.store.get_cert(name, [x509.DNSName(name)]))


def served(context: SSL.Context) -> str:
    """Do a handshake with a context; return whom its certificate is for."""
    client, server = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD)), SSL.Connection(context)
    server.set_app_data({"client_alpn": None, "server_alpn": None, "http2": True})
    shake_hands(client, server)
    found = client.get_peer_certificate(as_cryptography=True)
    assert found is not None
    assert found.public_bytes(Encoding.PEM)
    return found.subject.rfc4514_string()


def test_each_name_its_certificate(tmp_path: Path) -> None:
    """A context serves the certificate of its name, and is made once."""
    store = Store(tmp_path)
    good, better = store.context("good.test"), store.context("better.test")
    assert (served(good), served(better)) == ("CN=good.test", "CN=better.test")
    assert store.context("good.test") is good


def test_bounded(tmp_path: Path) -> None:
    """No more contexts are kept than may be: who was not used for the longest time goes."""
    store = Store(tmp_path, most=2)
    first, second = store.context("a.test"), store.context("b.test")
    assert store.context("a.test") is first
    store.context("c.test")
    assert store.context("a.test") is first
    assert store.context("b.test") is not second


def test_a_certificate_in_the_place_of_another(tmp_path: Path) -> None:
    """An entry that has the id of one that is gone gets a context of its own."""
    store = Store(tmp_path)
    from cryptography import x509

    old = store.store.get_cert("old.test", [x509.DNSName("old.test")])
    new = store.store.get_cert("new.test", [x509.DNSName("new.test")])
    store.contexts._kept[id(new)] = old, store.contexts._context(old)
    assert served(store.contexts._context(new)) == "CN=new.test"


@pytest.mark.parametrize(
    ("names", "alpn", "sni", "offers"),
    [
        pytest.param(("good.test",), ("h2", "http/1.1"), "good.test", [b"h2", b"http/1.1"], id="as said"),
        pytest.param((), (), None, [], id="nothing said"),
        pytest.param(("good.test",), ("h2", "\\xfa"), "good.test", [b"h2"], id="a protocol that is not ASCII"),
    ],
)
def test_what_the_hello_says(
    names: tuple[str, ...], alpn: tuple[str, ...], sni: str | None, offers: list[bytes]
) -> None:
    """mitmproxy is told what was read before, and asks for a connection with the first octets."""
    client = Client(peername=("10.1.0.5", 1), sockname=("10.0.0.1", 3128), state=ConnectionState.OPEN)
    tunnel = Tunnel(client=a_client(), host="good.test", port=443)
    layer = ClientTls(_inside(client), TlsHello(tunnel=tunnel, server_names=names, alpn=alpn))
    list(layer.handle_event(events.Start()))
    found = list(layer.handle_event(events.DataReceived(client, b"\x16")))
    assert isinstance(found[0], TlsStartClientHook)
    assert (client.sni, client.alpn_offers) == (sni, offers)


def _inside(client: Client) -> Context:
    from mitmproxy.proxy.layers import ServerTLSLayer

    context = Context(client, options.Options())
    ServerTLSLayer(context)
    return context
