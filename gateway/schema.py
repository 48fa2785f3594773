"""The shape of the policy file: one model per section, from which validation and the JSON Schema both come.

Says what a value may look like. What values mean together (contradictions, unknown names) is in `gateway.config`.
A key that is agreed but not built yet is `gateway.section.Unbuilt`: refused, never accepted and ignored, because a
policy that is not enforced is a hole.
"""

import re
from base64 import b64decode, b64encode
from typing import Annotated, Any, Literal, Self

from dnslib import QTYPE
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from gateway.addresses import AddressClass
from gateway.buckets import parse_bucket
from gateway.decision import Budget, Point, Tls, Verdict
from gateway.dnssection import DnsSection
from gateway.feeds.catalog import FeedName, LocalList
from gateway.filetypes import NAMES as FILE_TYPES
from gateway.names import normalize, registered_domain
from gateway.proxysection import ProxySection
from gateway.section import (
    Conditions,
    FileName,
    Identifier,
    Network,
    Pattern,
    Section,
<<<<<<< HEAD
    Unbuilt,
=======
    Workers,
    check_listener,
>>>>>>> h/metrics
)
from gateway.tools import KNOWN as KNOWN_TOOLS
from gateway.tunnellingsection import TunnellingSection
from gateway.units import Duration, Size, parse_duration, parse_size, render_duration, render_size


def _registrable(value: str) -> str:
    name = normalize(value)
    registered = registered_domain(name)
    if registered != name:
        hint = f"did you mean {registered}?" if registered else "it is a public suffix: name a domain below it"
        raise ValueError(f"{value!r} is not a registered domain; {hint}")
    return name


def _port_range(value: Any) -> tuple[int, int]:
    low, dash, high = str(value).partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        raise ValueError(f"{value!r} is no port: give a number, or a range such as 8000-8100")
    ports = (int(low), int(high) if dash else int(low))
    if not 0 < ports[0] <= ports[1] < 65536:
        raise ValueError(f"{value!r} is no port: they go from 1 to 65535")
    return ports


def _qtype(value: Any) -> int:
    text = str(value).upper()
    if text.isdecimal() and int(text) < 65536:
        return int(text)
    if text.startswith("TYPE") and text[4:].isdecimal() and int(text[4:]) < 65536:
        return int(text[4:])
    code = QTYPE.reverse.get(text)
    if code is None:
        raise ValueError(f"{value!r} is no query type: give a name such as TXT, or TYPE65280")
    return int(code)


def _tool(value: str) -> str:
    if value not in KNOWN_TOOLS:
        raise ValueError(f"{value!r} is no tool the gateway knows; it knows {', '.join(KNOWN_TOOLS)}")
    return value


def _pin(value: str) -> str:
    found = _is_pin(value)
    try:
        digest = b64decode(found[1] or found[2] if found else "", validate=True)
    except ValueError:
        digest = b""
    if found is None or len(digest) != 32:
        raise ValueError(
            f"{value!r} is no pin: give the SHA-256 of a public key (SubjectPublicKeyInfo) in base64, as in "
            'pin-sha256="..." (RFC 7469) or sha256//... (curl --pinnedpubkey)'
        )
    return b64encode(digest).decode()


def _file_type(value: str) -> str:
    if value not in FILE_TYPES:
        raise ValueError(f"{value!r} is no type of file that the gateway knows; it knows {', '.join(FILE_TYPES)}")
    return value


<<<<<<< HEAD
=======
def _proxy_listener(value: str) -> str:
    check_listener(value.removeprefix("tls://"))
    return value


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _parent(value: str) -> str:
    scheme, sep, authority = value.partition("://")
    if scheme != "http" or not sep:
        raise ValueError(f"{value!r} is no parent: give http://host:port")
    try:
        split_authority(authority, None)
    except ValueError as error:
        raise ValueError(f"{value!r} {error}: give http://host:port, without user, path and slash") from None
    return value


>>>>>>> h/metrics
def _user(value: str) -> str:
    if not value or ":" in value or not value.isprintable():
        raise ValueError(f"{value!r} is no user name: expected printable characters without a colon")
    return value


def _certificate_name(value: str) -> str:
    kind, colon, name = value.partition(":")
    if colon and name and kind in _CERTIFICATE_KINDS:
        return f"DNS:{name.lower()}" if kind == "DNS" else value
    if not _is_subject(value):
        kinds = ", ".join(f"{each}:" for each in _CERTIFICATE_KINDS)
        raise ValueError(
            f"{value!r} is no name of a certificate: give its whole subject, as in CN=batch,O=Example (the form of "
            f"openssl x509 -nameopt RFC2253), or one of its further names with {kinds} in front"
        )
    return value


def _budget(value: Any) -> Any:
    if isinstance(value, Budget):
        return value
    size, slash, window = str(value).partition("/")
    try:
        octets, seconds = parse_size(size), parse_duration(window if window[:1].isdigit() else f"1{window}")
    except ValueError:
        slash = ""
    if not slash:
        raise ValueError(f"expected an amount and a time, as in 50MiB/1h, not {value!r}")
    if not octets or not 60 <= seconds <= 366 * 86400:
        raise ValueError(f"{value!r}: more than nothing, and in a minute to a year")
    return Budget(octets, int(seconds))


_is_pin = re.compile(r'(?:pin-sha256="([A-Za-z0-9+/]+=*)"|sha256//?([A-Za-z0-9+/]+=*))').fullmatch
_CERTIFICATE_KINDS = ("DNS", "URI", "email", "IP")
_is_subject = re.compile(r"[A-Za-z0-9.]+=[^\x00-\x1f]*").fullmatch


type Registered = Annotated[str, AfterValidator(_registrable)]
type Ports = Annotated[
    tuple[int, int],
    BeforeValidator(_port_range),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]}),
]
type QueryType = Annotated[int, BeforeValidator(_qtype), WithJsonSchema({"type": ["string", "integer"]})]
type Tool = Annotated[str, AfterValidator(_tool), WithJsonSchema({"enum": list(KNOWN_TOOLS)})]
type User = Annotated[str, AfterValidator(_user)]
type CertificateName = Annotated[str, AfterValidator(_certificate_name)]
type BucketName = Annotated[str, AfterValidator(parse_bucket)]
type FileType = Annotated[str, AfterValidator(_file_type), WithJsonSchema({"enum": list(FILE_TYPES)})]
type UploadBudget = Annotated[
    Budget,
    BeforeValidator(_budget),
    PlainSerializer(lambda budget: f"{render_size(budget.octets)}/{render_duration(budget.seconds)}"),
    WithJsonSchema({"type": "string", "examples": ["50MiB/1h"]}),
]
type ControlListeners = Annotated[
    tuple[Annotated[str, AfterValidator(check_listener)], ...],
    BeforeValidator(_several),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "examples": ["127.0.0.1:9353"],
        }
    ),
]
type Pin = Annotated[str, AfterValidator(_pin)]
type Technique = Annotated[str, Field(pattern=r"^T\d{4}(\.\d{3})?$")]


class ClientSection(Conditions):
    """A group of clients. Every kind given must match."""

    addresses: tuple[Network, ...] = ()
    """Source networks."""
    users: tuple[User, ...] = ()
    """Names proven with proxy authentication."""
    certificates: tuple[CertificateName, ...] = ()
    """Names proven with client certificates: whole subjects, or `DNS:`, `URI:`, `email:`, `IP:` names."""

    @model_validator(mode="after")
    def _is_somebody(self) -> Self:
        if not (self.addresses or self.users or self.certificates):
            raise ValueError("names nobody, which would mean everybody: give addresses, users or certificates")
        return self


<<<<<<< HEAD
=======
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


class TunnellingControls(Section):
    """What narrows the channel to zones that are not known, whatever is sent through it."""

    types: bool = True
    """Refuse query types that nobody uses: NULL, KEY, private ones."""
    octets: bool = True
    """Refuse names with octets that host names do not have."""
    tlds: bool = True
    """Answer names under top-level domains that do not exist here."""
    min_ttl: Duration = 60
    """Answers are kept at least so long, so that a name asked again does not leave again."""


def _moment(value: Any) -> str:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is no time: give one such as '2026-01-31T12:00:00Z'") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


class ReleasedClient(Section):
    """A client that may tell a zone things again, as `gateway tunnels release` prints it."""

    client: Address
    zone: Name
    at: Annotated[str, BeforeValidator(_moment)]
    """When it was released: an entry counts once, and the next release of the same client is another entry."""


class TunnellingSection(Section):
    """Detection of DNS tunnels."""

    action: TunnellingAction = "deny"
    """What is done with a query that tells an unknown zone too much: `deny`, `report` (recorded only), or `off`."""
    clients: dict[Identifier, TunnellingAction] = {}
    """Another action for some groups of clients."""
    leak_budget: Annotated[tuple[LeakLimit, ...], Field(min_length=1, max_length=4)] = ((120, 3600), (240, 86400))
    """New information that a client may tell an unknown zone; known zones have a multiple of it."""
    exempt: tuple[Pattern, ...] = ()
    """Names that are not accounted for, beside forward zones, local records and the shipped list of services."""
    released: tuple[ReleasedClient, ...] = ()
    """Denials that are lifted when this file is loaded; the client's account of the zone begins anew."""
    controls: TunnellingControls = TunnellingControls()


class ControlSection(Section):
    """Where the gateway itself is looked at: `/healthz` for everybody, `/metrics` for who has the token."""

    listen: ControlListeners = ("127.0.0.1:9353",)
    """Where to answer over HTTP: `address:port`, one or several."""


>>>>>>> h/metrics
class LedgerSection(Section):
    """The record of decisions."""

    rotate: Size = 256 * 1024 * 1024
    """Octets after which a file is put aside and a new one begun."""
    keep: Duration = 30 * 86400
    """How long files that were put aside stay."""
    allowed_dns: bool = False
    """Record allowed DNS queries too."""


class DefaultSection(Section):
    """What happens when no rule matches."""

    proxy: Verdict = Verdict.DENY
    dns: Verdict = Verdict.DENY


class DestinationSection(Conditions):
    """Where to. Every key given must match; one value of each is enough."""

    domains: tuple[Pattern, ...] = ()
    """`a.b` that name, `*.a.b` any depth below it, `.a.b` both."""
    registered_domains: tuple[Registered, ...] = ()
    """Domains as somebody registered them, with all that is below (public suffix list, private section included)."""
    addresses: tuple[Network, ...] = ()
    """Networks in CIDR form."""
    address_class: tuple[AddressClass, ...] = ()
    """Kinds of address."""
    ports: tuple[Ports, ...] = ()
    """Ports, or ranges such as 8000-8100."""
    categories: tuple[Identifier, ...] = ()
    """Categories of lists."""
    lists: tuple[Identifier, ...] = ()
    """Lists and feeds by name."""


class HttpSection(Conditions):
    """What only a request can show; a rule with it makes TLS inspected."""

    methods: tuple[Annotated[str, Field(pattern=r"^([A-Z]{1,32}|webdav)$")], ...] = ()
    """Methods, in upper case; `webdav` stands for those that WebDAV and its extensions add."""
    paths: tuple[Annotated[str, Field(pattern=r"^(/|\*\*)")], ...] = ()
    """Paths: `*` stands for anything within a segment, `**` for anything."""
    buckets: tuple[BucketName, ...] = ()
    """Cloud storage: `s3:name`, `s3:accesspoint/name-account`, `gcs:name`, `azure:account[/container]`."""
    user_agents: tuple[str, ...] = ()
    """User-Agent values, with `*`, without regard to case."""
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], str] = {}
    """Header fields and their values, with `*`; all must match."""
    content_types: tuple[str, ...] = ()
    """Media types of the request's body, with `*`."""
    response_types: tuple[str, ...] = ()
    """Media types of the answer, with `*`; one that is not said is `application/octet-stream`."""
    file_types: tuple[FileType, ...] = ()
    """What the first octets of the answer show: `executable`, `script`, `archive`, `document`, a format, `other`."""
    max_body: Size | None = None
    """The largest body, for allow rules; one of undeclared length is larger."""
    max_response: Size | None = None
    """The largest body of an answer, for allow rules; a larger one is denied, or cut off where it gets larger."""


class RuleSection(Conditions):
    """One rule. Conditions are ANDed; the values of one condition are ORed."""

    name: Identifier
    """Shown to people and in the ledger; unique."""
    action: Verdict
    mode: Literal["enforce", "report"] = "enforce"
    """`report`: a deny rule only records what it would do, and the walk goes on."""
    via: tuple[Literal[Point.DNS, Point.PROXY], ...] = ()
    """Enforcement points it is limited to; none means all."""
    clients: tuple[str, ...] = ()
    """Groups from `clients`."""
    to: DestinationSection = DestinationSection()
    http: HttpSection | None = None
    tools: tuple[Tool, ...] = ()
    """Programs, by CONNECT User-Agent, TLS fingerprint and inner User-Agent."""
    qtypes: tuple[QueryType, ...] = ()
    """DNS query types."""
    tls: Tls | None = None
    """How to carry TLS; without it the gateway inspects only where a rule needs to see requests."""
    upload: UploadBudget | None = None
    """How much a client may send to one registered domain, for allow rules: `50MiB/1h`. A sliding window."""
    pins: tuple[Pin, ...] = ()
    """Public keys of which one has to be among the origin's certificates, for allow rules: `pin-sha256="..."`."""
    technique: tuple[Technique, ...] = ()
    """ATT&CK techniques that the rule is about."""


class PolicySection(Section):
    """Rules and what happens when none matches."""

    mode: Literal["enforce", "report"] = "enforce"
    """`report`: rules and default only record; built-in protections stay on."""
    default: DefaultSection = DefaultSection()
    rules: tuple[RuleSection, ...] = ()
    """First match wins."""


class PolicyFile(Section):
    """The whole file."""

    version: Literal[1]
    state_dir: FileName = "./state"
    """Snapshot, feeds, ledger, CA. Created 0700. Relative paths start at the folder of this file."""
    clients: dict[Identifier, ClientSection] = {}
    """Who."""
    proxy: ProxySection = ProxySection()
    dns: DnsSection = DnsSection()
    tunnelling: TunnellingSection = TunnellingSection()
    control: ControlSection | None = None
    """Health and metrics; without this key, no port is opened for them."""
    ledger: LedgerSection = LedgerSection()
    feeds: tuple[FileName, ...] = ()
    """Catalogues of feeds."""
    lists: dict[FeedName, LocalList] = {}
    """Local lists, with the keys of a feed."""
    policy: PolicySection = PolicySection()
