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
        (
            a_request("a.example", "/x"),
            "proxy",
            {"domains": ["a.example"], "ports": [80]},
            {"methods": ["GET"], "paths": ["/x"]},
        ),
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


def denied_for(reason: Reason, *requests: Request) -> list[Stage]:
    """Return stages that are denied for a reason."""
    return [Stage("last", request, Decision(Verdict.DENY, reason)) for request in requests]


@pytest.mark.parametrize(
    ("stages", "key", "value"),
    [
        (denied(a_query("a.example", 16)), "qtypes", ["TXT"]),
        (denied(an_answer("a.example", qtype=65280)), "qtypes", ["TYPE65280"]),
        (denied_for(Reason.TOOL, a_tunnel("a.example", user_agent="curl/8")), "tools", ["curl"]),
        (
            denied(a_request("a.example", "/a/../b%2F")),
            "http",
            {"methods": ["GET"], "paths": ["/a/../b%2F", "/b%2F", "/b/"]},
        ),
    ],
    ids=["type of query", "unknown type", "tool", "path of many readings"],
)
def test_what_kept_others_out_is_named_too(stages: list[Stage], key: str, value: object) -> None:
    """A rule for the type of a query is none for all types, and one for a tool none for all programs."""
    rule = remedy(stages, (), cured)
    assert rule is not None
    assert rule[key] == value


@pytest.mark.parametrize(
    "stages",
    [
        denied_for(Reason.PRIVATE_ADDRESS, a_query("10-0-0-5.nip.io")),
        denied_for(Reason.PRIVATE_ADDRESS, a_tunnel("10-0-0-5.nip.io")),
        denied_for(
            Reason.DNS_REBINDING, *(a_dial(address, a_hello("a.example")) for address in ("10.0.0.5", "10.0.0.6"))
        ),
    ],
    ids=["query", "tunnel", "two addresses"],
)
def test_every_address_in_the_way_is_named(stages: list[Stage]) -> None:
    """Those that a name says itself too, and all of those that it has."""
    rule = remedy(stages, (), cured)
    assert rule is not None
    assert rule["to"]["addresses"] == ["10.0.0.5/32", "10.0.0.6/32"][: len(stages)]


def test_what_was_named_stays_named() -> None:
    """The rule for a later stage keeps what an earlier one needs: addresses of the first try, and its tools."""
    tries: list[RuleText] = []

    def retry(rule: RuleText) -> list[Stage]:
        tries.append(rule)
        if len(tries) == 3:
            return cured(rule)
        return denied(a_dial(("10.0.0.5", "192.0.2.1")[len(tries) - 1], a_hello("a.example")))

    rule = remedy(denied_for(Reason.TOOL, a_tunnel("a.example", user_agent="curl/8")), (), retry)
    assert rule is not None
    assert rule["tools"] == ["curl"]
    assert rule["to"]["addresses"] == ["10.0.0.5/32", "192.0.2.1/32"]


@pytest.mark.parametrize("path", ["/a*", "/a%2A", "/**"])
def test_a_path_that_a_glob_cannot_name_is_offered_no_rule(path: str) -> None:
    """A star would be a rule for more than was asked for."""
    request = a_request("api.example", path, scheme="https")
    assert remedy(denied(request), (), cured) is None
    assert remedy(denied(a_dial("10.0.0.5", request)), (), cured) is None


def test_a_name_that_is_taken_is_not_given_twice() -> None:
    """Two rules of one name are an error in the file."""
    rule = remedy(denied(a_tunnel("a.example")), (), cured, {"allow-a-example", "allow-a-example-2"})
    assert rule is not None
    assert rule["name"] == "allow-a-example-3"
    rule = remedy(denied(a_tunnel(an_address("::"))), (), cured)
    assert rule is not None
    assert rule["name"] == "allow"


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
