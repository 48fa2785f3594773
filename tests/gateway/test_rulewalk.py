"""Tests of `gateway.rulewalk`, through a policy: which rule decides, by what evidence, what is missing."""

from gateway.decision import Decision, Fact, Reason, Tls, Verdict
from gateway.rule import HttpConditions
from tests.builders import a_dial, a_hello, a_policy, a_query, a_request, a_response, a_tunnel, allow, deny, networks
from tests.snapshots import snapshot_of
from tests.strategies import LISTS

SNAPSHOT = snapshot_of(LISTS)


def test_evidence_names_list_line_and_version() -> None:
    """A `listed` denial carries the entry, its line, its list with version, and the techniques of its categories."""
    policy = a_policy(deny(categories=("c2",)), default=Verdict.ALLOW, lists=SNAPSHOT)
    decision = policy.decide(a_tunnel("a.b.example.com"))
    assert decision.reason is Reason.LISTED
    assert decision.matched is not None
    assert (decision.matched.list, decision.matched.line, decision.matched.entry) == ("worse", 1, ".example.com")
    assert decision.matched.version
    assert decision.technique == ("T1105", "T1071")
    assert decision.detail == "example.com is on the list worse"


def test_the_rules_own_technique_comes_first() -> None:
    """A rule's `technique` is used instead of what its categories would suggest."""
    policy = a_policy(deny(categories=("c2",), technique=("T1568",)), default=Verdict.ALLOW, lists=SNAPSHOT)
    assert policy.decide(a_tunnel("a.b.example.com")).technique == ("T1568",)


def test_the_evidence_is_of_the_rules_own_lists() -> None:
    """When several lists hold a name, the one that the rule speaks of is shown."""
    policy = a_policy(deny(lists=("good",)), default=Verdict.ALLOW, lists=snapshot_of({**LISTS, "x": ((), ())}))
    decision = policy.decide(a_tunnel("www.example.com"))
    assert decision.matched is not None
    assert decision.matched.list == "good"


def test_a_near_miss_says_which_rule_and_which_condition() -> None:
    """The denial of what one condition away would be allowed names the rule and the condition."""
    policy = a_policy(allow(name="mirrors", domains=("deb.test",), ports=((443, 443),)))
    decision = policy.decide(a_tunnel("deb.test", 80))
    assert decision.reason is Reason.PORT
    assert "mirrors" in decision.detail
    assert "ports" in decision.detail


def test_rules_on_trial_are_recorded_with_their_evidence() -> None:
    """A rule in report mode leaves a denial that is not enforced, with its list entry, beside the decision."""
    policy = a_policy(
        deny(name="tools", report=True, tools=("curl",)),
        deny(name="feeds", report=True, categories=("malware",)),
        allow(name="all", domains=(".evil.test",)),
        lists=SNAPSHOT,
    )
    decision = policy.decide(a_tunnel("sub.evil.test", user_agent="curl/8"))
    assert decision.verdict is Verdict.ALLOW
    assert decision.rule == "all"
    assert [(found.rule, found.reason, found.enforced) for found in decision.reported] == [
        ("tools", Reason.TOOL, False),
        ("feeds", Reason.LISTED, False),
    ]
    assert decision.reported[1].matched is not None


def test_allowing_decisions_are_shared() -> None:
    """An allowed request costs no new object: equal decisions are one."""
    policy = a_policy(allow(domains=("*.example.com",)))
    assert policy.decide(a_tunnel("a.example.com")) is policy.decide(a_tunnel("b.example.com"))


# -- facts that are missing ------------------------------------------------------------------------------------------


def facts(decision: Decision) -> set[Fact]:
    """Return what a decision waits for."""
    return set(decision.pending)


def test_a_rule_that_may_want_inspection_gets_it() -> None:
    """While a rule with `tls: inspect` may still match by address, the tunnel is inspected: later is too late."""
    policy = a_policy(allow(addresses=networks("93.184.215.0/24"), tls=Tls.INSPECT))
    decision = policy.decide(a_hello())
    assert facts(decision) == {Fact.ADDRESS}
    assert decision.tls is Tls.INSPECT


def test_the_answer_is_waited_for_when_a_rule_speaks_of_it() -> None:
    """A deny rule about answers is known only with the answer, its media type before its first octets."""
    rule = deny(http=HttpConditions(response_types=("text/*",), file_types=frozenset(["script"])))
    policy = a_policy(rule, default=Verdict.ALLOW)
    assert facts(policy.decide(a_hello())) == {Fact.HTTP}
    dial = a_dial(origin=a_request())
    assert facts(policy.decide(dial)) == {Fact.RESPONSE}
    assert facts(policy.decide(a_response(media_types=("text/html",)))) == {Fact.RESPONSE}
    assert facts(policy.decide(a_response(media_types=("image/png",)))) == set()
    denied = policy.decide(a_response(media_types=("text/html",), file_types=frozenset(["script"])))
    assert (denied.denied, denied.reason, denied.detail) == (True, Reason.FILE_TYPE, "the answer is of type script")


def test_only_facts_that_matter_are_waited_for() -> None:
    """A condition that is already true waits for nothing, although other rules wait for that fact."""
    policy = a_policy(
        deny(domains=("evil.test",), categories=("malware",), http=HttpConditions(methods=frozenset(["POST"]))),
        default=Verdict.ALLOW,
        lists=SNAPSHOT,
    )
    assert facts(policy.decide(a_hello("evil.test"))) == {Fact.HTTP}


def test_a_deny_that_waits_keeps_nobody_waiting_who_is_denied_anyway() -> None:
    """With only deny rules unknown, what the default denies is denied at once, and never resolved."""
    policy = a_policy(deny(addresses=networks("8.8.8.0/24")), deny(http=HttpConditions(methods=frozenset(["POST"]))))
    assert policy.decide(a_tunnel()).reason is Reason.DEFAULT_DENY
    assert policy.decide(a_query()).reason is Reason.DEFAULT_DENY
