"""What the resolver's tests share: a judge over a real policy that remembers what it recorded, and a clock to set."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from dnslib import EDNS0, QTYPE, DNSRecord

from gateway.addresses import IPAddress
from gateway.decision import Decision, Match, Point, Reason, Verdict
from gateway.dns.settings import Endpoint, Settings, Timing
from gateway.domainset import DomainMap, ListInfo, NoLists
from gateway.ledger import Repeats
from gateway.policy import Policy
from gateway.request import Client, DnsQuery, Request
from gateway.rule import ClientGroup, Rule

PATIENT = Timing(attempt=0.25, total=1.5)
WEB = "10.1.0.7"
BATCH = "10.2.0.7"


class OneList(NoLists):
    """A list of names under the category `malware`."""

    lists = (ListInfo("threats", "v1", ("malware",)),)

    def __init__(self, patterns: Iterable[str]) -> None:
        self._map = DomainMap()
        for pattern in patterns:
            self._map.add(pattern, 1)

    def lookup_name(self, name: str) -> tuple[int, int]:
        """Look the name up."""
        return self._map.lookup(name), 0

    def match_name(self, name: str, mask: int) -> Match | None:
        """Return the evidence."""
        return Match("threats", "v1", 1, name, ("malware",)) if self._map.lookup(name) & mask else None


def a_policy(*rules: Rule, listed: Iterable[str] = ("bad.example", "*.bad.example"), **more: Any) -> Policy:
    """Return a policy that denies what is listed and allows the rest."""
    threats = Rule(name="threats", action=Verdict.DENY, categories=("malware",))
    groups = (
        ClientGroup(name="web", addresses=(ip_network("10.1.0.0/16"),)),
        ClientGroup(name="batch", addresses=(ip_network("10.2.0.0/16"),)),
    )
    settings: dict[str, Any] = {"default": {Point.DNS: Verdict.ALLOW}, "clients": groups, **more}
    return Policy(rules=(*rules, threats), lists=OneList(listed), **settings)


@dataclass(slots=True, kw_only=True)
class _Repeats(Repeats):
    """Counts repeats, and has each remembered too."""

    seen: Callable[[], None]

    def again(self, now: float) -> None:
        """Count one more."""
        Repeats.again(self, now)
        self.seen()


@dataclass
class PolicyJudge:
    """Judges by a policy and keeps what was recorded."""

    policy: Policy
    settings: Settings
    records: list[tuple[Request, Decision]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    repeats: dict[DnsQuery, tuple[Policy, Repeats]] = field(default_factory=dict)

    @property
    def generation(self) -> object:
        """The policy itself."""
        return self.policy

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Decide as the runtime does."""
        self.asked.append(request)
        decision = self.policy.decide(request)
        if decision.denied or not decision.enforced or decision.reported:
            return decision, self.record(request, decision)
        return decision, ""

    def judge_query(self, request: DnsQuery) -> tuple[Decision, Repeats]:
        """Decide as the runtime does."""
        if (known := self.repeats.get(request)) is not None and known[1].open and known[0] is self.policy:
            self.asked.append(request)
            known[1].again(0.0)
            return self.policy.decide(request), known[1]
        decision, ident = self.judge(request)
        if not ident:
            return decision, Repeats("", {}, 0.0, open=False)
        repeats = _Repeats(ident, {}, 0.0, seen=lambda: self.records.append((request, decision)))
        self.repeats[request] = self.policy, repeats
        return decision, repeats

    def passes(self, client: Client, name: str, qtype: int, addresses: tuple[IPAddress, ...]) -> bool:
        """Look at what the policy knows."""
        return self.policy.passes(client, name, qtype, addresses)

    def record(self, request: Request, decision: Decision) -> str:
        """Record."""
        self.records.append((request, decision))
        return f"r{len(self.records)}"

    def groups(self, client: Client) -> tuple[str, ...]:
        """Return the groups."""
        return self.policy.groups_of(client, Point.DNS)

    def view(self, client: Client) -> Hashable:
        """Return the groups."""
        return self.policy.groups_of(client, Point.DNS)

    @property
    def reasons(self) -> list[Reason]:
        """The reasons recorded, in order."""
        return [decision.reason for _, decision in self.records]


def a_judge(*upstreams: Endpoint, policy: Policy | None = None, **settings: Any) -> PolicyJudge:
    """Return a judge with upstreams and short time-outs."""
    return PolicyJudge(policy or a_policy(), Settings(upstreams=upstreams, **{"timing": PATIENT, **settings}))


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def ask(name: str, qtype: str = "A", *, edns: bool = True, ident: int = 7, **more: Any) -> bytes:
    """Return the octets of a query. `do`, `size` and `options` are about EDNS."""
    query = DNSRecord.question(name, qtype)
    query.header.id = ident
    if edns:
        options: Mapping[str, Any] = {"flags": "do" if more.get("do") else "", "udp_len": more.get("size", 1232)}
        query.add_ar(EDNS0(**options, opts=more.get("options", [])))
    return bytes(query.pack())


def parse(data: object) -> Any:
    """Return an answer as dnslib reads it."""
    assert isinstance(data, bytes)
    return DNSRecord.parse(data)


def addresses(data: object) -> list[str]:
    """Return the addresses in an answer."""
    return [str(record.rdata) for record in parse(data).rr if record.rtype in (QTYPE.A, QTYPE.AAAA)]


def ede(data: object) -> tuple[int, str] | None:
    """Return the extended error of an answer."""
    for record in parse(data).ar:
        for option in record.rdata if record.rtype == QTYPE.OPT else ():
            if option.code == 15:
                return int.from_bytes(option.data[:2], "big"), option.data[2:].decode()
    return None


def client(address: str = WEB) -> Client:
    """Return a client."""
    return Client(address=ip_address(address))
