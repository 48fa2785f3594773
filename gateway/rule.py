"""Rules and client groups as the policy file gives them, already read into types.

Pure: no I/O, no clock. What may be combined with what is checked by `gateway.config`; here it is only held.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from gateway.addresses import AddressClass, IPNetwork
from gateway.decision import Budget, Point, Tls, Verdict

WEBDAV = frozenset(
    (
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"),  # RFC 4918
        *("VERSION-CONTROL", "REPORT", "CHECKOUT", "CHECKIN", "UNCHECKOUT", "MKWORKSPACE"),  # RFC 3253
        *("UPDATE", "LABEL", "MERGE", "BASELINE-CONTROL", "MKACTIVITY"),  # RFC 3253
        *("ORDERPATCH", "ACL", "SEARCH"),  # RFC 3648, RFC 3744, RFC 5323
        *("MKCALENDAR", "BIND", "UNBIND", "REBIND"),  # RFC 4791, RFC 5842
        *("MKREDIRECTREF", "UPDATEREDIRECTREF"),  # RFC 4437
    )
)
"""Methods that WebDAV and its extensions add to HTTP: with them, a web server is a file server."""

WEB_PORTS = frozenset((80, 443))
"""The only ports open without a rule that names others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientGroup:
    """A named set of clients. Every kind given must match."""

    name: str
    addresses: tuple[IPNetwork, ...] = ()
    users: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()
    """Subjects and further names of certificates; one of a certificate's is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConditions:
    """Conditions on a request and its answer that only plain HTTP and inspected TLS can show."""

    methods: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()
    """Globs: `*` within a segment, `**` across segments."""
    user_agents: tuple[str, ...] = ()
    """Globs without regard to case."""
    headers: tuple[tuple[str, str], ...] = ()
    """Field name in lower case and a glob for its value; all must match."""
    content_types: tuple[str, ...] = ()
    """Globs over the media type of the request body, as in `application/*`."""
    max_body: int | None = None
    """Octets; a body whose length is not declared is larger."""
    max_response: int | None = None
    """Octets of an answer that may pass. No condition: the rule has matched before they come."""
    buckets: frozenset[str] = frozenset()
    """Cloud storage, as `gateway.buckets` names it."""
    response_types: tuple[str, ...] = ()
    """Globs over the media type of the answer."""
    file_types: frozenset[str] = frozenset()
    """Formats of `gateway.filetypes` that the first octets of the answer tell."""

    @property
    def over_response(self) -> bool:
        """Whether the answer has to be seen."""
        return bool(self.response_types or self.file_types)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: conditions are ANDed, the values of one condition are ORed, an empty condition is always true."""

    name: str
    action: Verdict
    report: bool = False
    """Only record what a deny rule would do."""
    via: frozenset[Point] = field(default_factory=lambda: frozenset(Point))
    clients: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    registered_domains: tuple[str, ...] = ()
    addresses: tuple[IPNetwork, ...] = ()
    address_classes: tuple[AddressClass, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    """Inclusive ranges."""
    categories: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    qtypes: tuple[int, ...] = ()
    http: HttpConditions | None = None
    tls: Tls | None = None
    upload: Budget | None = None
    pins: tuple[str, ...] = ()
    """SHA-256 of public keys (SubjectPublicKeyInfo), in base64: the origin's verified chain has to hold one."""
    technique: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def glob_pattern(glob: str, separator: str = "") -> re.Pattern[str]:
    """Compile a glob. With a separator, `*` stops at it and `**` does not; without, `*` matches anything.

    >>> bool(glob_pattern("/repos/*/x", "/").match("/repos/a/b/x")), bool(glob_pattern("/a/**", "/").match("/a/b/c"))
    (False, True)
    """
    parts: list[str] = []
    for token in re.split(r"(\*\*|\*)", glob):
        if token == "**" or (token == "*" and not separator):
            parts.append(".*")
        elif token == "*":
            parts.append(f"[^{re.escape(separator)}]*")
        else:
            parts.append(re.escape(token))
    flags = re.DOTALL if separator else re.DOTALL | re.IGNORECASE
    return re.compile("".join(parts) + r"\Z", flags)
