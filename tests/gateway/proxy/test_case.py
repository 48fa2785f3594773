"""Tests of `gateway.proxy.case`."""

from gateway.decision import Decision, Reason, Verdict
from gateway.policy import Policy
from gateway.proxy.case import Case, Refusal
from gateway.request import Dial
from gateway.rule import HttpConditions, Rule
from tests.builders import a_hello, a_response, a_tunnel, an_address
from tests.integration.proxy_rig import Bench

TRIAL = Rule(name="trial", action=Verdict.DENY, report=True, tools=("curl",))
OPEN = Rule(name="open", action=Verdict.ALLOW, domains=("www.example.com",))


def test_allowed() -> None:
    """An allowed stage is not recorded."""
    bench = Bench(Policy(rules=[OPEN]))
    assert isinstance(Case(bench).decide(a_tunnel()), Decision)
    assert bench.ledger.lines == []


def test_denied() -> None:
    """A denied stage is recorded, and is a refusal with the id to quote."""
    bench = Bench(Policy(rules=[OPEN]))
    refusal = Case(bench).decide(a_tunnel("bad.test"))
    assert isinstance(refusal, Refusal)
    assert refusal.ledger_id == "id-1"
    assert refusal.decision.reason is Reason.DEFAULT_DENY


def test_reports_once() -> None:
    """A rule on trial that speaks up at every stage is recorded once a flow."""
    bench = Bench(Policy(rules=[TRIAL, OPEN]))
    case = Case(bench)
    tunnel = a_tunnel(user_agent="curl/8")
    hello = a_hello(tunnel=tunnel)
    for request in (tunnel, hello):
        assert isinstance(case.decide(request), Decision)
    dial = Dial(origin=hello, address=an_address("192.0.43.8"))
    case.report_dial(dial, case.decide_dial(dial))
    assert len(bench.ledger.lines) == 1
    assert bench.ledger.lines[0].decision.reported[0].rule == "trial"
    Case(bench).decide(tunnel)
    assert len(bench.ledger.lines) == 2


def test_an_answer_is_refused_for_its_request() -> None:
    """A denied answer is one line, and what the client is told speaks of its request."""
    rule = Rule(name="text", action=Verdict.ALLOW, http=HttpConditions(response_types=("text/*",)))
    bench = Bench(Policy(rules=[rule]))
    response = a_response(media_types=("image/png",))
    refusal = Case(bench).decide_response(response)
    assert isinstance(refusal, Refusal)
    assert refusal.request is response.dial.origin
    assert bench.ledger.denials == [Reason.CONTENT_TYPE]
    assert isinstance(Case(bench).decide_response(a_response(media_types=("text/html",))), Decision)


def test_shells_do_not_decide() -> None:
    """What a shell finds wrong is judged by the policy, and recorded with its words."""
    bench = Bench(Policy(rules=[OPEN]))
    refusal = Case(bench).refuse(a_tunnel(), Reason.NOT_TLS, "SSH", status=400)
    assert (refusal.decision.reason, refusal.decision.detail, refusal.status) == (Reason.NOT_TLS, "SSH", 400)
    assert bench.ledger.denials == [Reason.NOT_TLS]
