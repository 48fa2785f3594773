"""Policies and requests at random, from a universe so small that rules and requests meet often."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from gateway.addresses import AddressClass
from gateway.decision import Point, Reason, Tls, Verdict
from gateway.request import Client, Dial, DnsAnswer, DnsQuery, Flaw, Host, HttpRequest, Request, TlsHello, Tunnel
from gateway.rule import ClientGroup, HttpConditions, Rule
from tests.builders import CHROME, an_address, networks

PLAIN_NAMES = (
    "example.com",
    "www.example.com",
    "a.b.example.com",
    "evil.test",
    "sub.evil.test",
    "me.github.io",
)
NAMES = (
    *PLAIN_NAMES,
    "10-0-0-1.nip.io",
    "169-254-169-254.nip.io",
    "8-8-8-8.nip.io",
    "localhost",
)
ADDRESSES = tuple(
    an_address(text)
    for text in (
        "8.8.8.8",
        "93.184.215.14",
        "10.0.0.1",
        "10.9.9.9",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.1.1",
        "::1",
        "2606:4700::1111",
        "::ffff:10.0.0.1",
    )
)
GLOBAL_ADDRESSES = tuple(address for address in ADDRESSES if address.is_global and address.version == 4)
LISTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bad": (("malware",), ("evil.test", "*.evil.test", "8.8.8.8", "www.example.com/bad")),
    "worse": (("malware", "c2"), (".example.com", "@@www.example.com", "2606:4700::/32", "8.8.8.8/bad")),
    "good": (("trusted",), ("www.example.com", "93.184.215.0/24", "8.8.8.8", "me.github.io/")),
}
GROUPS = (
    ClientGroup(name="web", addresses=networks("10.1.0.0/16")),
    ClientGroup(name="batch", addresses=networks("10.2.0.0/16"), users=frozenset(["batch"])),
    ClientGroup(name="staff", users=frozenset(["anna"]), certificates=frozenset(["CN=anna", "DNS:anna.test"])),
)
AGENTS = ("", "curl/8.5.0", "CURL/8", "curl/8 Wget/1", "Wget/1.24", CHROME, "Foo/1")
PATHS = ("/", "/bad", "/bad/x?y=1", "/public/a", "/public/..%2Fadmin", "/public/..;/bad", "//bad", "/%62ad", "/a/b/c")

verdicts = st.sampled_from(Verdict)
# What flaws and built-in protections stop tells little about the rules, so most requests are such as pass them.
# Hypothesis prefers both ends of a sequence: what is odd stands in the middle.
names = st.sampled_from(PLAIN_NAMES * 2 + NAMES + PLAIN_NAMES)
addresses = st.sampled_from(GLOBAL_ADDRESSES * 2 + ADDRESSES + GLOBAL_ADDRESSES * 2)
hosts: st.SearchStrategy[Host] = st.one_of(names, names, addresses, names, names)
ports = st.sampled_from((443, 443, 22, 80, 8443, 443))
agents = st.sampled_from(AGENTS)


def some[T](*values: T) -> st.SearchStrategy[tuple[T, ...]]:
    """Return a strategy for one to three of some values."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(tuple)


_http_fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "methods": some("GET", "POST").map(frozenset),
        "paths": some("/public/**", "/bad*", "/*/b/*", "**"),
        "user_agents": some("curl*", "*Gecko*", "*"),
        "headers": some(("x-team", "a*"), ("x-team", "*")),
        "content_types": some("application/*", "text/plain"),
        "max_body": st.sampled_from((0, 100)),
    },
)
http_conditions = _http_fields.map(lambda conditions: HttpConditions(**conditions))

CONDITIONS: tuple[st.SearchStrategy[dict[str, Any]], ...] = (
    st.fixed_dictionaries({"clients": some("web", "batch", "staff")}),
    st.fixed_dictionaries({"domains": some("example.com", "*.example.com", ".evil.test", ".nip.io", "localhost")}),
    st.fixed_dictionaries({"registered_domains": some("example.com", "me.github.io", "evil.test")}),
    st.fixed_dictionaries(
        {
            "addresses": st.lists(
                st.sampled_from(
                    networks(
                        *("0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.1/32", "8.8.8.0/24", "127.0.0.0/8"),
                        *("169.254.0.0/16", "169.254.169.254/32", "100.64.0.0/10", "::1/128", "2606:4700::/32"),
                    )
                ),
                min_size=1,
                max_size=3,
                unique=True,
            ).map(tuple)
        }
    ),
    st.fixed_dictionaries({"address_classes": some(*AddressClass)}),
    st.fixed_dictionaries({"ports": some((443, 443), (22, 22), (8000, 9000), (1, 65535))}),
    st.fixed_dictionaries({"categories": some("malware", "c2", "trusted")}),
    st.fixed_dictionaries({"lists": some("bad", "worse", "good")}),
    st.fixed_dictionaries({"tools": some("curl", "wget", "browser")}),
    st.fixed_dictionaries({"qtypes": some(1, 16, 28)}),
    st.fixed_dictionaries({"http": http_conditions}),
    st.fixed_dictionaries({"via": some(*Point).map(frozenset)}),
)


@st.composite
def rules(draw: st.DrawFn, name: str = "rule") -> Rule:
    """Return a rule with up to three conditions."""
    action = draw(verdicts)
    merged: dict[str, Any] = {"name": name, "action": action}
    for condition in draw(st.lists(st.sampled_from(CONDITIONS), max_size=3)):
        merged |= draw(condition)
    if action is Verdict.DENY:
        merged["report"] = draw(st.sampled_from((False, False, True)))
    else:
        merged["tls"] = draw(st.sampled_from((None, None, *Tls)))
    return Rule(**merged)


@st.composite
def rule_lists(draw: st.DrawFn) -> tuple[Rule, ...]:
    """Return some rules with different names."""
    count = draw(st.integers(0, 6))
    return tuple(draw(rules(name=f"r{position}")) for position in range(count))


defaults = st.fixed_dictionaries(dict.fromkeys(Point, verdicts))

clients = st.builds(
    Client,
    address=st.sampled_from([an_address(text) for text in ("10.1.0.5", "10.2.0.5", "192.168.7.7", "2001:db8::5")]),
    user=st.sampled_from((None, "batch", "anna")),
    certificate=st.sampled_from((None, "CN=anna", "CN=other")),
    names=st.sampled_from(((), ("DNS:other.test", "DNS:anna.test"))),
)
flaws = st.sampled_from((None,) * 10 + (Flaw(Reason.NOT_TLS, "x"), Flaw(Reason.MALFORMED, "x")) + (None,) * 10)
chains = st.lists(names, max_size=2).map(tuple)
qtypes = st.sampled_from((1, 28, 16, 65, 255))

queries = st.builds(DnsQuery, client=clients, name=names, qtype=qtypes, flaw=flaws)
answers = st.builds(
    DnsAnswer,
    client=clients,
    name=names,
    qtype=qtypes,
    chain=chains,
    addresses=st.lists(addresses, max_size=3).map(tuple),
    trusted=st.sampled_from((False, True, False)),
)
tunnels = st.builds(Tunnel, client=clients, host=hosts, port=ports, user_agent=agents, flaw=flaws)


@st.composite
def hellos(draw: st.DrawFn) -> TlsHello:
    """Return a ClientHello that mostly agrees with its tunnel."""
    tunnel = draw(tunnels)
    right = (tunnel.host,) if isinstance(tunnel.host, str) else ()
    names = draw(st.sampled_from((right,) * 5 + ((), ("evil.test",), ("WWW.example.com.",)) + (right,) * 5))
    ech = draw(st.sampled_from((False, False, True, False)))
    tool = draw(st.sampled_from(("", "", "curl", "go", "browser")))
    return TlsHello(tunnel=tunnel, server_names=names, ech=ech, tool=tool, flaw=draw(flaws))


@st.composite
def http_requests(draw: st.DrawFn) -> HttpRequest:
    """Return a request that mostly agrees with its tunnel, if it is in one."""
    hello = draw(st.none() | hellos())
    host, port = (hello.host, hello.port) if hello is not None else (draw(hosts), draw(ports))
    named = host if isinstance(host, str) else f"[{host}]" if host.version == 6 else str(host)
    right = (f"{named}:{port}",)
    user_agent = draw(agents)
    fields = draw(
        st.lists(
            st.sampled_from(
                (
                    ("x-team", "alpha"),
                    ("x-team", "beta"),
                    ("content-type", "application/json; charset=utf-8"),
                    ("content-type", "text/plain"),
                    ("user-agent", "curl/8.5.0"),
                )
            ),
            max_size=3,
        )
    )
    if user_agent:
        fields.append(("user-agent", user_agent))
    return HttpRequest(
        client=hello.client if hello is not None else draw(clients),
        host=host,
        port=port,
        scheme="http" if hello is None else "https",
        method=draw(st.sampled_from(("GET", "POST", "CONNECT", "post", "POST", "GET"))),
        path=draw(st.sampled_from(PATHS)),
        authorities=draw(st.sampled_from((right,) * 5 + ((), ("evil.test",)) + (right,) * 5)),
        headers=tuple(fields),
        user_agent=user_agent,
        body_length=draw(st.sampled_from((0, 50, 1000, None))),
        hello=hello,
        flaw=draw(flaws),
    )


@st.composite
def dials(draw: st.DrawFn) -> Dial:
    """Return a connection about to be made for a request of any kind."""
    origin = draw(st.one_of(tunnels, hellos(), http_requests()))
    address = origin.host if not isinstance(origin.host, str) and draw(st.sampled_from((True, False, True))) else None
    return Dial(origin=origin, address=address or draw(addresses), chain=draw(chains))


requests: st.SearchStrategy[Request] = st.one_of(queries, answers, tunnels, hellos(), http_requests(), dials())
