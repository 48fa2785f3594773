"""The client's side of inspected TLS: what was read of its hello is not read again, and keys are loaded once.

mitmproxy reads every ClientHello with a parser made from a grammar, and for each connection turns certificate and key
into OpenSSL's form anew; together a tenth of what a connection cost.
"""

from collections import OrderedDict
from collections.abc import Generator
from functools import lru_cache
from typing import Any

from cryptography import x509
from mitmproxy import certs
from mitmproxy.addons.tlsconfig import AppData, TlsConfig, _default_ciphers, _ip_or_dns_name, alpn_select_callback
from mitmproxy.net import tls as net_tls
from mitmproxy.options import Options
from mitmproxy.proxy import commands
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.layers.tls import TLSLayer
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from gateway.proxy.records import LeanTls
from gateway.request import TlsHello

_PROTOCOLS = frozenset(("h2", "http/1.1", "http/1.0"))
"""What is spoken with clients and origins (RFC 7301)."""
CONTEXTS = 500
"""OpenSSL contexts kept, each for one leaf certificate: some 20 KB each."""


class ClientTls(LeanTls, ClientTLSLayer):
    """TLS with a client whose hello was read, and judged, before."""

    def __init__(self, context: Context, hello: TlsHello) -> None:
        TLSLayer.__init__(self, context, context.client)  # mitmproxy's looks for a layer that connects to the server
        self.server_tls_available = False
        self._hello = hello

    def receive_handshake_data(self, data: bytes) -> Generator[commands.Command, Any, tuple[bool, str | None]]:
        """Begin the handshake with the first octets, whatever they are: OpenSSL waits for the others."""
        if not self.client_hello_parsed:
            self.client_hello_parsed = True
            hello, client = self._hello, self.context.client
            client.sni = hello.server_names[0] if len(hello.server_names) == 1 else None
            # Offered to the server in turn, which may choose any: of 16 KB that would leave so, nobody knew.
            client.alpn_offers = [name.encode("ascii") for name in dict.fromkeys(hello.alpn) if name in _PROTOCOLS]
            yield from self.start_tls()
            if not self.conn.connected:
                return False, "connection closed early"
        return (yield from TLSLayer.receive_handshake_data(self, data))


@lru_cache(maxsize=CONTEXTS)
def _names(wanted: str, host: str) -> list[x509.GeneralName]:
    """Return whom a certificate is for: whom the client asks for, and where its tunnel leads, which is the same."""
    return [_ip_or_dns_name(name) for name in dict.fromkeys((wanted, host))]


class ClientContexts:
    """OpenSSL contexts with a leaf certificate in them."""

    def __init__(self, tls: TlsConfig, options: Options, most: int = CONTEXTS) -> None:
        self._tls = tls
        self._options = options
        self._most = most
        self._kept: OrderedDict[int, tuple[certs.CertStoreEntry, SSL.Context]] = OrderedDict()

    def tls_start_client(self, start: TlsData) -> None:
        """Set the connection to do the handshake with, as mitmproxy's TlsConfig does."""
        client, server = start.context.client, start.context.server
        assert client.sockname
        assert server.address
        names = _names(client.sni or client.sockname[0], server.address[0])
        made = SSL.Connection(self._context(self._tls.certstore.get_cert(str(names[0].value), names)))
        http2 = self._options.http2
        made.set_app_data(AppData(client_alpn=client.alpn, server_alpn=server.alpn, http2=http2))
        made.set_accept_state()
        start.ssl_conn = made

    def _context(self, entry: certs.CertStoreEntry) -> SSL.Context:
        kept = self._kept.get(id(entry))
        if kept is not None and kept[0] is entry:  # an id is used again once its object is gone
            self._kept.move_to_end(id(entry))
            return kept[1]
        options = self._options
        lowest = net_tls.Version[options.tls_version_client_min]
        context: SSL.Context = net_tls.create_client_proxy_context.__wrapped__(  # the wrapper shares contexts
            method=net_tls.Method.TLS_SERVER_METHOD,
            min_version=lowest,
            max_version=net_tls.Version[options.tls_version_client_max],
            cipher_list=_default_ciphers(lowest),
            ecdh_curve=net_tls.get_curve(options.tls_ecdh_curve_client),
            chain_file=entry.chain_file,
            request_client_cert=False,
            alpn_select_callback=alpn_select_callback,
            extra_chain_certs=(),
            dhparams=self._tls.certstore.dhparams,
        )
        context.use_certificate(entry.cert.to_cryptography())
        context.use_privatekey(entry.privatekey)
        self._kept[id(entry)] = entry, context
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return context
