"""The schema of the ledger: what is recorded of a decision, in names of the Elastic Common Schema (ECS).

Pure: no I/O, no clock. An event is a flat mapping with dotted keys; a key is absent when it does not apply. Keys that
ECS does not have live under `gateway.`; no key is a prefix of another, so that a store may expand the dots.

Not recorded: headers, bodies, credentials, userinfo, and the values of a URL's query (its parameters' names are). The
path is, because allowlists are written from it; services that put secrets into paths (web hooks) show them here.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from dnslib import QTYPE

from gateway.addresses import IPAddress
from gateway.decision import Decision, Reason, Verdict
from gateway.ledger.text import redact_query, timestamp, visible, without_userinfo
from gateway.request import Dial, DnsAnswer, DnsQuery, HttpRequest, HttpResponse, Request, TlsHello, Tunnel
from gateway.tools import claimed

type Event = dict[str, object]
"""One line of the ledger."""

ECS_VERSION = "8.11.0"

_MOST = 32  # values kept of a list: an answer may hold hundreds of addresses
_LONGEST = 1e9  # seconds; more is a mistake, and its nanoseconds are no 64-bit number
_ALERTS = frozenset(
    (
        Reason.LISTED,
        Reason.METADATA_ADDRESS,
        Reason.DNS_REBINDING,
        Reason.DNS_TUNNEL,
        Reason.LEAK_BUDGET,
        Reason.SNI_MISMATCH,
        Reason.HOST_MISMATCH,
        Reason.INTERNAL_ERROR,
    )
)
"""Reasons that speak of an attack (or of a broken gateway) rather than of a rule: `event.kind` is alert."""
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an allowed tunnel or request had moved when it ended."""

    octets_out: int = 0
    """From the client: what counts is in the README, the same for all that is counted in octets."""
    octets_in: int = 0
    """To the client."""
    seconds: float = 0.0
    address: IPAddress | None = None
    """Where it was connected to."""
    status: int | None = None
    """HTTP status of the answer."""
    error: str = ""
    """What ended it, if it did not end well."""
    count: int = 1
    """How many decisions of the same kind the record stands for, which were made in those seconds."""


def event(
    request: Request,
    decision: Decision,
    *,
    id: str,
    now: float,
    role: str,
    outcome: Outcome | None = None,
    generation: int = 0,
) -> Event:
    """Return the record of one decision; of an allowed tunnel or request, at its end, with its outcome."""
    stage, kind = _STAGES[type(request)]
    denied = decision.verdict is Verdict.DENY
    stopped = decision.denied
    fields: Event = {
        "@timestamp": timestamp(now),
        "event.id": id,
        "ecs.version": ECS_VERSION,
        "event.kind": "alert" if denied and decision.reason in _ALERTS else "event",
        "event.category": ["network"],
        "event.type": [kind, "denied" if stopped else "allowed"],
        "event.action": stage,
        "event.outcome": "failure" if stopped else "unknown",
        "event.reason": decision.reason.value,
        "gateway.verdict": decision.verdict.value,
        "gateway.enforced": decision.enforced,
        "gateway.role": role,
        "gateway.stage": stage,
    }
    if generation:
        fields["gateway.policy.generation"] = generation
    client = request.client
    fields["source.ip"] = text_of(client.address)
    if client.user is not None:
        fields["user.name"] = visible(client.user)
    if client.certificate is not None:
        fields["tls.client.subject"] = visible(client.certificate)
    _describe(fields, request)
    _explain(fields, decision)
    if outcome is not None:
        fields["event.type"] = [kind, "denied" if stopped else "allowed", "end"]
        if outcome.count > 1:
            fields["gateway.count"] = outcome.count
            fields["gateway.first"] = timestamp(now - outcome.seconds)
            fields["gateway.last"] = timestamp(now)
        else:
            _conclude(fields, outcome, stopped=stopped)
    return fields


def _describe(fields: Event, request: Request) -> None:
    """Add what was asked for."""
    match request:
        case DnsQuery() | DnsAnswer():
            fields["network.protocol"] = "dns"
            fields["dns.question.name"] = visible(request.name) or "."
            fields["dns.question.type"] = qtype_text(request.qtype)
            if isinstance(request, DnsAnswer):
                if request.chain:
                    fields["gateway.chain"] = [visible(name) for name in request.chain[:_MOST]]
                if request.addresses:
                    fields["dns.resolved_ip"] = [str(address) for address in request.addresses[:_MOST]]
        case Tunnel():
            _describe_tunnel(fields, request)
            _put_tools(fields, claimed(request.user_agent))
        case TlsHello():
            _describe_tunnel(fields, request.tunnel)
            _describe_hello(fields, request)
            _put_tools(fields, (*claimed(request.tunnel.user_agent), request.tool))
        case HttpRequest():
            _describe_http(fields, request)
        case Dial():
            _describe(fields, request.origin)
            fields["destination.ip"] = str(request.address)
            if request.chain:
                fields["gateway.chain"] = [visible(name) for name in request.chain[:_MOST]]
        case HttpResponse():
            _describe(fields, request.dial)
            if request.media_types:
                fields["http.response.mime_type"] = visible(" ".join(request.media_types[:_MOST]))
            if request.file_types:
                fields["gateway.file_types"] = sorted(request.file_types)


def _describe_tunnel(fields: Event, request: Tunnel | HttpRequest) -> None:
    if isinstance(request.host, str):
        fields["destination.domain"] = visible(request.host)
    else:
        fields["destination.ip"] = str(request.host)
    fields["destination.port"] = request.port
    if request.user_agent:
        fields["user_agent.original"] = visible(request.user_agent)


def _describe_hello(fields: Event, hello: TlsHello) -> None:
    fields["network.protocol"] = "tls"
    if hello.server_names:
        fields["tls.client.server_name"] = visible(" ".join(hello.server_names[:_MOST]))
    if hello.alpn:
        fields["gateway.alpn"] = [visible(name) for name in hello.alpn[:_MOST]]
    if hello.ech:
        fields["gateway.ech"] = True
    if hello.ja4:  # ECS has tls.client.ja3 alone
        fields["gateway.ja4"] = visible(hello.ja4)


def _describe_http(fields: Event, request: HttpRequest) -> None:
    tools = claimed(request.user_agent)
    if (hello := request.hello) is not None:
        if hello.tunnel.user_agent:
            fields["user_agent.original"] = visible(hello.tunnel.user_agent)
        _describe_hello(fields, hello)
        tools = (*tools, *claimed(hello.tunnel.user_agent), hello.tool)
    _describe_tunnel(fields, request)
    fields["network.protocol"] = "http"
    fields["http.request.method"] = visible(request.method)
    fields["url.scheme"] = visible(request.scheme)
    fields["url.domain"] = visible(str(request.host))
    path, mark, query = request.path.partition("?")
    fields["url.path"] = visible(path if path.startswith("/") else without_userinfo(path))
    if mark:
        fields["url.query"] = visible(redact_query(query))
    _put_tools(fields, tools)


def _put_tools(fields: Event, tools: tuple[str, ...]) -> None:
    if known := [visible(tool) for tool in dict.fromkeys(tools) if tool]:
        fields["gateway.tools"] = known


def _explain(fields: Event, decision: Decision) -> None:
    """Add why."""
    if decision.rule:
        fields["rule.name"] = visible(decision.rule)
    if decision.detail:
        fields["gateway.detail"] = visible(without_userinfo(decision.detail))
    if decision.tls is not None:
        fields["gateway.tls"] = decision.tls.value
    if decision.technique:
        fields["threat.technique.id"] = list(decision.technique)
    if (matched := decision.matched) is not None:
        fields["gateway.list.name"] = visible(matched.list)
        fields["gateway.list.version"] = visible(matched.version)
        fields["gateway.list.line"] = matched.line
        fields["gateway.list.entry"] = visible(matched.entry)
        if matched.categories:
            fields["gateway.categories"] = [visible(category) for category in matched.categories[:_MOST]]
    if decision.reported:
        fields["gateway.reported"] = [visible(each.rule) for each in decision.reported[:_MOST]]


def _conclude(fields: Event, outcome: Outcome, *, stopped: bool) -> None:
    """Add how it ended."""
    if not stopped:
        fields["event.outcome"] = "failure" if outcome.error else "success"
    if 0 <= outcome.seconds < _LONGEST:
        fields["event.duration"] = round(outcome.seconds * 1e9)
    fields["source.bytes"] = outcome.octets_out
    fields["destination.bytes"] = outcome.octets_in
    if outcome.address is not None:
        fields["destination.ip"] = text_of(outcome.address)
    if outcome.status is not None:
        fields["http.response.status_code"] = outcome.status
    if outcome.error:
        fields["error.message"] = visible(without_userinfo(outcome.error))


def text_of(address: IPAddress) -> str:
    """Return an address as text: the same few again and again."""
    return _text_of_ipv4(int(address)) if address.version == 4 else str(address)


@lru_cache(maxsize=1024)
def _text_of_ipv4(number: int) -> str:
    return str(IPv4Address(number))


def qtype_text(qtype: int) -> str:
    """Return the mnemonic of a query type, or its RFC 3597 form.

    >>> qtype_text(28), qtype_text(65280)
    ('AAAA', 'TYPE65280')
    """
    return str(QTYPE.forward.get(qtype) or f"TYPE{qtype}")


def encode(record: Event) -> bytes:
    """Return an event as one line of ASCII JSON, newline included."""
    return _ENCODER.encode(record).encode("ascii") + b"\n"


_STAGES: dict[type, tuple[str, str]] = {
    DnsQuery: ("dns-query", "protocol"),
    DnsAnswer: ("dns-answer", "protocol"),
    Tunnel: ("tunnel", "connection"),
    TlsHello: ("tls-hello", "connection"),
    HttpRequest: ("http-request", "connection"),
    Dial: ("dial", "connection"),
    HttpResponse: ("http-response", "connection"),
}
