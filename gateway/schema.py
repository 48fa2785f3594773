"""The shape of the policy file: one model per section, from which validation and the JSON Schema both come.

Says what a value may look like. What values mean together (contradictions, unknown names) is in `gateway.config`.
A key that is agreed but not built yet is `Unbuilt`: refused, never accepted and ignored, because a policy that is not
enforced is a hole.
"""

from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
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
from gateway.decision import Point, Tls, Verdict
from gateway.dnssection import DnsSection
from gateway.domainset import parse_pattern
from gateway.feeds.catalog import FeedName, LocalList
from gateway.names import normalize, registered_domain
from gateway.section import (
    Address,
    Conditions,
    FileName,
    Identifier,
    Name,
    Section,
    Unbuilt,
    Workers,
    check_listener,
)
from gateway.tools import KNOWN as KNOWN_TOOLS
from gateway.units import Duration, Size, parse_duration, parse_size, render_duration, render_size


def _network(value: Any) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value, strict=True)
    except ValueError as error:
        raise ValueError(f"{value!r} is no network: {error}") from None


def _pattern(value: str) -> str:
    name, exact, below = parse_pattern(value)
    return ("." if exact else "*.") + name if below else name


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


def _proxy_listener(value: str) -> str:
    if value.startswith("tls://"):
        raise ValueError("tls:// is not supported yet: give address:port")
    return check_listener(value)


def _tunnelling_action(value: Any) -> Any:
    value = "off" if value is False else value  # YAML 1.1 reads a bare `off` as false
    if value not in ("deny", "report", "off"):
        raise ValueError(f"expected 'deny', 'report' or 'off', not {value!r}")
    return value


def _leak_limit(value: Any) -> Any:
    if isinstance(value, tuple):
        return value
    size, slash, span = str(value).partition("/")
    try:
        octets, seconds = parse_size(size), parse_duration(span)
    except ValueError:
        octets, seconds = 0, 0.0
    if not slash or octets <= 0 or not 60 <= seconds <= 7 * 86400:
        raise ValueError(f"{value!r} is no budget: give octets and a time from 1m to 7d, as in '120B/1h'")
    return octets, seconds


type Network = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(_network), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
type TunnellingAction = Annotated[Literal["deny", "report", "off"], BeforeValidator(_tunnelling_action)]
type LeakLimit = Annotated[
    tuple[int, float],
    BeforeValidator(_leak_limit),
    PlainSerializer(lambda limit: f"{render_size(limit[0])}/{render_duration(limit[1])}", return_type=str),
    WithJsonSchema({"type": "string", "examples": ["120B/1h", "240B/24h"]}),
]
type Pattern = Annotated[str, AfterValidator(_pattern)]
type Registered = Annotated[str, AfterValidator(_registrable)]
type Ports = Annotated[
    tuple[int, int],
    BeforeValidator(_port_range),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]}),
]
type QueryType = Annotated[int, BeforeValidator(_qtype), WithJsonSchema({"type": ["string", "integer"]})]
type Tool = Annotated[str, AfterValidator(_tool), WithJsonSchema({"enum": list(KNOWN_TOOLS)})]
type ProxyListener = Annotated[str, AfterValidator(_proxy_listener)]
type Technique = Annotated[str, Field(pattern=r"^T\d{4}(\.\d{3})?$")]


class ClientSection(Conditions):
    """A group of clients. Every kind given must match."""

    addresses: tuple[Network, ...] = ()
    """Source networks."""
    users: Unbuilt = None
    """Names proven with proxy authentication."""
    certificates: Unbuilt = None
    """Subjects proven with client certificates."""

    @model_validator(mode="after")
    def _is_somebody(self) -> Self:
        if not self.addresses:
            raise ValueError("names nobody, which would mean everybody: give addresses")
        return self


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


class ProxySection(Section):
    """The explicit proxy."""

    listen: tuple[ProxyListener, ...] = ("127.0.0.1:3128",)
    """Where to accept clients, `address:port`."""
    workers: Workers = "auto"
    """Processes that share the port; `auto` is one a core."""
    auth: Unbuilt = None
    """Proxy authentication."""
    limits: ProxyLimits = ProxyLimits()
    timeouts: ProxyTimeouts = ProxyTimeouts()
    parent: Unbuilt = None
    """Proxy to chain to."""


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

    methods: tuple[Annotated[str, Field(pattern=r"^[A-Z]{1,32}$")], ...] = ()
    """Methods, in upper case."""
    paths: tuple[Annotated[str, Field(pattern=r"^(/|\*\*)")], ...] = ()
    """Paths: `*` stands for anything within a segment, `**` for anything."""
    user_agents: tuple[str, ...] = ()
    """User-Agent values, with `*`, without regard to case."""
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], str] = {}
    """Header fields and their values, with `*`; all must match."""
    content_types: tuple[str, ...] = ()
    """Media types of the request's body, with `*`."""
    max_body: Size | None = None
    """The largest body, for allow rules; one of undeclared length is larger."""


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
    upload: Unbuilt = None
    """How much a client may send there."""
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
    control: Unbuilt = None
    """Health, metrics, API."""
    ledger: LedgerSection = LedgerSection()
    feeds: tuple[FileName, ...] = ()
    """Catalogues of feeds."""
    lists: dict[FeedName, LocalList] = {}
    """Local lists, with the keys of a feed."""
    policy: PolicySection = PolicySection()
