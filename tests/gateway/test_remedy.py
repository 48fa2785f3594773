"""Which rule would allow what was denied."""

from collections.abc import Callable

import pytest

from gateway.decision import Decision, Reason, Verdict
from gateway.explain import Stage
from gateway.remedy import RuleText, remedy
from gateway.request import Flaw, Request
from tests.builders import a_dial, a_hello, a_query, a_request, a_tunnel, an_address, an_answer

DENIED = Decision(Verdict.DENY, Reason.DEFAULT_DENY)
ALLOWED = Decision(Verdict.ALLOW, Reason.RULE)


def denied(request: Request) -> list[Stage]:
    """Return stages of which the last denies."""
    return [Stage("before", a_tunnel(), ALLOWED), Stage("last", request, DENIED)]


def cured(rule: RuleText) -> list[Stage]:
    """Return stages that allow."""
    return [Stage("last", a_tunnel(), ALLOWED)]


INSIDE = a_request("api.example", "/v1/x?key=1", method="POST", scheme="https")


@pytest.mark.parametrize(
    ("request_", "via", "to", "http"),
    [
        (a_query("a.example"), "dns", {"domains": ["a.example"]}, None),
        (an_answer("a.example", "10.0.0.5"), "dns", {"domains": ["a.example"], "addresses": ["10.0.0.5/32"]}, None),
        (a_tunnel("a.example", 8443), "proxy", {"domains": ["a.example"], "ports": [8443]}, None),
        (a_tunnel(an_address("2001:db8::1")), "proxy", {"addresses": ["2001:db8::1/128"], "ports": [443]}, None),
        (a_hello("a.example"), "proxy", {"domains": ["a.example"], "ports": [443]}, None),
        (a_request("a.example", "/x"), "proxy", {"domains": ["a.example"], "ports": [80]}, None),
        (
            a_dial("10.0.0.5", a_hello("a.example")),
            "proxy",
            {"domains": ["a.example"], "addresses": ["10.0.0.5/32"], "ports": [443]},
            None,
        ),
        (
            INSIDE,
            "proxy",
            {"domains": ["api.example"], "ports": [443]},
            {"methods": ["POST"], "paths": ["/v1/x"]},
        ),
    ],
    ids=["query", "answer", "tunnel", "address", "hello", "plain request", "dial", "inspected request"],
)
def test_a_rule_names_what_was_asked_for_and_no_more(
    request_: Request, via: str, to: dict[str, object], http: dict[str, object] | None
) -> None:
    """Name, address and port at the point that denied, for one group; what is inspected stays inspected."""
    rule = remedy(denied(request_), ("web", "all"), cured)
    assert rule is not None
    assert rule["name"].startswith("allow-")
    assert (rule["action"], rule["via"], rule["clients"]) == ("allow", [via], ["web"])
    assert (rule["to"], rule.get("http")) == (to, http)


def test_each_protection_in_the_way_is_named() -> None:
    """A port may hide that the address is a private one: the rule that is shown has passed all stages."""
    tried: list[RuleText] = []

    def retry(rule: RuleText) -> list[Stage]:
        tried.append(rule)
        return cured(rule) if "addresses" in rule["to"] else denied(a_dial("10.0.0.5", a_hello("a.example", 8443)))

    rule = remedy(denied(a_tunnel("a.example", 8443)), (), retry)
    assert rule == tried[-1]
    assert len(tried) == 2
    assert "clients" not in tried[0]


@pytest.mark.parametrize(
    ("stages", "retry"),
    [
        (cured({}), cured),
        (denied(a_tunnel("a.example", flaw=Flaw(Reason.MALFORMED, "x"))), cured),
        (denied(a_tunnel("a.example")), lambda rule: denied(a_tunnel("a.example"))),
        ([Stage("tunnel", a_tunnel(), Decision(Verdict.DENY, Reason.CLIENT_UNKNOWN))], cured),
    ],
    ids=["nothing denied", "a flaw", "no rule helps", "a client of no group"],
)
def test_where_no_rule_helps_none_is_shown(stages: list[Stage], retry: Callable[[RuleText], list[Stage]]) -> None:
    """What is malformed is no question of rules, and who a client is must not be answered with a rule for all."""
    assert remedy(stages, (), retry) is None
