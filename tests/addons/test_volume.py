"""Tests of `addons.volume`: what a request may upload, and its answer bring, and what is told of both."""

from dataclasses import replace

from addons.asked import to_request
from addons.visit import Passage, Visit
from addons.volume import Volume, close_meter
from gateway.decision import Budget, Decision, Reason, Verdict
from gateway.policy import Policy
from gateway.proxy.case import Case, Refusal
from gateway.proxy.uploads import Uploads
from tests.addons.flows import a_flow
from tests.builders import a_client
from tests.integration.proxy_rig import Bench, allow

HEAD = 60
"""Octets of the request's head."""


def a_passage(octets: int, *, report: bool = False) -> tuple[Volume, Visit, Passage, Bench, list[str]]:
    """Return a request under a budget, and what its client's connection was ended with."""
    judge = Bench(Policy(rules=[allow("good.test")], report=report))
    said: list[str] = []
    visit = Visit(a_client(), hang_up=said.append)
    decision = Decision(Verdict.ALLOW, Reason.RULE, budget=Budget(octets, 3600))
    passage = Passage(to_request(a_flow(), visit), decision, 0.0, Case(judge))
    return Volume(judge, Uploads()), visit, passage, judge, said


def test_within() -> None:
    """What the budget holds is passed on."""
    volume, visit, passage, judge, said = a_passage(1000)
    assert volume.open(visit, passage, HEAD) is None
    assert passage.meter is not None
    assert not passage.meter.has(1000 - HEAD + 1), "the head was charged, too"
    assert volume.send(visit, passage, 500)
    assert passage.octets_out == HEAD + 500
    close_meter(passage)
    assert not said
    assert not judge.ledger.lines


def test_over() -> None:
    """What is over the budget ends the connection, and so is all that follows."""
    volume, visit, passage, _, said = a_passage(1000)
    assert volume.open(visit, passage, HEAD) is None
    assert not volume.send(visit, passage, 5000)
    assert passage.ended_by is not None
    assert passage.ended_by.reason is Reason.UPLOAD_BUDGET
    assert not volume.send(visit, passage, 1)
    assert passage.octets_out == HEAD
    assert len(said) == 1


def test_head_over() -> None:
    """A head that is more than the budget is refused."""
    volume, visit, passage, judge, _ = a_passage(10)
    assert isinstance(volume.open(visit, passage, HEAD), Refusal)
    assert judge.ledger.denials == [Reason.UPLOAD_BUDGET]


def test_report_mode() -> None:
    """In report mode, what is over the budget is recorded once and passes."""
    volume, visit, passage, judge, said = a_passage(1000, report=True)
    assert volume.open(visit, passage, HEAD) is None
    assert volume.send(visit, passage, 5000)
    assert volume.send(visit, passage, 5000)
    assert passage.octets_out == HEAD + 10000
    assert not said
    assert [line.decision.reason for line in judge.ledger.lines] == [Reason.UPLOAD_BUDGET]
    close_meter(passage)
    assert not volume._uploads._purses, "what was drawn in advance is given back"


def test_another_budget() -> None:
    """What is under way goes on under the budget of the decision that is now in force, or under none."""
    volume, visit, passage, _, said = a_passage(1000)
    assert volume.open(visit, passage, HEAD) is None
    before = passage.meter
    volume.follow(visit, passage, replace(passage.decision, max_response=5))
    assert passage.meter is before
    assert passage.decision.max_response == 5
    volume.follow(visit, passage, replace(passage.decision, budget=None))
    assert volume.send(visit, passage, 5000)
    volume.follow(visit, passage, replace(passage.decision, budget=Budget(100, 60)))
    assert volume.send(visit, passage, 100)
    assert not volume.send(visit, passage, 1)
    assert passage.octets_out == HEAD + 5100
    assert len(said) == 1


def test_answers_have_a_size() -> None:
    """An answer that announces too much, head included, is refused, and one that becomes too much ends."""
    volume, visit, passage, judge, said = a_passage(1000)
    assert volume.open_answer(passage, 40, 10**9) is None  # the rule says nothing of it
    passage.decision = Decision(Verdict.ALLOW, Reason.RULE, max_response=100)
    assert volume.open_answer(passage, 40, 60) is None
    assert isinstance(volume.open_answer(passage, 40, 61), Refusal)
    assert isinstance(volume.open_answer(passage, 101, 0), Refusal)
    assert volume.open_answer(passage, 40, 0) is None
    assert volume.receive(visit, passage, 60)
    assert not volume.receive(visit, passage, 1)
    assert not volume.receive(visit, passage, 1)
    assert passage.octets_in == 100
    assert len(said) == 1
    assert passage.ended_by is not None
    assert passage.ended_by.reason is Reason.BODY_SIZE
    assert judge.ledger.denials == [Reason.BODY_SIZE] * 2


def test_answers_in_report_mode() -> None:
    """In report mode a large answer is recorded once and passes."""
    volume, visit, passage, judge, _ = a_passage(1000, report=True)
    passage.decision = Decision(Verdict.ALLOW, Reason.RULE, max_response=100)
    assert volume.open_answer(passage, 40, 61) is None
    assert volume.receive(visit, passage, 200)
    passage.decision = Decision(Verdict.ALLOW, Reason.RULE, max_response=100)
    assert volume.receive(visit, passage, 200)
    assert volume.receive(visit, passage, 200)
    assert [line.decision.reason for line in judge.ledger.lines] == [Reason.BODY_SIZE] * 2
