"""Requests and decisions for the tests of the ledger: a few plain ones, and strategies for every hostile one."""

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import strategies as st

from gateway.decision import Decision, Match, Reason, Tls, Verdict
from gateway.ledger import Outcome
from gateway.request import Client, Dial, DnsAnswer, DnsQuery, Flaw, HttpRequest, Request, TlsHello, Tunnel

CLIENT = Client(address=ip_address("10.2.0.7"))
DENIED = Decision(
    Verdict.DENY,
    Reason.LISTED,
    rule="threat-feeds",
    detail="evil.example is on the list urlhaus",
    matched=Match("urlhaus", "5f2c9a", 120, "evil.example", ("malware",)),
    technique=("T1105",),
)
ALLOWED = Decision(Verdict.ALLOW, Reason.RULE, rule="mirrors", tls=Tls.SPLICE)
TUNNEL = Tunnel(client=CLIENT, host="deb.example", port=443, user_agent="curl/8.5.0")
HELLO = TlsHello(tunnel=TUNNEL, server_names=("deb.example",), alpn=("h2",), ja4="t13d", tool="curl")
HTTP = HttpRequest(
    client=CLIENT,
    host="deb.example",
    port=443,
    scheme="https",
    method="POST",
    path="/a/b?token=s3cret&page=2",
    authorities=("deb.example",),
    headers=(("authorization", "Bearer s3cret"), ("cookie", "s3cret")),
    user_agent="python-requests/2",
    hello=HELLO,
)


def query(name: str = "evil.example", *, client: Client = CLIENT, qtype: int = 1) -> DnsQuery:
    """Return a query."""
    return DnsQuery(client=client, name=name, qtype=qtype)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


hostile = (
    st.text(max_size=60) | st.text(st.characters(), max_size=20).map(lambda text: text * 300) | st.just("\x1b[2J")
)
hostile = hostile | st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), max_size=20)
addresses = st.ip_addresses(v=4).map(IPv4Address) | st.ip_addresses(v=6).map(IPv6Address)
clients = st.builds(Client, address=addresses, user=st.none() | hostile, certificate=st.none() | hostile)
several = st.lists(hostile, max_size=4).map(tuple)
flaws = st.none() | st.builds(Flaw, reason=st.sampled_from(Reason), detail=hostile)
ports = st.integers(0, 65535)
tunnels = st.builds(Tunnel, client=clients, host=hostile | addresses, port=ports, user_agent=hostile, flaw=flaws)
hellos = st.builds(
    TlsHello,
    tunnel=tunnels,
    server_names=several,
    alpn=several,
    ech=st.booleans(),
    ja4=hostile,
    tool=hostile,
    flaw=flaws,
)
https = st.builds(
    HttpRequest,
    client=clients,
    host=hostile | addresses,
    port=ports,
    scheme=hostile,
    method=hostile,
    path=hostile,
    authorities=several,
    headers=st.lists(st.tuples(hostile, hostile), max_size=3).map(tuple),
    user_agent=hostile,
    body_length=st.none() | st.integers(0),
    hello=st.none() | hellos,
    flaw=flaws,
)
many_addresses = st.lists(addresses, max_size=40).map(tuple)
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(DnsQuery, client=clients, name=hostile, qtype=ports, flaw=flaws),
    st.builds(
        DnsAnswer,
        client=clients,
        name=hostile,
        qtype=ports,
        chain=several,
        addresses=many_addresses,
        trusted=st.booleans(),
    ),
    tunnels,
    hellos,
    https,
    st.builds(Dial, origin=tunnels | hellos | https, address=addresses, chain=several),
)
matches = st.builds(Match, list=hostile, version=hostile, line=st.integers(0), entry=hostile, categories=several)
plain_decisions = st.builds(
    Decision,
    verdict=st.sampled_from(Verdict),
    reason=st.sampled_from(Reason),
    rule=hostile,
    detail=hostile,
    enforced=st.booleans(),
    tls=st.none() | st.sampled_from(Tls),
    matched=st.none() | matches,
    technique=several,
)
decisions = st.builds(
    lambda decision, reported: Decision(
        decision.verdict,
        decision.reason,
        rule=decision.rule,
        detail=decision.detail,
        enforced=decision.enforced,
        matched=decision.matched,
        reported=tuple(reported),
    ),
    plain_decisions,
    st.lists(plain_decisions, max_size=2),
)
outcomes = st.builds(
    Outcome,
    octets_out=st.integers(0),
    octets_in=st.integers(0),
    seconds=st.floats(),
    address=st.none() | addresses,
    status=st.none() | st.integers(100, 599),
    error=hostile,
)
