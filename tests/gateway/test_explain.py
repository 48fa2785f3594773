"""What `gateway explain` asks the policy."""

import pytest

from gateway.decision import Budget, Point, Reason, Tls, Verdict
from gateway.explain import Destination, explain_destination, explain_name, parse_destination, summary, terms
from gateway.policy import Policy
from gateway.request import Flaw
from gateway.rule import HttpConditions, Rule
from tests.builders import A, a_client, a_dial, a_policy, a_request, allow, an_address

POLICY = Policy(
    rules=[
        Rule(name="web", action=Verdict.ALLOW, domains=("www.example.com",)),
        Rule(
            name="api",
            action=Verdict.ALLOW,
            domains=("api.example.com",),
            http=HttpConditions(methods=frozenset({"GET"}), paths=("/v1/**",)),
        ),
    ],
    default={Point.DNS: Verdict.ALLOW},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example/b?c=d", Destination("https", "a.example", "/b?c=d")),
        ("http://a.example:8080", Destination("http", "a.example:8080", "/")),
        ("a.example", Destination("https", "a.example", "/")),
        ("a.example:8443", Destination("https", "a.example:8443", "/")),
        ("https://münchen.example:8443/ß", Destination("https", "xn--mnchen-3ya.example:8443", "/ß")),
    ],
)
def test_destinations_are_read_as_people_type_them(text: str, expected: Destination) -> None:
    """URL, host, and host with port are all understood."""
    assert parse_destination(text) == expected


@pytest.mark.parametrize("text", ["", "https://[a", "ftp://a.example/", "https://", "://"])
def test_other_destinations_are_refused(text: str) -> None:
    """What the proxy cannot be asked for is an error, not a guess."""
    with pytest.raises(ValueError, match="is no destination"):
        parse_destination(text)


def stages(text: str, method: str = "GET", *addresses: str) -> list[tuple[str, Reason]]:
    """Return names and reasons of the stages that a destination would go through."""
    found = tuple(an_address(address) for address in addresses)
    asked = explain_destination(POLICY, a_client(), parse_destination(text), method=method, addresses=found)
    return [(stage.name, stage.decision.reason) for stage in asked]


def test_a_spliced_destination_has_two_stages_and_a_dial_for_each_address() -> None:
    """Tunnel and ClientHello, then one decision for every address to assume."""
    assert stages("https://www.example.com/", "GET", "93.184.215.14", "10.0.0.1") == [
        ("tunnel", Reason.RULE),
        ("tls hello", Reason.RULE),
        ("dial 93.184.215.14", Reason.RULE),
        ("dial 10.0.0.1", Reason.DNS_REBINDING),
    ]


def test_an_inspected_destination_shows_the_request() -> None:
    """Where a rule needs to see the request, it is judged as the proxy would see it."""
    assert stages("https://api.example.com/v1/x")[-1] == ("http request", Reason.RULE)
    assert stages("https://api.example.com/v1/x", "POST")[-1] == ("http request", Reason.METHOD)


def test_plain_http_begins_with_the_request() -> None:
    """There is no tunnel for http://."""
    assert stages("http://www.example.com/") == [("http request", Reason.RULE)]


@pytest.mark.parametrize(
    ("text", "stage"), [("https://www.a.test/", "tunnel"), ("http://www.a.test/", "http request")]
)
def test_who_is_not_proven_gets_no_further(text: str, stage: str) -> None:
    """Authentication comes before the policy: what it refuses is the first stage, and the last."""
    flaw = Flaw(Reason.AUTH_REQUIRED, "user name and password are needed")
    found = list(explain_destination(a_policy(allow()), a_client(), parse_destination(text), unproven=flaw))
    assert [(each.name, each.decision.reason) for each in found] == [(stage, Reason.AUTH_REQUIRED)]


def test_it_stops_at_the_first_denial() -> None:
    """Nothing is said about stages that would never be reached."""
    assert stages("https://other.example.com/") == [("tunnel", Reason.DEFAULT_DENY)]


def test_a_host_that_is_none_is_malformed() -> None:
    """What a listener would refuse to read is explained, not raised."""
    assert stages("https://0x7f.1/") == [("tunnel", Reason.MALFORMED)]


def test_a_name_has_a_query_and_an_answer() -> None:
    """A DNS question is explained with the addresses to assume."""
    asked = explain_name(POLICY, a_client(), "www.example.com", A, (an_address("127.0.0.1"),))
    assert [(stage.name, stage.decision.reason) for stage in asked] == [
        ("dns query", Reason.RULE),
        ("dns answer", Reason.DNS_REBINDING),
    ]


def test_a_name_that_is_none_is_malformed() -> None:
    """A question no name server would be asked."""
    (stage,) = explain_name(POLICY, a_client(), "a..b", A)
    assert stage.decision.reason is Reason.MALFORMED


def test_the_summary_says_what_is_still_to_be_seen() -> None:
    """A decision to go on names what a later stage must settle."""
    asked = list(explain_destination(POLICY, a_client(), parse_destination("https://api.example.com/v1/x")))
    assert "the request inside TLS" in summary(asked[0].decision)
    assert asked[0].decision.tls is Tls.INSPECT


def test_terms_say_what_an_allowed_flow_has_to_hold_to() -> None:
    """Budget, size of answers and pins of a rule are told; a rule without them has none."""
    rule = allow(upload=Budget(1 << 20, 3600), http=HttpConditions(max_response=1 << 10), pins=("x", "y"))
    decision = a_policy(rule).decide(a_dial(origin=a_request(scheme="https")))
    assert list(terms(decision)) == [
        "uploads up to 1MiB in 1h",
        "answers up to 1KiB",
        "the origin has to prove one of 2 pinned keys",
    ]
    assert not list(terms(a_policy(allow()).decide(a_dial())))
