"""Where hostile messages are sent in tests and in the benchmark: whole paths, from the packet to the reply, with a
policy that has something to look at.
"""

from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address

from gateway.decision import Decision, Point, Verdict
from gateway.dns.bailiwick import Limits, Trust, select
from gateway.dns.message import render
from gateway.dns.outbound import padded
from gateway.dns.replies import Miss
from gateway.dns.resolver import Resolver
from gateway.dns.wire import Query, WireError, name_text, read_response
from gateway.ledger import Ledger
from gateway.policy import Policy
from gateway.request import Client, DnsAnswer, Request
from gateway.rule import Rule
from tests.builders import networks
from tests.gateway.dns.bombs import Bomb
from tests.gateway.dns.support import WEB, PolicyJudge, a_judge
from tests.snapshots import snapshot_of

_CLIENT = Client(address=ip_address(WEB))


@cache
def full_policy() -> Policy:
    """Return a policy that uses every condition the resolver knows, over lists of names and of addresses."""
    deny = Verdict.DENY
    rules = (
        Rule(name="trial", action=deny, categories=("c2",), report=True),
        Rule(name="nets", action=deny, addresses=networks("203.0.113.0/24", "2001:db8:1::/48")),
        Rule(name="names", action=deny, domains=("*.denied.example", "denied.example")),
        Rule(name="registered", action=deny, registered_domains=("denied.test",)),
        Rule(name="types", action=deny, qtypes=(10,)),
        Rule(name="threats", action=deny, categories=("malware", "c2")),
        Rule(name="good", action=Verdict.ALLOW, domains=("*.example.com",), addresses=networks("0.0.0.0/0", "::/0")),
    )
    lists = snapshot_of(
        {
            "names": (("malware",), [".bad.example", *(f"*.{number}.bad.test" for number in range(2000))]),
            "addresses": (
                ("c2",),
                ["45.0.0.0/8", *(f"198.51.{number // 256}.{number % 256}" for number in range(0, 40000, 3))],
            ),
        }
    )
    return Policy(rules=rules, lists=lists, default={Point.DNS: Verdict.ALLOW})


@dataclass
class LedgerJudge(PolicyJudge):
    """A judge that records in a real ledger, if it has one, and remembers nothing."""

    ledger: Ledger | None = None

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Decide as the runtime does."""
        decision = self.policy.decide(request)
        if decision.denied or not decision.enforced or decision.reported:
            return decision, self.record(request, decision)
        return decision, ""

    def record(self, request: Request, decision: Decision) -> str:
        """Record."""
        return self.ledger.record(request, decision) if self.ledger is not None else "r1"


def a_ledger_judge(ledger: Ledger | None = None) -> LedgerJudge:
    """Return a judge by `full_policy`."""
    return LedgerJudge(full_policy(), a_judge().settings, ledger=ledger)


def told_by_upstream(bomb: Bomb, judge: PolicyJudge) -> str:
    """Take a response the whole way to a client that asked over TLS. Returns what came of it."""
    try:
        response = read_response(bomb.packet)
        answer = select(response, bomb.name, bomb.qtype, Limits(), Trust(strip_ech=True))
    except WireError as error:
        return f"refused: {error}"
    name = name_text(bomb.name)
    request = DnsAnswer(client=_CLIENT, name=name, qtype=bomb.qtype, chain=answer.chain, addresses=answer.addresses)
    decision, _ = judge.judge(request)
    query = Query(1, 0x0100, name, bomb.packet[12 : 12 + len(bomb.name) + 4], bomb.qtype, 1, None)
    reply = padded(render(query, answer, age=1))
    return f"{decision.verdict.value} {decision.reason.value}, {len(reply)} octets"


def asked_by_client(packet: bytes, resolver: Resolver) -> str:
    """Have a packet answered as over TCP. Returns what came of it."""
    reply = resolver.answer_now(WEB, packet, stream=True)
    if reply is None:
        return "silence"
    return "asks an upstream" if isinstance(reply, Miss) else f"rcode {reply[3] & 0xF}, {len(reply)} octets"
