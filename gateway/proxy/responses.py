"""Answers to people: what was denied, why, and the id to quote.

Pure: no I/O, no clock. Names from the network are hostile here too: everything that is not printable ASCII leaves
escaped, so that no name can break out of a header field or a terminal line.
"""

import json
from dataclasses import dataclass

from gateway.decision import Decision, Reason
from gateway.proxy.accept import preferred
from gateway.proxy.credentials import CHALLENGE
from gateway.proxy.page import SECURITY, page
from gateway.request import Request

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
ALERT_ACCESS_DENIED = bytes.fromhex("15030300020231")
"""A fatal TLS alert, access_denied (RFC 8446 section 6.2: "the sender decided not to proceed")."""
ALERT_INTERNAL_ERROR = bytes.fromhex("15030300020250")
"""A fatal TLS alert, internal_error: the origin could not be reached."""

ALERT_UNRECOGNIZED_NAME = bytes.fromhex("15030300020270")
"""A fatal TLS alert, unrecognized_name: the name does not exist. Clients show the alert's name and nothing else, and
an "internal error" would be looked for in the gateway."""

UNREACHED = frozenset((Reason.NAME_UNRESOLVABLE, Reason.UPSTREAM_FAILURE))
"""Reasons that are failures, not denials."""

_PHRASES = {
    400: "Bad Request",
    403: "Forbidden",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
_STATUS = {
    Reason.MALFORMED: 400,
    Reason.AUTH_REQUIRED: 407,
    Reason.AUTH_FAILED: 407,
    Reason.NAME_UNRESOLVABLE: 502,
    Reason.UPSTREAM_FAILURE: 502,
    Reason.RATE_LIMIT: 503,
}
# RFC 9209 section 2.3. A policy's denial is always http_request_denied, whatever its cause: details says it.
_ERRORS = {
    Reason.MALFORMED: "http_request_error",
    Reason.NAME_UNRESOLVABLE: "dns_error",
    Reason.UPSTREAM_FAILURE: "destination_unavailable",
    Reason.RATE_LIMIT: "connection_limit_reached",
}
_SENTENCES = {
    Reason.RULE: "a rule denies it",
    Reason.DEFAULT_DENY: "no rule allows it",
    Reason.LISTED: "it is on a block list",
    Reason.PRIVATE_ADDRESS: "that address is not on the public internet",
    Reason.METADATA_ADDRESS: "that is the address of a metadata service",
    Reason.DIRECT_ADDRESS: "addresses without a name are denied",
    Reason.DNS_REBINDING: "the name leads to an address that is not on the public internet",
    Reason.NAME_UNRESOLVABLE: "the name could not be resolved",
    Reason.DNS_TUNNEL: "names like that carry data out",
    Reason.LEAK_BUDGET: "too much was told to that domain in names",
    Reason.SNI_MISSING: "the TLS handshake names no server",
    Reason.SNI_MISMATCH: "the TLS handshake names another server than the request",
    Reason.HOST_MISMATCH: "the Host field names another server than the request",
    Reason.ECH: "the TLS handshake hides the server's name",
    Reason.NOT_TLS: "only TLS may pass through a tunnel",
    Reason.PROTOCOL: "that protocol is not allowed here",
    Reason.PORT: "that port is closed",
    Reason.TOOL: "the program that asks is not allowed to",
    Reason.CERTIFICATE_PIN: "the server's certificate is not the one that is expected",
    Reason.MALFORMED: "the request is malformed",
    Reason.RATE_LIMIT: "there are too many connections from this client",
    Reason.AUTH_REQUIRED: "user name and password are needed",
    Reason.AUTH_FAILED: "user name or password is wrong",
    Reason.UPSTREAM_FAILURE: "the server could not be reached",
    Reason.INTERNAL_ERROR: "the gateway failed, and fails closed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer of the gateway's own."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def phrase(self) -> str:
        """The phrase behind the status; of a denial, with its reason: often that is all that a program shows."""
        phrase = _PHRASES.get(self.status, "Error")
        reason = next((value for name, value in self.fields if name == "X-Gateway-Reason"), "")
        return f"{phrase} ({reason})" if self.status == 403 and reason else phrase


def answer(
    decision: Decision, ledger_id: str, request: Request | None, *, status: int | None = None, accept: str = ""
) -> Answer:
    """Say what was denied: as a page, as JSON or as a line of text, whichever `accept` wants most."""
    what = _subject(request)
    why = explain(decision)
    status = status or _STATUS.get(decision.reason, 403)
    error = "connection_timeout" if status == 504 else _ERRORS.get(decision.reason, "http_request_denied")
    kind = preferred(accept, tuple(_WRITERS))
    body = _WRITERS[kind](what, why, decision, ledger_id)
    fields: tuple[tuple[str, str], ...] = (
        ("Content-Type", kind if kind == "application/json" else f"{kind}; charset=us-ascii"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept"),
        ("X-Content-Type-Options", "nosniff"),
        ("Proxy-Status", f'egress-gateway; error={error}; details="{_quoted(f"{decision.reason}: {why}")}"'),
        ("X-Gateway-Reason", decision.reason.value),
        ("X-Gateway-Decision", clean(ledger_id)),
    )
    if kind == "text/html":
        fields += (("Content-Security-Policy", SECURITY),)
    if status == 407:  # RFC 9110 section 15.5.8: with a challenge, always
        fields += (("Proxy-Authenticate", CHALLENGE),)
    return Answer(status, fields, body.encode("ascii"))


def _text(what: str, why: str, decision: Decision, ledger_id: str) -> str:
    quote = f" When asking about it, quote decision {ledger_id}." if ledger_id else ""
    did = "could not serve" if decision.reason in UNREACHED else "denied"
    return clean(f"The egress gateway {did} {what}: {why} (reason: {decision.reason}).{quote}") + "\n"


def _json(what: str, why: str, decision: Decision, ledger_id: str) -> str:
    told = {"denied": what, "reason": decision.reason.value, "why": why, "rule": decision.rule, "decision": ledger_id}
    return json.dumps({name: clean(text) for name, text in told.items()}) + "\n"


def _html(what: str, why: str, decision: Decision, ledger_id: str) -> str:
    matched = decision.matched
    facts = (
        ("Destination", what),
        ("Reason", decision.reason.value),
        ("Rule", decision.rule),
        ("List", f"{matched.list}, line {matched.line}" if matched else ""),
        ("Decision", ledger_id),
    )
    quote = "Questions? Ask whoever runs this network's gateway"
    quote += ", and quote the decision above: it finds the record of what happened." if ledger_id else "."
    did = "could not reach" if decision.reason in UNREACHED else "blocked"
    return page(
        clean(f"The egress gateway {did} {what}"),
        clean(f"Why: {why}."),
        [(name, clean(value)) for name, value in facts],
        quote,
    )


_WRITERS = {"text/plain": _text, "application/json": _json, "text/html": _html}
"""Forms of an answer, the first for who wants none more than another."""


def render(reply: Answer, *, head_only: bool = False) -> bytes:
    """Write an answer as an HTTP/1.1 message that ends its connection. `head_only`: to a HEAD request."""
    head = "".join(f"{name}: {value}\r\n" for name, value in reply.fields)
    body = b"" if head_only else reply.body
    return f"HTTP/1.1 {reply.status} {reply.phrase}\r\n{head}Connection: close\r\n\r\n".encode("ascii") + body


def explain(decision: Decision) -> str:
    """Return the cause as a phrase: the rule, the list entry, or what was seen."""
    why = decision.detail or _SENTENCES.get(decision.reason, f"{decision.reason} does not allow it")
    if decision.rule:
        return f"{why} (rule {decision.rule})"
    return why


def clean(text: str) -> str:
    """Return text as printable ASCII, everything else escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)


def _quoted(text: str) -> str:
    """Return the inside of a structured-field string (RFC 9651 section 3.3.3)."""
    return clean(text)[:400].replace("\\", "\\\\").replace('"', '\\"')


def _subject(request: Request | None) -> str:
    host = getattr(request, "host", "")
    port = getattr(request, "port", 0)
    if not host:
        return "a request"
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
