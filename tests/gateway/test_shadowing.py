"""Rules that can never match: what is certain is found, and nothing else is said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import AddressClass
from gateway.decision import Point, Verdict
from gateway.policy import Policy
from gateway.request import Dial, DnsAnswer, HttpRequest, Request, Tunnel
from gateway.rule import ClientGroup, HttpConditions, Rule
from gateway.shadowing import covers, shadowed
from tests.builders import allow, deny, networks
from tests.snapshots import snapshot_of
from tests.strategies import GROUPS, LISTS, requests, rules

SNAPSHOT = snapshot_of(LISTS)
GET = HttpConditions(methods=frozenset(["GET"]))
WEB = ((80, 80), (443, 443))

COVERED: list[tuple[str, Rule, Rule]] = [
    ("the same rule", deny(domains=("a.test",)), allow(domains=("a.test",))),
    ("everything before something", deny(), allow(domains=("a.test",), ports=((22, 22),))),
    ("a tree before a name in it", deny(domains=(".a.test",)), allow(domains=("a.test", "*.b.a.test", "c.a.test"))),
    ("a star before a deeper star", deny(domains=("*.a.test",)), allow(domains=("*.b.a.test", ".b.a.test"))),
    (
        "a network before a smaller one",
        deny(addresses=networks("10.0.0.0/8")),
        allow(addresses=networks("10.1.0.0/16")),
    ),
    (
        "an IPv6 network before a smaller one",
        deny(addresses=networks("fd00::/8")),
        allow(addresses=networks("fd00::/16")),
    ),
    (
        "a range before a port in it",
        deny(via=frozenset([Point.PROXY]), ports=((1, 1023),)),
        allow(via=frozenset([Point.PROXY]), ports=WEB),
    ),
    ("more values before fewer", deny(categories=("a", "b")), deny(categories=("b",))),
    (
        "fewer conditions before more",
        allow(domains=("a.test",)),
        allow(domains=("a.test",), clients=("web",), tools=("curl",)),
    ),
    ("without HTTP before with", allow(domains=("a.test",)), deny(domains=("a.test",), http=GET)),
    ("the same HTTP", allow(http=GET), allow(http=GET, domains=("a.test",))),
    ("all points before one", allow(domains=("a.test",)), deny(domains=("a.test",), via=frozenset([Point.DNS]))),
    ("query types", deny(qtypes=(16, 10)), allow(qtypes=(16,))),
    (
        "a class",
        allow(address_classes=(AddressClass.PRIVATE, AddressClass.CGNAT)),
        deny(address_classes=(AddressClass.CGNAT,)),
    ),
    (
        "a denied name before its other port",
        deny(domains=("a.test",)),
        allow(domains=("a.test",), ports=((8443, 8443),)),
    ),
    (
        "a special network before a part of it",
        allow(addresses=networks("10.0.0.0/8")),
        allow(addresses=networks("10.1.0.0/16")),
    ),
]

NOT_COVERED: list[tuple[str, Rule, Rule]] = [
    ("a name before its tree", deny(domains=("a.test",)), allow(domains=(".a.test",))),
    ("a star before its apex", deny(domains=("*.a.test",)), allow(domains=(".a.test",))),
    ("a name that ends alike", deny(domains=("*.a.test",)), allow(domains=("ba.test",))),
    ("something before everything", deny(domains=("a.test",)), allow()),
    (
        "a smaller network before a larger one",
        deny(addresses=networks("10.1.0.0/16")),
        allow(addresses=networks("10.0.0.0/8")),
    ),
    ("a network of the other version", deny(addresses=networks("0.0.0.0/0")), allow(addresses=networks("::/0"))),
    ("one port before another", deny(ports=((80, 80),)), allow(ports=((443, 443),))),
    ("a port before any", deny(ports=((80, 80),)), allow()),
    ("one point before all", deny(via=frozenset([Point.DNS])), allow()),
    ("other HTTP", allow(http=GET), allow(http=HttpConditions(paths=("/",)))),
    ("with HTTP before without", allow(http=GET), allow()),
    ("with clients before without", allow(clients=("web",)), allow()),
    (
        "an allow rule without ports before one that opens a port",
        allow(domains=("a.test",)),
        allow(domains=("a.test",), ports=((22, 22),)),
    ),
    ("an allow rule without addresses before one that opens them", allow(), allow(addresses=networks("10.0.0.0/8"))),
    (
        "any address before one that is protected",
        allow(addresses=networks("0.0.0.0/0")),
        allow(addresses=networks("10.0.0.0/8")),
    ),
    (
        "link-local before the metadata service",
        allow(addresses=networks("169.254.0.0/16")),
        allow(addresses=networks("169.254.169.254/32")),
    ),
    ("everything before names of addresses", allow(), allow(domains=("8-8-8-8.nip.io",))),
    (
        "a deny rule for ports before an allow rule that DNS counts",
        deny(ports=((443, 443),)),
        allow(ports=((443, 443),)),
    ),
    ("a deny rule for tools before an allow rule that DNS counts", deny(tools=("curl",)), allow(tools=("curl",))),
]


@pytest.mark.parametrize(("earlier", "later"), [row[1:] for row in COVERED], ids=[row[0] for row in COVERED])
def test_covered(earlier: Rule, later: Rule) -> None:
    """A rule is covered by an earlier one that admits all that it admits."""
    assert covers(earlier, later)


@pytest.mark.parametrize(("earlier", "later"), [row[1:] for row in NOT_COVERED], ids=[row[0] for row in NOT_COVERED])
def test_not_covered(earlier: Rule, later: Rule) -> None:
    """A rule is not covered when something could get past the earlier one."""
    assert not covers(earlier, later)


def test_the_first_rule_that_covers_is_named() -> None:
    """Each rule that can never match is told once, with the first rule in its way; rules on trial stop nothing."""
    ruleset = (
        deny(name="trial", report=True),
        allow(name="a", domains=(".a.test",)),
        deny(name="b", domains=("b.a.test",)),
        allow(name="all"),
        deny(name="c", domains=("c.a.test",)),
    )
    assert [(rule.name, earlier.name) for rule, earlier in shadowed(ruleset)] == [("b", "a"), ("c", "a")]


GROUPED = (
    ClientGroup(name="net", addresses=networks("10.0.0.0/8")),
    ClientGroup(name="rack", addresses=networks("10.2.0.0/16")),
    ClientGroup(name="batch", addresses=networks("10.2.0.0/16"), users=frozenset(["batch"])),
    ClientGroup(name="staff", users=frozenset(["anna", "bert"])),
    ClientGroup(name="anna", users=frozenset(["anna"])),
    ClientGroup(name="anna at home", addresses=networks("192.0.2.0/24"), users=frozenset(["anna"])),
    ClientGroup(name="shown", users=frozenset(["anna"]), certificates=frozenset(["CN=anna"])),
    ClientGroup(name="machines", certificates=frozenset(["CN=anna", "CN=batch"])),
)
PROXY = frozenset((Point.PROXY,))
ONE_GROUP_IN_ANOTHER = [
    # earlier, later, whether an allow rule covers, whether a deny rule covers one that allows and one that denies
    ("net", "rack", True, True, True),
    ("rack", "net", False, False, False),
    ("net", "batch", True, True, True),
    ("rack", "batch", True, True, True),
    ("batch", "rack", False, False, False),
    ("batch", "batch", True, True, True),
    # Where only addresses are known, allow counts for everybody and deny for nobody.
    ("staff", "anna", True, False, True),
    ("anna", "staff", False, False, False),
    ("staff", "anna at home", True, False, False),
    ("anna", "shown", True, False, True),
    ("machines", "shown", True, False, True),
    ("shown", "anna", False, False, False),
    ("staff", "net", False, False, False),
    ("staff", "nobody described", False, False, False),
]


@pytest.mark.parametrize(("outer", "inner", "allowing", "denying", "both"), ONE_GROUP_IN_ANOTHER)
def test_groups(outer: str, inner: str, allowing: bool, denying: bool, both: bool) -> None:
    """A rule for a group covers a rule for another that lies within it, in every kind of condition."""
    earlier: dict[str, Any] = {"clients": (outer,)}
    later: dict[str, Any] = {"clients": (inner,)}
    assert covers(allow(**earlier), allow(**later), GROUPED) is allowing
    assert covers(deny(**earlier), allow(**later), GROUPED) is denying
    assert covers(deny(**earlier), deny(**later), GROUPED) is both
    # Without the resolver, what lies within is covered either way.
    assert covers(deny(**earlier, via=PROXY), allow(**later, via=PROXY), GROUPED) is allowing


def test_a_rule_for_users_does_not_cover_everybody() -> None:
    """What others reach by a later rule stays theirs."""
    assert not covers(deny(clients=("batch",)), allow(), GROUPED)
    assert covers(deny(), allow(clients=("batch",)), GROUPED)
    assert covers(allow(clients=("net", "staff")), allow(clients=("batch", "anna")), GROUPED)
    assert not covers(allow(clients=("net",)), allow(clients=("batch", "anna")), GROUPED)


def _one_value_each(request: Request) -> Request | None:
    """Return the request when it has no chain, at most one address and at most one claim about the tool."""
    match request:
        case DnsAnswer():
            single = not request.chain and len(request.addresses) == 1
        case Dial():
            single = not request.chain and _one_value_each(request.origin) is not None
        case HttpRequest():
            single = request.hello is None and len({name for name, _ in request.headers}) == len(request.headers)
            single = single and "%" not in request.path and "//" not in request.path and ";" not in request.path
        case Tunnel():
            single = True
        case _:
            single = False
    return request if single else None


_CONDITIONS = ("via", "clients", "domains", "registered_domains", "addresses", "address_classes", "ports")
_MORE_CONDITIONS = ("categories", "lists", "tools", "qtypes", "http")


@st.composite
def widened(draw: st.DrawFn, rule: Rule) -> Rule:
    """Return a rule of either action with fewer conditions than another, or with more values in one."""
    other = draw(rules())
    fields: dict[str, Any] = {}
    for name in (*_CONDITIONS, *_MORE_CONDITIONS):
        value = getattr(rule, name)
        match draw(st.sampled_from(("keep", "keep", "drop", "extend"))):
            case "keep":
                fields[name] = value
            case "extend" if isinstance(value, tuple) and value:
                fields[name] = tuple(dict.fromkeys((*value, *getattr(other, name))))
    return Rule(name="earlier", action=draw(st.sampled_from(Verdict)), **fields)


@given(
    rules(name="later").flatmap(lambda rule: st.tuples(widened(rule), st.just(rule))), st.lists(requests, max_size=8)
)
def test_a_covered_rule_changes_no_verdict(pair: tuple[Rule, Rule], asked: list[Request]) -> None:
    """When an earlier rule is said to cover a later one, leaving the later one out changes no final verdict."""
    earlier, later = pair
    if not covers(earlier, later, GROUPS):
        return
    for verdict in Verdict:
        default = dict.fromkeys(Point, verdict)
        both = Policy(rules=(earlier, later), clients=GROUPS, default=default, lists=SNAPSHOT)
        one = Policy(rules=(earlier,), clients=GROUPS, default=default, lists=SNAPSHOT)
        for request in asked:
            decision = both.decide(request)
            if _one_value_each(request) is not None and not decision.pending:
                assert decision.verdict is one.decide(request).verdict
