"""The `proxy` section of the policy file."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.authority import split_authority
from gateway.names import normalize
from gateway.section import (
    CertificateSection,
    Conditions,
    FileName,
    Network,
    Section,
    Workers,
    check_listener,
)
from gateway.tenants import Tenants
from gateway.units import Duration, Size


def _google_domain(value: str) -> str:
    return value if value == "consumer_accounts" else normalize(value)


def _proxy_listener(value: str) -> str:
    check_listener(value.removeprefix("tls://"))
    return value


def _parent(value: str) -> str:
    scheme, sep, authority = value.partition("://")
    if scheme != "http" or not sep:
        raise ValueError(f"{value!r} is no parent: give http://host:port")
    try:
        split_authority(authority, None)
    except ValueError as error:
        raise ValueError(f"{value!r} {error}: give http://host:port, without user, path and slash") from None
    return value


type Parent = Annotated[str, AfterValidator(_parent)]
type Tenant = Annotated[str, AfterValidator(normalize)]
type GoogleDomain = Annotated[str, AfterValidator(_google_domain)]
type ProxyListener = Annotated[str, AfterValidator(_proxy_listener)]


class AuthSection(Section):
    """Proxy authentication: Basic, against a file of users."""

    htpasswd: FileName
    """Users and their passwords' hashes, as `htpasswd -B` writes them; read again on SIGHUP."""
    required: bool = False
    """Every request has to prove a user; otherwise only those that rules for users are to match."""


class ProxyLimits(Section):
    """What one client may cost the proxy."""

    head: Size = 32 * 1024
    """Octets of a request head."""
    headers: Annotated[int, Field(ge=1, le=10000)] = 100
    """Fields in a request head."""
    connections_per_client: Annotated[int, Field(ge=1)] = 1000
    """Open connections from one address, per worker process."""


class ProxyTimeouts(Section):
    """How long each step of a connection may take."""

    head: Duration = 10
    """From accepting a connection to the end of the request head."""
    hello: Duration = 10
    """From the answer to CONNECT to the end of the ClientHello."""
    connect: Duration = 10
    """To reach the origin, over all its addresses."""
    idle: Duration = 300
    """Without a byte in either direction."""
    lifetime: Duration = 86400
    """Of a tunnel, however busy."""


class MicrosoftSection(Section):
    """Accounts of Microsoft that may be signed in to."""

    tenants: Annotated[tuple[Tenant, ...], Field(min_length=1)]
    """Domains or ids of tenants."""
    context: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    """Id of the directory that sets the restriction."""
    personal: Literal["block", "allow"] = "block"
    """What becomes of personal accounts."""


class TenantsSection(Conditions):
    """Accounts of cloud services that may be signed in to. The hosts where people sign in are then inspected."""

    microsoft: MicrosoftSection | None = None
    google: tuple[GoogleDomain, ...] = ()
    """Domains of Google Workspace; `consumer_accounts` stands for gmail.com and the like."""

    @property
    def restrictions(self) -> Tenants:
        """What is said to whom."""
        microsoft = self.microsoft
        return Tenants(
            microsoft=microsoft.tenants if microsoft is not None else (),
            context=microsoft.context if microsoft is not None else "",
            block_personal=microsoft is not None and microsoft.personal == "block",
            google=self.google,
        )


class ProxySection(Section):
    """The explicit proxy."""

    listen: tuple[ProxyListener, ...] = ("127.0.0.1:3128",)
    """Where to accept clients: `address:port`, or `tls://address:port`."""
    certificate: CertificateSection | None = None
    """For tls:// listeners."""
    client_ca: FileName | None = None
    """PEM file of authorities: tls:// listeners ask every client for a certificate of one of them."""
    proxy_protocol_from: tuple[Network, ...] = ()
    """Load balancers, which say in a PROXY header who their client is; they have to, and nobody else may."""
    workers: Workers = "auto"
    """Processes that share the port; `auto` is one a core."""
    auth: AuthSection | None = None
    limits: ProxyLimits = ProxyLimits()
    timeouts: ProxyTimeouts = ProxyTimeouts()
    parent: Parent | None = None
    """Proxy to chain to, `http://host:port`: it is asked for tunnels to the addresses that were judged."""
    tenants: TenantsSection | None = None
    ca_bundle: FileName | None = None
    """PEM file of the authorities that inspected origins are verified with; without it, the public ones."""
