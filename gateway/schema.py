"""The shape of the policy file: one model per section, from which validation and the JSON Schema both come.

Says what a value may look like. What values mean together (contradictions, unknown names) is in `gateway.config`.
A key that does not exist is refused, never accepted and ignored, because a policy that is not enforced is a hole.
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
from gateway.controlsection import ControlSection
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
    """The largest answer, for allow rules; a larger one is denied, or cut off where it gets larger."""


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
