"""The verdict: what `Policy.decide` answers, in words that belong to no protocol.

Pure: no I/O, no clock. Reasons are public: the ledger, metrics, block page, EDE text and tests all use these strings.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """What is to happen."""

    ALLOW = "allow"
    DENY = "deny"


class Tls(StrEnum):
    """How an allowed TLS tunnel is carried."""

    SPLICE = "splice"
    INSPECT = "inspect"


class Point(StrEnum):
    """An enforcement point: who asks."""

    DNS = "dns"
    PROXY = "proxy"
    FIREWALL = "firewall"


class Fact(StrEnum):
    """Something a stage has not learnt yet, and a rule wants to know."""

    ADDRESS = "address"
    """Settled at `Dial`, or at `DnsAnswer` in the resolver."""
    TOOL = "tool"
    """Settled at `TlsHello`."""
    HTTP = "http"
    """Settled at `HttpRequest`: the flow has to be inspected."""
    RESPONSE = "response"
    """Settled at `HttpResponse`: the answer waits for it."""


class Reason(StrEnum):
    """Why. Each value is documented in the README's table of reasons."""

    RULE = "rule"
    PENDING = "pending"
    DEFAULT_ALLOW = "default-allow"
    DEFAULT_DENY = "default-deny"
    LISTED = "listed"
    PRIVATE_ADDRESS = "private-address"
    METADATA_ADDRESS = "metadata-address"
    DIRECT_ADDRESS = "direct-address"
    DNS_REBINDING = "dns-rebinding"
    NAME_UNRESOLVABLE = "name-unresolvable"
    SNI_MISSING = "sni-missing"
    SNI_MISMATCH = "sni-mismatch"
    HOST_MISMATCH = "host-mismatch"
    ECH = "ech"
    NOT_TLS = "not-tls"
    PROTOCOL = "protocol"
    PORT = "port"
    USER_AGENT = "user-agent"
    TOOL = "tool"
    METHOD = "method"
    PATH = "path"
    HEADER = "header"
    CONTENT_TYPE = "content-type"
    FILE_TYPE = "file-type"
    BUCKET = "bucket"
    BODY_SIZE = "body-size"
    UPLOAD_BUDGET = "upload-budget"
    CERTIFICATE_PIN = "certificate-pin"
    QTYPE = "qtype"
    DNS_TUNNEL = "dns-tunnel"
    LEAK_BUDGET = "leak-budget"
    RATE_LIMIT = "rate-limit"
    MALFORMED = "malformed"
    AUTH_REQUIRED = "auth-required"
    AUTH_FAILED = "auth-failed"
    CLIENT_UNKNOWN = "client-unknown"
    UPSTREAM_FAILURE = "upstream-failure"
    INTERNAL_ERROR = "internal-error"


class Match(NamedTuple):
    """The list entry behind a `listed` decision: enough to find the line that a feed's maintainer wrote. A tuple,
    because one is made for each listed name, and tuples are made fastest.
    """

    list: str
    version: str
    """Content hash of the copy of the list that was compiled."""
    line: int
    """Line (or item) number in that copy, counted from 1."""
    entry: str
    """The entry as the gateway understood it: `bad.example`, `*.bad.example`, `bad.example/path`, `192.0.2.0/24`."""
    categories: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The same for people: the `detail` of a decision."""
        return f"{self.entry.removeprefix('.')} is on the list {self.list}"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a client may upload to one registered domain."""

    octets: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Decision:
    """One verdict with its evidence. A value: a denial is never an exception."""

    verdict: Verdict
    reason: Reason
    rule: str = ""
    """Name of the rule that decided; empty for built-in protections and the default."""
    detail: str = ""
    """One phrase for people: what was seen, what would have been needed."""
    enforced: bool = True
    """False in report mode: recorded as "would deny", and let pass."""
    tls: Tls | None = None
    """For an allowed tunnel: how to carry it."""
    pending: tuple[Fact, ...] = ()
    """Allowed so far: facts that a later stage must still settle."""
    matched: Match | None = None
    technique: tuple[str, ...] = ()
    """ATT&CK technique ids."""
    budget: Budget | None = None
    pins: tuple[str, ...] = ()
    """Digests of keys, one of which the certificates of an inspected origin have to hold; see `gateway.rule`."""
    max_response: int | None = None
    """Octets of an answer's body that may pass."""
    reported: tuple["Decision", ...] = ()
    """What rules in report mode would have decided before this one."""

    @property
    def denied(self) -> bool:
        """Whether the adapter must stop the traffic: denied, and not merely reported."""
        return self.enforced and self.verdict is Verdict.DENY


def with_evidence(decision: Decision, matched: Match | None) -> Decision:
    """Return a decision with the entry that it has a blank for; without an entry, it is whole already."""
    return decision if matched is None else replace(decision, detail=matched.told, matched=matched)
