"""What would happen to a client and a destination, stage by stage, and why.

Pure: no I/O, no clock. Asks the same `Policy.decide` as the enforcement points, with the requests they would make.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.addresses import IPAddress
from gateway.authority import split_authority
from gateway.decision import Decision, Fact, Reason, Tls
from gateway.names import normalize
from gateway.policy import Policy
from gateway.request import Client, Dial, DnsAnswer, DnsQuery, Flaw, HttpRequest, Request, TlsHello, Tunnel
from gateway.units import render_duration, render_size


@dataclass(frozen=True, slots=True)
class Stage:
    """One question that an enforcement point would ask, and the answer."""

    name: str
    request: Request
    decision: Decision


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL, or `host:port`, taken apart as the proxy would see it."""

    scheme: str
    authority: str
    path: str


def parse_destination(text: str) -> Destination:
    """Read what somebody would type: `https://host/path`, `http://host`, `host` or `host:port`.

    Raises:
        ValueError: it is none of these.
    """
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError:  # brackets that do not fit
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{text!r} is no destination: give https://host/path, http://host/path or host:port")
    path = parts.path or "/"
    return Destination(parts.scheme, _as_sent(parts.netloc), f"{path}?{parts.query}" if parts.query else path)


def _as_sent(authority: str) -> str:
    """Return host and port as clients send them: an international name as A-labels."""
    host, colon, port = authority.partition(":")
    try:
        return authority if authority.isascii() else f"{normalize(host)}{colon}{port}"
    except ValueError:
        return authority


def explain_name(
    policy: Policy, client: Client, name: str, qtype: int, addresses: tuple[IPAddress, ...] = ()
) -> Iterator[Stage]:
    """Yield the stages of a DNS question; the answer's only when addresses to assume are given."""
    try:
        query = DnsQuery(client=client, name=normalize(name), qtype=qtype)
    except ValueError as error:
        query = DnsQuery(client=client, name=name, qtype=qtype, flaw=Flaw(Reason.MALFORMED, str(error)))
    decision = policy.decide(query)
    yield Stage("dns query", query, decision)
    if addresses and not decision.denied:
        answer = DnsAnswer(client=client, name=query.name, qtype=qtype, addresses=addresses)
        yield Stage("dns answer", answer, policy.decide(answer))


def explain_destination(
    policy: Policy,
    client: Client,
    destination: Destination,
    *,
    method: str = "GET",
    user_agent: str = "",
    addresses: tuple[IPAddress, ...] = (),
    unproven: Flaw | None = None,
) -> Iterator[Stage]:
    """Yield the stages of a request through the proxy, as far as they would be reached.

    Without addresses to assume, a name is not resolved and nothing is said about the address it may have. `unproven`
    is why the client would be asked who it is before anything else.
    """
    default_port = 443 if destination.scheme == "https" else 80
    try:
        host, port = split_authority(destination.authority, default_port)
    except ValueError as error:
        flaw = Flaw(Reason.MALFORMED, f"host {destination.authority!r}: {error}")
        broken = Tunnel(client=client, host=destination.authority, port=default_port, flaw=flaw)
        yield Stage("tunnel", broken, policy.decide(broken))
        return
    if not isinstance(host, str):
        addresses = (host,)
    headers = (("user-agent", user_agent),) if user_agent else ()
    hello: TlsHello | None = None
    origin: Tunnel | TlsHello | HttpRequest
    if destination.scheme == "https":
        tunnel = Tunnel(client=client, host=host, port=port, user_agent=user_agent, flaw=unproven)
        decision = policy.decide(tunnel)
        yield Stage("tunnel", tunnel, decision)
        if decision.denied:
            return
        hello = TlsHello(tunnel=tunnel, server_names=(host,) if isinstance(host, str) else ())
        decision = policy.decide(hello)
        yield Stage("tls hello", hello, decision)
        if decision.denied:
            return
        origin = hello
    if hello is None or decision.tls is Tls.INSPECT:
        origin = HttpRequest(
            client=client,
            host=host,
            port=port,
            scheme=destination.scheme,
            method=method,
            path=destination.path,
            authorities=(destination.authority,),
            headers=headers,
            user_agent=user_agent,
            hello=hello,
            flaw=unproven,
        )
        decision = policy.decide(origin)
        yield Stage("http request", origin, decision)
        if decision.denied:
            return
    for address in addresses:
        dial = Dial(origin=origin, address=address)
        yield Stage(f"dial {address}", dial, policy.decide(dial))


def summary(decision: Decision) -> str:
    """Return one phrase on what a decision means for the traffic, for people."""
    if decision.reason is Reason.PENDING or decision.pending:
        waiting = [_WAITING[fact] for fact in decision.pending]
        return f"goes on; still to be seen: {', '.join(waiting)}"
    if decision.verdict == "deny":
        return decision.detail or ("" if decision.enforced else "would be denied; report mode lets it pass")
    return decision.detail


def terms(decision: Decision) -> Iterator[str]:
    """Yield what an allowed flow still has to hold to."""
    if decision.budget is not None:
        yield f"uploads up to {render_size(decision.budget.octets)} in {render_duration(decision.budget.seconds)}"
    if decision.max_response is not None:
        yield f"answers up to {render_size(decision.max_response)}"
    if decision.pins:
        keys = "the pinned key" if len(decision.pins) == 1 else f"one of {len(decision.pins)} pinned keys"
        yield f"the origin has to prove {keys}"


_WAITING = {
    Fact.ADDRESS: "the address behind the name",
    Fact.TOOL: "the tool (TLS fingerprint)",
    Fact.HTTP: "the request inside TLS",
    Fact.RESPONSE: "the answer",
}
