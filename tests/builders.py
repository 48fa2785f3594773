"""Values for tests, with defaults that a test overrides in one place.

Addresses may be given as text. A request made with nothing else is one that nobody would object to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from gateway.addresses import IPAddress, IPNetwork
from gateway.decision import Point, Verdict
from gateway.domainset import Lists
from gateway.policy import Policy
from gateway.request import Client, Dial, DnsAnswer, DnsQuery, Host, HttpRequest, HttpResponse, TlsHello, Tunnel
from gateway.rule import ClientGroup, Rule

A, TXT, AAAA = 1, 16, 28

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"


def an_address(value: str | IPAddress) -> IPAddress:
    """Return an address."""
    return ip_address(value) if isinstance(value, str) else value


def networks(*texts: str) -> tuple[IPNetwork, ...]:
    """Return networks."""
    return tuple(ip_network(text) for text in texts)


def a_client(
    address: str | IPAddress = "10.1.0.5", user: str | None = None, certificate: str | None = None
) -> Client:
    """Return a client."""
    return Client(address=an_address(address), user=user, certificate=certificate)


def a_query(name: str = "www.example.com", qtype: int = A, **changes: Any) -> DnsQuery:
    """Return a question to the resolver."""
    return DnsQuery(client=a_client(), name=name, qtype=qtype)._replace(**changes)


def an_answer(name: str = "www.example.com", *addresses: str, **changes: Any) -> DnsAnswer:
    """Return an answer of the resolver."""
    found = tuple(an_address(address) for address in addresses)
    return replace(DnsAnswer(client=a_client(), name=name, qtype=A, addresses=found), **changes)


def a_tunnel(host: Host = "www.example.com", port: int = 443, **changes: Any) -> Tunnel:
    """Return a CONNECT request."""
    return replace(Tunnel(client=a_client(), host=host, port=port), **changes)


def a_hello(
    host: Host = "www.example.com", port: int = 443, *, tunnel: Tunnel | None = None, **changes: Any
) -> TlsHello:
    """Return a ClientHello that names the host of its tunnel."""
    tunnel = tunnel or a_tunnel(host, port)
    names = (tunnel.host,) if isinstance(tunnel.host, str) else ()
    return replace(TlsHello(tunnel=tunnel, server_names=names, alpn=("h2", "http/1.1")), **changes)


def a_request(
    host: Host = "www.example.com",
    path: str = "/",
    *,
    method: str = "GET",
    scheme: str = "http",
    port: int | None = None,
    user_agent: str = "",
    headers: Iterable[tuple[str, str]] = (),
    **changes: Any,
) -> HttpRequest:
    """Return an HTTP request whose Host field says where it goes; of scheme https, it is in an inspected tunnel."""
    default = 443 if scheme == "https" else 80
    port = port or default
    named = host if isinstance(host, str) else f"[{host}]" if host.version == 6 else str(host)
    fields = tuple(headers)
    request = HttpRequest(
        client=a_client(),
        host=host,
        port=port,
        scheme=scheme,
        method=method,
        path=path,
        authorities=(named if port == default else f"{named}:{port}",),
        headers=(*fields, ("user-agent", user_agent)) if user_agent else fields,
        user_agent=user_agent,
        hello=a_hello(host, port) if scheme == "https" else None,
    )
    return replace(request, **changes)


def a_dial(
    address: str | IPAddress = "93.184.215.14", origin: Tunnel | TlsHello | HttpRequest | None = None, **changes: Any
) -> Dial:
    """Return a connection about to be made, of a spliced tunnel if nothing else is said."""
    return replace(Dial(origin=origin or a_hello(), address=an_address(address)), **changes)


def a_response(origin: HttpRequest | None = None, **changes: Any) -> HttpResponse:
    """Return an answer whose first octets were not looked at."""
    return replace(HttpResponse(dial=a_dial(origin=origin or a_request())), **changes)


def a_rule(action: Verdict = Verdict.ALLOW, **conditions: Any) -> Rule:
    """Return a rule; without conditions it matches everything."""
    return Rule(**{"name": f"{action}-rule", "action": action, **conditions})


def allow(**conditions: Any) -> Rule:
    """Return an allow rule."""
    return a_rule(Verdict.ALLOW, **conditions)


def deny(**conditions: Any) -> Rule:
    """Return a deny rule."""
    return a_rule(Verdict.DENY, **conditions)


def a_policy(
    *rules: Rule,
    default: Verdict | Mapping[Point, Verdict] = Verdict.DENY,
    clients: Iterable[ClientGroup] = (),
    report: bool = False,
    lists: Lists | None = None,
) -> Policy:
    """Return a policy with one default for all enforcement points."""
    defaults = dict.fromkeys(Point, default) if isinstance(default, Verdict) else default
    return Policy(rules=rules, clients=clients, default=defaults, report=report, lists=lists)
