"""The origin's side of inspected TLS: verified always, by one OpenSSL context for all, made once.

mitmproxy works its settings out anew for each connection, and reads every certificate that an origin sends; who wants
to see them here (`addons.pinning`) asks OpenSSL for those that were verified.
"""

import ipaddress
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from mitmproxy.addons.tlsconfig import DEFAULT_HOSTFLAGS, _default_ciphers
from mitmproxy.connection import Server
from mitmproxy.net import tls as net_tls
from mitmproxy.options import Options
from mitmproxy.tls import TlsData
from OpenSSL import SSL

_lib: Any = SSL._lib  # type: ignore[attr-defined]  # as mitmproxy's


class OriginConnection(SSL.Connection):
    """TLS with an origin."""

    def get_peer_cert_chain(self, *_: Any, **__: Any) -> Any:
        """Return nothing of what the origin sent."""
        return None


class OriginContexts:
    """Makes connections that are for one name, and for nobody else."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @cached_property
    def _context(self) -> SSL.Context:
        options = self._options
        lowest = net_tls.Version[options.tls_version_server_min]
        made: SSL.Context = net_tls.create_proxy_server_context(
            method=net_tls.Method.TLS_CLIENT_METHOD,
            min_version=lowest,
            max_version=net_tls.Version[options.tls_version_server_max],
            cipher_list=tuple(_default_ciphers(lowest)),
            ecdh_curve=net_tls.get_curve(options.tls_ecdh_curve_server),
            verify=net_tls.Verify.VERIFY_PEER,
            ca_path=None,
            ca_pemfile=options.ssl_verify_upstream_trusted_ca,
            client_cert=None,
            legacy_server_connect=False,
        )
        return made

    def tls_start_server(self, start: TlsData) -> None:
        """Set the connection to do the handshake with, as mitmproxy's TlsConfig does."""
        client, server = start.context.client, start.conn
        assert isinstance(server, Server)
        assert server.address
        name = server.sni or client.sni or server.address[0]
        server.sni = name
        if not server.alpn_offers:  # the protocols are the client's, so that nothing has to be translated
            server.alpn_offers = tuple([each for each in client.alpn_offers if self._options.http2 or each != b"h2"])
        start.ssl_conn = self.connection(name, server.alpn_offers)

    def connection(self, name: str, protocols: Sequence[bytes]) -> SSL.Connection:
        """Return a connection that goes on only with whom a certificate for a name, or an address, was issued to."""
        made = OriginConnection(self._context)
        param = _lib.SSL_get0_param(made._ssl)
        _lib.X509_VERIFY_PARAM_set_hostflags(param, DEFAULT_HOSTFLAGS)
        if ":" in name or name.rpartition(".")[2].isdigit():  # no name ends in a number
            address = ipaddress.ip_address(name).packed
            done = _lib.X509_VERIFY_PARAM_set1_ip(param, address, len(address))
        else:
            host = name.encode("ascii") if name.isascii() else name.encode("idna")
            made.set_tlsext_host_name(host)
            done = _lib.X509_VERIFY_PARAM_set1_host(param, host, len(host))
        SSL._openssl_assert(done == 1)
        if protocols:
            made.set_alpn_protos(list(protocols))
        made.set_connect_state()
        return made
