"""What the enforcement points ask: one small frozen value per stage of a connection.

Pure: no I/O, no clock. Shells fill in what they saw, and judge nothing: what a reader found wrong with the input
travels as a `Flaw`, so that `Policy.decide` stays the only place where anything is denied.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.addresses import IPAddress
from gateway.decision import Reason

type Host = str | IPAddress
"""A name in normal form (see `gateway.names`), or an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks. `user` and `certificate` are proven identities, never claims."""

    address: IPAddress
    user: str | None = None
    certificate: str | None = None
    """Subject of the client certificate (RFC 4514)."""
    names: tuple[str, ...] = ()
    """Further names that the certificate proves, as in `DNS:batch.example`."""
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        """Return the hash, worked out once: it is wanted at every stage of a connection, and addresses take long."""
        if not self._hash:
            object.__setattr__(self, "_hash", hash((self.address, self.user, self.certificate, self.names)) or 1)
        return self._hash


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a request could not be read as the protocol demands."""

    reason: Reason
    detail: str


class DnsQuery(NamedTuple):
    """A question to the resolver, asked before the cache and before any upstream query. A tuple, because one is made
    per packet, and tuples are made fastest.
    """

    client: Client
    name: str
    """Normal form with `\\DDD` escapes; empty for the root."""
    qtype: int
    flaw: Flaw | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAnswer:
    """An answer, asked before it is returned to (or cached for) that client."""

    client: Client
    name: str
    qtype: int
    chain: tuple[str, ...] = ()
    """Every further name on the way: CNAME and SVCB/HTTPS targets."""
    addresses: tuple[IPAddress, ...] = ()
    """Every address in the answer, SVCB/HTTPS hints included."""
    trusted: bool = False
    """The configuration vouches for it (forward zone, local record): private addresses are expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """A CONNECT request."""

    client: Client
    host: Host
    port: int
    user_agent: str = ""
    flaw: Flaw | None = None
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        """Return the hash, worked out once."""
        if not self._hash:
            known = hash((self.client, self.host, self.port, self.user_agent, self.flaw)) or 1
            object.__setattr__(self, "_hash", known)
        return self._hash


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsHello:
    """The ClientHello inside a tunnel."""

    tunnel: Tunnel
    server_names: tuple[str, ...] = ()
    """The SNI names as sent."""
    alpn: tuple[str, ...] = ()
    ech: bool = False
    ja4: str = ""
    tool: str = ""
    """Tool that the fingerprint belongs to, if one is known."""
    flaw: Flaw | None = None
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        """Return the hash, worked out once."""
        if not self._hash:
            known = hash((self.tunnel, self.server_names, self.alpn, self.ech, self.ja4, self.flaw)) or 1
            object.__setattr__(self, "_hash", known)
        return self._hash

    @property
    def client(self) -> Client:
        """Who asks."""
        return self.tunnel.client

    @property
    def host(self) -> Host:
        """Where to."""
        return self.tunnel.host

    @property
    def port(self) -> int:
        """Where to."""
        return self.tunnel.port


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One HTTP request: plain, or inside an inspected tunnel. `host` and `port` are where it would be sent."""

    client: Client
    host: Host
    port: int
    scheme: str
    method: str
    path: str
    """Path and query."""
    authorities: tuple[str, ...] = ()
    """Every Host and `:authority` value as sent; each has to name `host` and `port`."""
    headers: tuple[tuple[str, str], ...] = ()
    """Header fields in order; names in lower case."""
    user_agent: str = ""
    body_length: int | None = 0
    """Declared length of the body in octets; None when it is not declared."""
    hello: TlsHello | None = None
    """The tunnel that the request came through."""
    flaw: Flaw | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """One resolved address, asked before connecting to it."""

    origin: Tunnel | TlsHello | HttpRequest
    """The request that the connection is for: its facts still count."""
    address: IPAddress
    chain: tuple[str, ...] = ()
    """Names met while resolving (CNAME)."""

    @property
    def client(self) -> Client:
        """Who asks."""
        return self.origin.client

    @property
    def host(self) -> Host:
        """The host that the address was resolved from."""
        return self.origin.host

    @property
    def port(self) -> int:
        """Where to."""
        return self.origin.port


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """The answer to a request, asked when its head has come and, if a rule wants to know, its first octets."""

    dial: Dial
    """The request, and where it was sent: these facts still count."""
    content: bool = True
    """Whether anything comes behind the head."""
    media_types: tuple[str, ...] = ()
    """Content-Type values as sent."""
    file_types: frozenset[str] | None = None
    """Formats of `gateway.filetypes`; None: not looked at yet."""

    @property
    def client(self) -> Client:
        """Who asks."""
        return self.dial.client

    @property
    def host(self) -> Host:
        """The host that was asked."""
        return self.dial.host

    @property
    def port(self) -> int:
        """Its port."""
        return self.dial.port


type Request = DnsQuery | DnsAnswer | Tunnel | TlsHello | HttpRequest | Dial | HttpResponse
