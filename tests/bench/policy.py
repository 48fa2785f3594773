"""What a decision costs: CPU microseconds of `Policy.decide`, stage by stage.

Run `python -m tests.bench.policy`. Two policies: the usual few rules, and a thousand rules over three lists of a
million entries each (`--entries` for fewer). Requests are made beforehand and differ from one another, so that no
cache is flattered, and there are three kinds of host: what a rule allows, what a list holds, and neither.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, ip_network

from gateway.decision import Point, Verdict
from gateway.domainset import Lists, NoLists
from gateway.feeds.entry import Entry, NameEntry, RangeEntry, Scope
from gateway.feeds.snapshot import Snapshot
from gateway.feeds.writer import SourceList, build
from gateway.policy import Policy
from gateway.request import Client, Dial, DnsAnswer, DnsQuery, HttpRequest, Request, TlsHello, Tunnel
from gateway.rule import ClientGroup, HttpConditions, Rule

DISTINCT = 5_000
"""Different requests of each stage."""
ROUNDS = 7

GROUPS = (
    ClientGroup(name="web", addresses=(ip_network("10.1.0.0/16"),)),
    ClientGroup(name="batch", addresses=(ip_network("10.2.0.0/16"),)),
)
FEW = (
    Rule(name="listed", action=Verdict.DENY, categories=("malware", "c2")),
    Rule(
        name="mirrors", action=Verdict.ALLOW, domains=("deb.debian.org", "*.ubuntu.com"), ports=((80, 80), (443, 443))
    ),
    Rule(
        name="github",
        action=Verdict.ALLOW,
        clients=("batch",),
        domains=("api.github.com",),
        http=HttpConditions(methods=frozenset(["GET"]), paths=("/repos/acme/**",)),
    ),
    Rule(name="partners", action=Verdict.ALLOW, clients=("web",), registered_domains=("example.com",)),
    Rule(name="no-downloaders", action=Verdict.DENY, tools=("curl", "wget")),
)


def a_thousand() -> tuple[Rule, ...]:
    """Return a thousand rules of every kind."""
    rules = list(FEW)
    for n in range(1000 - len(rules)):
        kind = n % 5
        conditions = {
            0: {"domains": (f"host{n}.corp.test", f"*.zone{n}.test")},
            1: {"addresses": (ip_network(f"{20 + n % 100}.{n % 250}.0.0/16"),)},
            2: {"domains": (f"api{n}.test",), "ports": ((8000 + n, 8000 + n),), "clients": ("batch",)},
            3: {"registered_domains": (f"domain{n}.com",)},
            4: {"domains": (f".tools{n}.test",), "tools": ("curl",)},
        }[kind]
        action = Verdict.DENY if n % 3 == 0 else Verdict.ALLOW
        rules.append(Rule(name=f"r{n}", action=action, **conditions))  # type: ignore[arg-type]  # of many kinds
    return tuple(rules)


def a_snapshot(entries: int) -> Snapshot:
    """Return three lists, most of their entries names, one in a hundred a network."""

    def entry(feed: int, line: int) -> Entry:
        if line % 100 == 0:
            first = (23 << 24) + (feed << 22) + line * 16
            return RangeEntry(line, first, first + 15, 4)
        return NameEntry(line, f"x{line}.listed{line % 977}-{feed}.test", Scope.TREE)

    sources = [
        SourceList(name, f"{feed:012x}", (name,), (entry(feed, line) for line in range(1, entries + 1)))
        for feed, name in enumerate(("malware", "phishing", "c2"))
    ]
    return Snapshot.from_bytes(build(sources, bytes(range(16)), 0.0))


HOSTS: dict[str, Callable[[int], str]] = {
    "allowed": lambda n: f"a{n}.ubuntu.com" if n % 2 else f"www{n}.other{n}.ubuntu.com",
    "listed": lambda n: f"x{n + 1}.listed{(n + 1) % 977}-0.test",
    "neither": lambda n: f"cdn{n}.assets.site{n}.net",
}
"""Hosts by what becomes of them: a rule allows them, a list has them, or the default decides."""


def stages(host: Callable[[int], str]) -> dict[str, list[Request]]:
    """Return requests of each stage."""
    found: dict[str, list[Request]] = {name: [] for name in ("dns", "answer", "tunnel", "hello", "http", "dial")}
    for n in range(DISTINCT):
        client = Client(address=IPv4Address(f"10.{1 + n % 2}.{n % 50}.{n % 200}"))
        name = host(n)
        address = IPv4Address(f"93.{n % 250}.{n // 250}.14")
        tunnel = Tunnel(client=client, host=name, port=443, user_agent="")
        hello = TlsHello(
            tunnel=tunnel, server_names=(name,), alpn=("h2",), ja4="t13d1516h2_8daaf6152771_02713d6af862"
        )
        found["dns"].append(DnsQuery(client=client, name=name, qtype=1))
        found["answer"].append(DnsAnswer(client=client, name=name, qtype=1, addresses=(address,)))
        found["tunnel"].append(tunnel)
        found["hello"].append(hello)
        found["http"].append(
            HttpRequest(
                client=client,
                host=name,
                port=443,
                scheme="https",
                method="GET",
                path=f"/assets/{n}.js",
                authorities=(name,),
                headers=(("accept", "*/*"), ("user-agent", "agent/1"), ("accept-encoding", "gzip")),
                user_agent="agent/1",
                hello=hello,
            )
        )
        found["dial"].append(Dial(origin=hello, address=address))
    return found


def cost(decide: Callable[[Request], object], requests: Sequence[Request]) -> float:
    """Return the CPU microseconds of one decision: the best of some rounds, as neighbours only ever add."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for request in requests:
            decide(request)
        rounds.append((time.process_time() - began) / len(requests) * 1e6)
    return min(rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of each of the three lists")
    entries = parser.parse_args().entries
    default = {Point.DNS: Verdict.ALLOW, Point.PROXY: Verdict.DENY}
    snapshot = a_snapshot(entries)
    policies: list[tuple[str, tuple[Rule, ...], Lists]] = [
        ("5 rules", FEW[1:], NoLists()),
        (f"5 rules, 3 x {entries:,} entries", FEW, snapshot),
        (f"1,000 rules, 3 x {entries:,} entries", a_thousand(), snapshot),
    ]
    print("CPU microseconds per decision; goals for what is allowed: 5 with few rules, 20 with a thousand and lists")
    asked = {outcome: stages(host) for outcome, host in HOSTS.items()}
    print(f"{'':36}{'':9}" + "".join(f"{stage:>8}" for stage in asked["allowed"]))
    for name, rules, lists in policies:
        policy = Policy(rules=rules, clients=GROUPS, default=default, lists=lists)
        for outcome, requests in asked.items():
            found = [cost(policy.decide, of_stage) for of_stage in requests.values()]
            print(f"{name:36}{outcome:9}" + "".join(f"{value:8.2f}" for value in found))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, with building the lists")


if __name__ == "__main__":
    main()
