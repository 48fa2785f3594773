"""The walk over the rules: from the facts of a stage to a decision, first match wins.

Pure: no I/O, no clock, no logging. Rules are never walked one by one: every condition keeps an index from its values
to a bit mask with one bit per rule (the bit-vector classification of Lakshman and Stiliadis, SIGCOMM 1998), so one
fact costs one look-up whatever the number of rules, and ANDing the masks leaves the rules that match (see
`gateway.conditions`).
"""

from collections.abc import Mapping
from dataclasses import replace

from gateway.conditions import Condition, Conditions, Facts
from gateway.decision import Decision, Fact, Point, Reason, Tls, Verdict
from gateway.domainset import Lists
from gateway.request import Flaw
from gateway.rule import Rule
from gateway.ruleindex import RuleIndex
from gateway.techniques import techniques


class RuleWalk:
    """The rules of a policy, and what holds where none matches."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        index: RuleIndex,
        lists: Lists,
        default: Mapping[Point, Verdict],
        *,
        report: bool,
    ) -> None:
        self._rules = rules
        self._index = index
        self._conditions = Conditions(rules, index, lists)
        self._dns_default = default.get(Point.DNS, Verdict.DENY)
        self._proxy_default = default.get(Point.PROXY, Verdict.DENY)
        self._report = report
        self._allowed: dict[tuple[int, bool, int, int], Decision] = {}

    def decide(self, facts: Facts) -> Decision:
        """Return the decision of the first rule that matches, or what is still to be learnt before one does."""
        index, barrier = self._index, facts.barrier
        conditions = self._conditions.evaluate(facts)
        certain = possible = index.rules_at(facts.point)
        address = tool = http = 0
        for _, true, by_address, by_tool, by_http in conditions:
            certain &= true
            possible &= true | by_address | by_tool | by_http
            address |= by_address
            tool |= by_tool
            http |= by_http
        if barrier is not None:
            passing = index.deny | barrier.lifted_by
            certain &= passing
            possible &= passing
            if not possible & index.allow and barrier.reason in _BEFORE_RULES:
                certain = possible = 0  # nothing can lift it, so no rule is asked
        # The first rule is the lowest bit. A rule on trial never changes how a flow is handled.
        enforced = certain & ~index.on_trial
        first = enforced & -enforced
        winner = first.bit_length() - 1 if first else None
        before = first - 1  # without a winner all bits: -1
        on_trial = certain & index.on_trial & before
        unknown = possible & ~certain & ~index.on_trial & before
        verdict = self._verdict(winner, facts)
        pending = 0
        if unknown and (verdict is Verdict.ALLOW or unknown & index.allow):
            pending = bool(unknown & address) | bool(unknown & tool) << 1
            pending |= bool(unknown & http) << (2 if facts.http is None else 3)
            # Should one of these match at a later stage, it would be too late to begin with inspection.
            pending |= bool(unknown & index.inspecting) << 4
            if verdict is Verdict.DENY:
                winner = None
        elif verdict is Verdict.DENY:
            return self._deny(winner, facts, conditions, on_trial)
        if facts.http is not None:
            # The one exception for rules on trial: the answer is looked at for them, or they could never speak.
            pending |= bool(possible & ~certain & index.on_trial & before & http) << 3
        return self._allow(winner, facts, pending, on_trial, undecided=verdict is Verdict.DENY)

    def _reports(self, on_trial: int, facts: Facts) -> tuple[Decision, ...]:
        """Return what the rules on trial would have decided."""
        found: list[Decision] = []
        while on_trial:
            bit = on_trial & -on_trial
            on_trial ^= bit
            found.append(replace(self.denied_by(self._rules[bit.bit_length() - 1], facts), enforced=False))
        return tuple(found)

    def _verdict(self, winner: int | None, facts: Facts) -> Verdict:
        if winner is not None:
            return self._rules[winner].action
        if facts.barrier is not None:
            return Verdict.DENY
        return self._dns_default if facts.point is Point.DNS else self._proxy_default

    def _allow(self, winner: int | None, facts: Facts, pending: int, on_trial: int, *, undecided: bool) -> Decision:
        """Return the decision to go on. Such decisions are few and immutable, so each is made once."""
        if on_trial & self._index.with_listings:  # carries evidence of its own each time
            plain = self._allow(winner, facts, pending, 0, undecided=undecided)
            return replace(plain, reported=self._reports(on_trial, facts))
        key = (-2 if undecided else -1 if winner is None else winner, facts.carries_tls, pending, on_trial)
        decision = self._allowed.get(key)
        if decision is not None:
            return decision
        rule = None if winner is None else self._rules[winner]
        facts_missing = tuple(fact for bit, fact in enumerate(Fact) if pending >> bit & 1)
        tls = None
        if facts.carries_tls:
            inspect = pending >> 2 or (rule is not None and rule.tls is Tls.INSPECT)
            tls = Tls.INSPECT if inspect else Tls.SPLICE
        reason = Reason.RULE if rule else Reason.DEFAULT_ALLOW
        decision = Decision(
            Verdict.ALLOW,
            Reason.PENDING if undecided else reason,
            rule=rule.name if rule else "",
            tls=tls,
            pending=facts_missing,
            technique=rule.technique if rule else (),
            budget=rule.upload if rule else None,
            pins=rule.pins if rule else (),
            max_response=rule.http.max_response if rule and rule.http else None,
            reported=self._reports(on_trial, facts),
        )
        self._allowed[key] = decision
        return decision

    def _deny(self, winner: int | None, facts: Facts, conditions: list[Condition], on_trial: int) -> Decision:
        barrier = facts.barrier
        if winner is not None:
            decision = self.denied_by(self._rules[winner], facts)
            if decision.reason is Reason.FILE_TYPE and facts.response is not None and facts.response.file_types:
                types = ", ".join(sorted(facts.response.file_types))
                decision = replace(decision, detail=f"the answer is of type {types}")
        elif barrier is None:
            decision = self._denied_by_default(facts, conditions)
        else:
            decision = flawed(Flaw(barrier.reason, barrier.detail))
        if self._report:
            if barrier is not None:  # built-in protections stay on, whatever rule came first
                decision = flawed(Flaw(barrier.reason, barrier.detail))
            else:
                tls = Tls.SPLICE if facts.carries_tls else None
                decision = replace(decision, enforced=False, tls=tls)
        return replace(decision, reported=self._reports(on_trial, facts)) if on_trial else decision

    def denied_by(self, rule: Rule, facts: Facts) -> Decision:
        """Return the denial of a rule that matches."""
        matched = self._conditions.evidence(rule, facts)
        reason = Reason.LISTED if matched else _cause(rule)
        categories = matched.categories if matched else ()
        return Decision(
            Verdict.DENY,
            reason,
            rule=rule.name,
            detail=matched.told if matched else "",
            matched=matched,
            technique=rule.technique or techniques(reason, categories),
        )

    def _denied_by_default(self, facts: Facts, conditions: list[Condition]) -> Decision:
        """Deny, and name the one condition that kept an allow rule from matching, if there is exactly one."""
        index = self._index
        once = twice = 0  # rules that one condition keeps from matching; that several do
        for _, true, address, tool, http in conditions:
            missed = index.all & ~(true | address | tool | http)
            twice |= once & missed
            once |= missed
        near = index.rules_at(facts.point) & index.allow & once & ~twice
        if near:
            for reason, true, address, tool, http in conditions:
                rules = near & ~(true | address | tool | http)
                if not rules or reason is Reason.DEFAULT_DENY:
                    continue
                if reason is not Reason.CLIENT_UNKNOWN or not index.groups_of(facts.client, facts.point):
                    return _missed(self._rules[(rules & -rules).bit_length() - 1], reason)
        return _NO_RULE

    def lists_for(self, rule: Rule) -> int:
        """Return the lists that a rule speaks of."""
        return self._conditions.lists_for(rule)


_NO_RULE = Decision(Verdict.DENY, Reason.DEFAULT_DENY, detail="no rule allows it")


def _missed(rule: Rule, reason: Reason) -> Decision:
    detail = f"rule {rule.name} would allow this but for its condition on {_CONDITION_WORDS[reason]}"
    return Decision(Verdict.DENY, reason, detail=detail, technique=techniques(reason))


# Of addresses that servers have no business with, the class is the most telling cause; a closed port or a bare
# address says less than a list that holds the destination.
_BEFORE_RULES = frozenset((Reason.PRIVATE_ADDRESS, Reason.METADATA_ADDRESS, Reason.DNS_REBINDING))

_CONDITION_WORDS: dict[Reason, str] = {
    Reason.CLIENT_UNKNOWN: "clients",
    Reason.PORT: "ports",
    Reason.TOOL: "tools",
    Reason.QTYPE: "qtypes",
    Reason.METHOD: "methods",
    Reason.PATH: "paths",
    Reason.USER_AGENT: "user_agents",
    Reason.HEADER: "headers",
    Reason.BUCKET: "buckets",
    Reason.CONTENT_TYPE: "content_types or response_types",
    Reason.FILE_TYPE: "file_types",
    Reason.BODY_SIZE: "max_body",
}


def flawed(flaw: Flaw) -> Decision:
    """Return the denial for what was found wrong with a request."""
    return Decision(Verdict.DENY, flaw.reason, detail=flaw.detail, technique=techniques(flaw.reason))


def _cause(rule: Rule) -> Reason:
    """Return the most telling condition of a deny rule."""
    http = rule.http
    causes = (
        (http and http.file_types, Reason.FILE_TYPE),
        (http and http.response_types, Reason.CONTENT_TYPE),
        (rule.tools, Reason.TOOL),
        (rule.qtypes, Reason.QTYPE),
        (http and http.buckets, Reason.BUCKET),
        (http and http.methods, Reason.METHOD),
        (http and http.paths, Reason.PATH),
        (http and http.user_agents, Reason.USER_AGENT),
        (http and http.headers, Reason.HEADER),
        (http and http.content_types, Reason.CONTENT_TYPE),
        (rule.ports, Reason.PORT),
    )
    return next((reason for condition, reason in causes if condition), Reason.RULE)
