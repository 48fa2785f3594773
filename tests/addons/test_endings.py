"""Tests of `addons.endings`: what is under way ends when it has to, and its line says why. More of it, with real
connections: tests/integration/test_proxy_answers.py and test_proxy_identity.py.
"""

from gateway.decision import Reason, Verdict
from gateway.policy import Policy
from gateway.rule import Rule
from tests.addons.flows import a_flow, a_gate, visited
from tests.builders import an_address
from tests.integration.proxy_rig import allow


async def test_rejudged_with_the_chain() -> None:
    """A request under way ends when the new policy denies an alias that was met when its name was resolved."""
    gate, judge = a_gate()
    flow = a_flow()
    said: list[str] = []
    visit = visited(gate, flow, hang_up=said.append)
    visit.chains["good.test", 80] = ("cdn.test",)
    visit.connected["one"] = ("good.test", 80), an_address("127.0.0.1")  # so that it is not resolved anew
    await gate.requestheaders(flow)
    judge.policy = Policy(rules=[Rule(name="no", action=Verdict.DENY, domains=("other.test",)), allow("good.test")])
    gate.endings.rejudge(visit)
    assert not said
    judge.policy = Policy(rules=[Rule(name="no", action=Verdict.DENY, domains=("cdn.test",)), allow("good.test")])
    gate.endings.rejudge(visit)
    assert len(said) == 1
    gate.leave(flow.client_conn.id)
    assert [(line.decision.rule, line.decision.denied) for line in judge.ledger.lines] == [("no", True)]


async def test_blamed_once() -> None:
    """A connection that ends for what its client did is one line: that of what is under way, or its own."""
    gate, judge = a_gate()
    flow = a_flow()
    visit = visited(gate, flow)
    await gate.requestheaders(flow)
    for detail in ("first", "second"):
        gate.endings.end_all(visit, Reason.MALFORMED, detail)
    assert not judge.ledger.lines
    gate.leave(flow.client_conn.id)
    idle = visited(gate, a_flow())
    for detail in ("first", "second"):
        gate.endings.end_all(idle, Reason.MALFORMED, detail)
    assert [(line.decision.reason, line.decision.detail) for line in judge.ledger.lines] == [
        (Reason.MALFORMED, "first")
    ] * 2
