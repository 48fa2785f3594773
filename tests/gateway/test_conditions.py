"""Conditions: which rules hold for what a stage knows. How they make a decision is in test_policy.py."""

import pytest

from gateway.conditions import Barrier, Conditions, Facts, tightest
from gateway.decision import Point, Reason, Verdict
from gateway.rule import HttpConditions, Rule
from gateway.ruleindex import RuleIndex
from tests.builders import a_client, a_request, an_address, networks
from tests.snapshots import snapshot_of

ALLOW, DENY = Verdict.ALLOW, Verdict.DENY
SNAPSHOT = snapshot_of({"bad": (["malware"], [".bad.example", "shared.example/evil", "192.0.2.0/24"])})


def evaluated(rule: Rule, **known: object) -> str:
    """Return how one rule stands: `true`, `false`, or the facts that it waits for."""
    index = RuleIndex((rule,), (), SNAPSHOT.lists)
    facts = Facts(Point.PROXY, a_client())
    for name, value in known.items():
        setattr(facts, name, value)
    words = set()
    for _, true, address, tool, http in Conditions((rule,), index, SNAPSHOT).evaluate(facts):
        if not true:
            waiting = {"address": address, "tool": tool, "http": http}
            words |= {word for word, mask in waiting.items() if mask} or {"false"}
    return "false" if "false" in words else " ".join(sorted(words)) or "true"


def a_rule(action: Verdict = ALLOW, **conditions: object) -> Rule:
    """Return a rule with some conditions."""
    return Rule(name="r", action=action, **conditions)  # type: ignore[arg-type]  # a table of anything


@pytest.mark.parametrize(
    ("sentence", "rule", "known", "expected"),
    [
        ("a rule without conditions holds", a_rule(), {}, "true"),
        ("a domain rule holds for its name", a_rule(domains=("a.test",)), {"host": "a.test"}, "true"),
        ("a domain rule never holds for an address", a_rule(domains=("a.test",)), {}, "false"),
        ("allow ignores the chain", a_rule(domains=("a.test",)), {"host": "b.test", "chain": ("a.test",)}, "false"),
        ("a deny heeds it", a_rule(DENY, domains=("a.test",)), {"host": "b.test", "chain": ("a.test",)}, "true"),
        ("an address is waited for", a_rule(addresses=networks("10.0.0.0/8")), {"host": "a.test"}, "address"),
        ("a listed name needs no address", a_rule(DENY, lists=("bad",)), {"host": "x.bad.example"}, "true"),
        ("an unlisted name may have one", a_rule(DENY, lists=("bad",)), {"host": "good.example"}, "address"),
        ("a host with listed URLs waits for the path", a_rule(DENY, categories=("malware",)),
         {"host": "shared.example", "addresses": (an_address("8.8.8.8"),)}, "http"),
        ("spliced to the end, a deny by URL counts", a_rule(DENY, categories=("malware",)),
         {"host": "shared.example", "addresses": (an_address("8.8.8.8"),), "last": True}, "true"),
        ("a port that is not named", a_rule(ports=((443, 443), (8000, 8100))), {"port": 8101}, "false"),
        ("a port within a range", a_rule(ports=((443, 443), (8000, 8100))), {"port": 8100}, "true"),
        ("a tool is waited for before the ClientHello", a_rule(tools=("curl",)), {}, "tool"),
        ("without evidence after it, no tool", a_rule(tools=("curl",)), {"tools_final": True}, "false"),
        ("a deny needs one witness", a_rule(DENY, tools=("curl",)), {"tools": ("curl", "browser")}, "true"),
        ("an allow needs all", a_rule(tools=("curl",)), {"tools": ("curl", "browser"), "tools_final": True}, "false"),
        ("a request is waited for", a_rule(http=HttpConditions(methods=frozenset({"GET"}))), {}, "http"),
        ("and judged when it is there", a_rule(http=HttpConditions(methods=frozenset({"GET"}))),
         {"host": "www.example.com", "http": a_request()}, "true"),
        ("a spliced flow never shows it: no allow", a_rule(http=HttpConditions(methods=frozenset({"GET"}))),
         {"last": True}, "false"),
    ],
)  # fmt: skip
def test_a_condition_is_true_false_or_waits(
    sentence: str, rule: Rule, known: dict[str, object], expected: str
) -> None:
    """Each row: what the sentence says is how the rule stands."""
    assert evaluated(rule, **known) == expected, sentence


def test_two_barriers_have_to_be_lifted_by_the_same_rule() -> None:
    """The first gives the reason; what lifts only one of them lifts neither."""
    joined = tightest(Barrier(Reason.PRIVATE_ADDRESS, "a", 0b011), Barrier(Reason.PORT, "b", 0b110))
    assert joined == Barrier(Reason.PRIVATE_ADDRESS, "a", 0b010)
    assert tightest(None, joined) is joined
    assert tightest(None, None) is None
