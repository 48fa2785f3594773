"""The shape of the policy file: one model per section, from which validation and the JSON Schema both come.

Says what a value may look like. What values mean together (contradictions, unknown names) is in `gateway.config`.
A key that is agreed but not built yet is `Unbuilt`: refused, never accepted and ignored, because a policy that is not
enforced is a hole.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Any, Literal, NoReturn, Self

from dnslib import QTYPE
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.addresses import AddressClass, parse_address
from gateway.decision import Point, Tls, Verdict
from gateway.domainset import parse_pattern
from gateway.feeds.catalog import FeedName, LocalList
from gateway.names import normalize, registered_domain
from gateway.tools import KNOWN as KNOWN_TOOLS
from gateway.units import Duration, Size

_plain_path = re.compile(r"[A-Za-z0-9._~/-]*").fullmatch
_BLOCK_ANSWERS = ("nxdomain", "nodata", "zero-ip", "refused", "drop")


class Section(BaseModel):
    """A mapping in the file: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Conditions(Section):
    """A mapping of conditions. One left out means any; an empty list was meant to name some, so it is refused.

    A template that lost its values must not turn `domains: []` into a rule for every domain.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _names_something(cls, value: Any) -> Any:
        if value == []:
            raise ValueError("is empty, which would mean any: name something, or leave the key out")
        return value


def _refuse(_: object) -> NoReturn:
    raise ValueError("not supported yet: leave this key out")


type Unbuilt = Annotated[
    None, BeforeValidator(_refuse), WithJsonSchema({"not": {}, "description": "Not supported yet."})
]


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


def _listener(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or parse_address(host.strip("[]")) is None:
        raise ValueError(f"{value!r} is no place to listen: give address:port, as in 127.0.0.1:3128 or [::1]:3128")
    return value


def _proxy_listener(value: str) -> str:
    if value.startswith("tls://"):
        raise ValueError("tls:// is not supported yet: give address:port")
    return _listener(value)


def _dns_listener(value: str) -> str:
    scheme, sep, rest = value.partition("://")
    if not sep or scheme not in ("udp", "tcp", "tls", "https"):
        raise ValueError(
            f"{value!r} is no listener: give udp://, tcp:// or tls:// with address:port, or https://address:port/path"
        )
    authority, slash, path = rest.partition("/")
    if scheme == "https" and (not slash or not _plain_path(path)):
        raise ValueError(f"{value!r} needs a path, as in https://{authority}/dns-query")
    _listener(authority if scheme == "https" else rest)
    return value


def _upstream(value: str) -> str:
    if value == "system":
        return value
    scheme, sep, rest = value.partition("://")
    if not sep or scheme not in ("udp", "tcp", "tls", "https"):
        raise ValueError(
            f"{value!r} is no upstream: give 'system', udp://address, tcp://address, tls://address#name or "
            "https://address/path#name, with :port if not the usual one"
        )
    authority, slash, path = rest.partition("/")
    if scheme in ("tls", "https"):
        rest, mark, name = rest.partition("#")
        authority, slash, path = rest.partition("/")
        if mark and parse_address(name) is None:
            normalize(name)
    if bool(slash) is not (scheme == "https") or not _plain_path(path):
        raise ValueError(f"{value!r}: https:// alone has a path, as in https://1.1.1.1/dns-query, and a plain one")
    if parse_address(authority.strip("[]")) is None:
        host, _, port = authority.rpartition(":")
        if parse_address(host.strip("[]")) is None:
            raise ValueError(
                f"{value!r} is no upstream: write its address, and its name behind that, as in "
                "tls://9.9.9.9#dns.quad9.net; to look the name up, an upstream would be needed"
            )
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{value!r}: {port!r} is no port")
    return value


def _workers(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 256):
        raise ValueError(f"expected 'auto' or a number from 1 to 256, not {value!r}")
    return value


def _block_answer(value: Any) -> Any:
    if isinstance(value, dict):
        try:
            return Sinkhole.model_validate(value)
        except ValidationError as error:
            raise ValueError(f"expected {{sinkhole: [address, ...]}}: {error.errors()[0]['msg']}") from None
    if not isinstance(value, Sinkhole) and value not in _BLOCK_ANSWERS:
        raise ValueError(
            f"expected one of {', '.join(_BLOCK_ANSWERS)}, or {{sinkhole: [address, ...]}}; not {value!r}"
        )
    return value


def _tunnelling_action(value: Any) -> Any:
    value = "off" if value is False else value  # YAML 1.1 reads a bare `off` as false
    if value in ("deny", "report"):
        raise ValueError(f"{value!r} is not supported yet: leave this key out")
    if value != "off":
        raise ValueError(f"expected 'off', not {value!r}")
    return value


def _file_name(value: str) -> str:
    if not value:
        raise ValueError("empty path")
    return value


type Address = IPv4Address | IPv6Address
type Network = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(_network), PlainSerializer(str), WithJsonSchema({"type": "string"})
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
type DnsListener = Annotated[str, AfterValidator(_dns_listener)]
type Upstream = Annotated[str, AfterValidator(_upstream)]
type FileName = Annotated[str, AfterValidator(_file_name)]
type Name = Annotated[str, AfterValidator(normalize)]
type Technique = Annotated[str, Field(pattern=r"^T\d{4}(\.\d{3})?$")]
type Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
type Workers = Annotated[int | Literal["auto"], BeforeValidator(_workers)]


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


class CacheSection(Section):
    """The resolver's cache."""

    entries: Annotated[int, Field(ge=0, le=50_000_000)] = 200_000
    """Answers kept, per worker process."""
    min_ttl: Duration = 0
    """Shorter TTLs are raised to this."""
    max_ttl: Duration = 86400
    """Longer TTLs are cut to this."""
    negative_ttl: Duration = 300
    """The longest time that NXDOMAIN and NODATA are kept (RFC 2308)."""
    serve_stale: Duration = 3600
    """How long expired answers help out when no upstream answers (RFC 8767); 0: not at all."""
    prefetch: bool = True
    """Renew hot names before they expire."""


class Sinkhole(Section):
    """Answer denied names with these addresses."""

    sinkhole: Annotated[tuple[Address, ...], Field(min_length=1)]
    """Addresses to answer with, A or AAAA as asked."""


class BlockSection(Section):
    """How a denied name is answered."""

    answer: Annotated[
        Literal["nxdomain", "nodata", "zero-ip", "refused", "drop"] | Sinkhole, BeforeValidator(_block_answer)
    ] = "nxdomain"
    ttl: Duration = 60
    """How long clients may remember the denial."""


class StripSection(Section):
    """What is removed from messages on the way."""

    ech: bool = True
    """Encrypted ClientHello keys in SVCB and HTTPS records, and the signatures over them."""
    ecs: Literal[True] = True
    """EDNS Client Subnet: never sent upstream."""


class CertificateSection(Section):
    """A certificate with its key, PEM files; read again on SIGHUP."""

    cert: FileName
    """The certificate, followed by those that lead to its root."""
    key: FileName
    """Its private key, without a passphrase."""


class RateLimitSection(Section):
    """A token bucket for each client."""

    queries_per_second: Annotated[float, Field(gt=0, le=1_000_000)] = 500
    burst: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Queries at once after a pause."""


def _numbers_and_name(count: int, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        *numbers, name = value.split() or [""]
        if len(numbers) != count or not all(_is_uint16(number) for number in numbers):
            raise ValueError(f"expected {expected}, not {value!r}")
        # The root says that there is no such service (RFC 2782, RFC 7505).
        return " ".join((*(str(int(number)) for number in numbers), name if name == "." else normalize(name)))

    return AfterValidator(check)


def _is_uint16(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 65536


class RecordSection(Section):
    """A record that is not an address; one key."""

    cname: Name | None = None
    """Another name for that one; followed here, and upstream where it leads out of here."""
    txt: Annotated[str, Field(max_length=4096)] | None = None
    ptr: Name | None = None
    srv: Annotated[str, _numbers_and_name(3, "'priority weight port target'")] | None = None
    mx: Annotated[str, _numbers_and_name(1, "'preference name'")] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len([key for key in _RECORD_KINDS if getattr(self, key) is not None]) != 1:
            raise ValueError(f"expected one of {', '.join(_RECORD_KINDS)}")
        return self

    @property
    def content(self) -> tuple[str, str]:
        """The kind of record, and its text."""
        return next((key, value) for key in _RECORD_KINDS if (value := getattr(self, key)) is not None)


_RECORD_KINDS = ("cname", "txt", "ptr", "srv", "mx")
_MAX_ALIASES = 16


def _local_record(value: Any) -> Any:
    if isinstance(value, RecordSection | IPv4Address | IPv6Address):
        return value
    if isinstance(value, dict):
        try:
            return RecordSection.model_validate(value)
        except ValidationError as error:
            found = error.errors()[0]
            where = "".join(f"{part}: " for part in found["loc"])
            raise ValueError(where + found["msg"].removeprefix("Value error, ")) from None
    address = parse_address(value) if isinstance(value, str) else None
    if address is None:
        kinds = ", ".join(f"{{{kind}: ...}}" for kind in _RECORD_KINDS)
        raise ValueError(f"expected an address or one of {kinds}; not {value!r}")
    return address


type LocalRecord = Annotated[Address | RecordSection, BeforeValidator(_local_record)]


class RpzZoneSection(Section):
    """The lists in force as a response policy zone for other resolvers, by AXFR and IXFR."""

    categories: tuple[Identifier, ...] = ()
    """Categories of lists that are in it; with `lists`, what fits either. Without both: all lists."""
    lists: tuple[Identifier, ...] = ()
    """Lists and feeds that are in it, by name."""
    allow: tuple[Network, ...] = ()
    """Networks that may have it."""
    key: FileName | None = None
    """A file with TSIG keys, as tsig-keygen writes it: one of them has to sign every query."""

    @model_validator(mode="after")
    def _is_for_somebody(self) -> Self:
        if not self.allow and self.key is None:
            raise ValueError("says nobody who may have it: give allow, key, or both")
        return self


class DnsSection(Section):
    """The resolver."""

    listen: tuple[DnsListener, ...] = ("udp://127.0.0.1:5335", "tcp://127.0.0.1:5335")
    """Where to answer: `udp://address:port`, `tcp://`, `tls://` (DoT), `https://address:port/path` (DoH)."""
    certificate: CertificateSection | None = None
    """For tls:// and https:// listeners."""
    workers: Workers = "auto"
    """Processes that share the ports; `auto` is one a core."""
    upstreams: Annotated[tuple[Upstream, ...], Field(min_length=1)] = ("system",)
    """Resolvers to ask: `system` (those of resolv.conf), `udp://address[:port]`, `tcp://address[:port]`,
    `tls://address[:port][#name]`, `https://address[:port]/path[#name]`. The name is whom the certificate is for."""
    strategy: Literal["fastest", "parallel", "ordered"] = "fastest"
    """Which upstream is asked first: the fastest of late, all at once, or in the order given."""
    forward: dict[Name, Annotated[tuple[Upstream, ...], Field(min_length=1)]] = {}
    """Zones that have upstreams of their own; private addresses are expected from there."""
    records: dict[Name, Annotated[tuple[LocalRecord, ...], Field(min_length=1)]] = {}
    """Names answered here: addresses, or mappings such as `{cname: name}`."""
    cache: CacheSection = CacheSection()
    block: BlockSection = BlockSection()
    rate_limit: RateLimitSection | None = RateLimitSection()
    """What one client may ask; null: as much as it likes."""
    strip: StripSection = StripSection()
    rpz_zones: dict[Name, RpzZoneSection] = {}
    """Zones of the lists in force, for other resolvers to transfer."""
    trust_ad: bool = False
    """Pass on the upstreams' word that they have validated an answer (AD). Only for upstreams reached safely."""

    @model_validator(mode="after")
    def _aliases_end(self) -> Self:
        """Say which local CNAME leads round in a circle, or stands beside other records."""
        targets = {
            name: entry.cname
            for name, entries in self.records.items()
            for entry in entries
            if isinstance(entry, RecordSection) and entry.cname is not None
        }
        for name in targets:
            if len(self.records[name]) > 1:
                raise ValueError(f"records: {name} has a CNAME and other records: a CNAME stands alone (RFC 1034)")
            seen, at = {name}, targets[name]
            while at in targets and at not in seen:
                seen.add(at)
                at = targets[at]
            if at in seen or len(seen) > _MAX_ALIASES:
                raise ValueError(f"records: the CNAME of {name} leads round in a circle, or over too many others")
        return self


class TunnellingSection(Section):
    """Detection of DNS tunnels."""

    action: Annotated[Literal["off"], BeforeValidator(_tunnelling_action)] = "off"
    leak_budget: Unbuilt = None
    exempt: Unbuilt = None


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
