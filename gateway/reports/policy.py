"""What is told of a policy: what is wrong with it, and what it makes of a request.

Pure, but for reading the stored copy of a list to show the line that matched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from ipaddress import ip_network
from typing import Any

import yaml

from gateway.addresses import AddressClass, classify
from gateway.config import Config
from gateway.console import Rows
from gateway.decision import Decision, Reason
from gateway.document import Problem
from gateway.explain import Stage, summary, terms
from gateway.feeds.store import read_line
from gateway.remedy import RuleText
from gateway.rule import WEB_PORTS


def problems_json(problems: list[Problem]) -> list[dict[str, Any]]:
    """Return problems for JSON."""
    return [asdict(problem) for problem in problems]


def stage_table(stages: list[Stage]) -> Rows:
    """Return one row for each stage."""
    rows: list[Sequence[object]] = [
        (
            stage.name,
            _verdict(stage.decision),
            stage.decision.reason.value,
            stage.decision.rule or "-",
            ": ".join(part for part in (stage.decision.tls, summary(stage.decision)) if part),
        )
        for stage in stages
    ]
    return ("stage", "verdict", "reason", "rule", "why"), rows


def _verdict(decision: Decision) -> str:
    return decision.verdict.value if decision.enforced else "would deny"


def stage_notes(stages: list[Stage], config: Config, groups: tuple[str, ...], *, resolved: bool) -> Iterator[str]:
    """Yield what a table has no room for: list lines, techniques, rules on trial, what was not judged."""
    for stage in stages:
        decision = stage.decision
        if matched := decision.matched:
            categories = ", ".join(matched.categories)
            yield f"list {matched.list} ({categories}), version {matched.version}, line {matched.line}:"
            yield f"    {read_line(config.state_dir, matched.list, matched.version, matched.line) or matched.entry}"
        for reported in decision.reported:
            yield f"rule {reported.rule} is on trial: it would deny at stage {stage.name} ({reported.reason})"
        if decision.technique:
            yield f"ATT&CK: {', '.join(decision.technique)}"
    if config.clients:
        yield f"client groups: {', '.join(groups) or 'none'}"
    last = stages[-1]
    if not last.decision.denied and (found := "; ".join(terms(last.decision))):
        yield f"rule {last.decision.rule}: {found}"
    if not last.decision.denied and last.decision.pending and not resolved:
        yield "The name was not resolved: addresses are judged before connecting. Give --address to see how."


def remedy_lines(stages: list[Stage], rule: RuleText | None) -> Iterator[str]:
    """Yield what to write so that what was denied is allowed."""
    denied = next((stage.decision for stage in stages if stage.decision.denied), None)
    if rule is not None:
        who = "" if "clients" in rule else " (for all clients)"
        yield f"to allow it{who}, put this first under policy.rules, and SIGHUP:"
        yield f"    - {yaml.safe_dump(rule, default_flow_style=True, sort_keys=False, width=10**6).strip()}"
        yield from _lifted(rule["to"])
    elif denied is not None and denied.reason is Reason.CLIENT_UNKNOWN:
        yield "to allow it, put the client into a group of that rule, under clients, and SIGHUP"
    elif denied is not None:
        yield "no rule can allow just this"


def _lifted(to: RuleText) -> Iterator[str]:
    """Yield which built-in protections a rule lifts by what it names."""
    for network in map(ip_network, to.get("addresses", ())):
        kind = classify(network.network_address)
        if kind is not AddressClass.GLOBAL:
            yield f"it lifts a built-in protection: {network.network_address} is a {kind} address"
    for port in to.get("ports", ()):
        if port not in WEB_PORTS:
            yield f"it lifts a built-in protection: port {port} is closed unless a rule names it"


def stage_json(stage: Stage, config: Config) -> dict[str, Any]:
    """Return a stage for JSON."""
    decision = stage.decision
    matched = None
    if decision.matched:
        matched = decision.matched._asdict()
        matched["text"] = read_line(
            config.state_dir, decision.matched.list, decision.matched.version, decision.matched.line
        )
    return {
        "stage": stage.name,
        "verdict": decision.verdict.value,
        "enforced": decision.enforced,
        "reason": decision.reason.value,
        "rule": decision.rule,
        "detail": decision.detail,
        "tls": decision.tls.value if decision.tls else None,
        "pending": [fact.value for fact in decision.pending],
        "matched": matched,
        "technique": list(decision.technique),
        "terms": list(terms(decision)),
        "reported": [reported.rule for reported in decision.reported],
    }
