"""The index: each condition by itself. That they work together is shown in `test_policy.py`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import AddressClass, IPAddress, classify
from gateway.decision import Fact, Point, Reason
from gateway.domainset import ListInfo
from gateway.names import registered_domain
from gateway.request import HttpRequest
from gateway.rule import ClientGroup, HttpConditions, Rule
from gateway.ruleindex import RuleIndex, http_mismatch, response_mismatch
from tests.builders import a_client, a_request, a_response, allow, an_address, deny, networks
from tests.strategies import ADDRESSES, NAMES


def an_index(*rules: Rule, groups: tuple[ClientGroup, ...] = (), lists: tuple[ListInfo, ...] = ()) -> RuleIndex:
    """Return an index of rules."""
    return RuleIndex(rules, groups, lists)


def positions(mask: int) -> set[int]:
    """Return the rules of a mask."""
    return {bit for bit in range(mask.bit_length()) if mask >> bit & 1}


def test_actions_and_points() -> None:
    """Each enforcement point walks the rules that it can judge."""
    index = an_index(
        allow(),
        deny(),
        allow(ports=((22, 22),)),
        deny(ports=((22, 22),)),
        deny(qtypes=(16,)),
        allow(via=frozenset([Point.DNS])),
        allow(via=frozenset([Point.PROXY, Point.FIREWALL])),
        deny(tools=("curl",)),
        deny(http=HttpConditions(paths=("/",))),
    )
    assert positions(index.allow) == {0, 2, 5, 6}
    assert positions(index.deny) == {1, 3, 4, 7, 8}
    assert positions(index.rules_at(Point.DNS)) == {0, 1, 2, 4, 5}
    assert positions(index.rules_at(Point.PROXY)) == {0, 1, 2, 3, 6, 7, 8}


def test_no_rules_at_all() -> None:
    """An index of nothing answers every question with nothing."""
    index = an_index()
    assert index.all == index.rules_at(Point.PROXY) == 0
    assert index.name_rules("a.test") == index.port_rules(80) == index.qtype_rules(1) == 0
    assert index.address_rules(an_address("8.8.8.8")) == 0
    assert index.client_rules(a_client(), Point.PROXY) == 0


def test_clients_are_forgotten_and_found_again() -> None:
    """The answer for a client is the same from the cache as it was at first, and it is kept by identity too."""
    group = ClientGroup(name="g", addresses=networks("10.0.0.0/8"), users=frozenset(["anna"]))
    index = an_index(allow(clients=("g",)), allow(), groups=(group,))
    for _ in range(2):
        assert positions(index.client_rules(a_client(user="anna"), Point.PROXY)) == {0, 1}
        assert positions(index.client_rules(a_client(user="bob"), Point.PROXY)) == {1}
        assert positions(index.client_rules(a_client(), Point.DNS)) == {0, 1}
        assert positions(index.client_rules(a_client("192.0.2.1", user="anna"), Point.PROXY)) == {1}


def test_clients_of_the_resolver_are_known_by_their_objects() -> None:
    """The first time and again, and whatever clients came before, each stands as it does by its address."""
    group = ClientGroup(name="web", addresses=networks("10.1.0.0/16"))
    index = an_index(deny(clients=("web",)), groups=(group,))
    for number in range(200):
        client = a_client(f"10.{number % 3}.0.{number}")
        for _ in range(2):
            assert index.dns_standing(client) == index.standing(client, Point.DNS)
            assert index.dns_standing(client)[1] is (number % 3 == 1)


def test_an_ipv6_client_is_not_the_ipv4_client_of_the_same_number() -> None:
    """Two clients whose addresses are the same number in different versions are two clients."""
    group = ClientGroup(name="g", addresses=networks("0.0.0.1/32"))
    index = an_index(allow(clients=("g",)), groups=(group,))
    assert positions(index.client_rules(a_client("0.0.0.1"), Point.PROXY)) == {0}
    assert positions(index.client_rules(a_client("::1"), Point.PROXY)) == set()


@given(
    st.lists(st.sampled_from(("example.com", "*.example.com", ".evil.test", "localhost")), max_size=4),
    st.lists(st.sampled_from(("example.com", "me.github.io")), max_size=2),
    st.sampled_from(NAMES),
)
def test_names(patterns: list[str], registered: list[str], name: str) -> None:
    """Domains and registered domains are two conditions; a rule without one of them satisfies it."""
    rule = allow(domains=tuple(patterns), registered_domains=tuple(registered))
    only_domains = positions(an_index(allow(domains=tuple(patterns))).name_rules(name)) == {0}
    only_registered = not registered or registered_domain(name) in registered
    assert (positions(an_index(rule).name_rules(name)) == {0}) == (only_domains and only_registered)


@given(st.sampled_from(ADDRESSES), st.lists(st.sampled_from(AddressClass), max_size=3))
def test_addresses(address: IPAddress, classes: list[AddressClass]) -> None:
    """Networks and classes are two conditions; a rule without one of them satisfies it."""
    nets = networks("10.0.0.0/8", "::/0")
    index = an_index(allow(), allow(addresses=nets), allow(address_classes=tuple(classes)))
    both = an_index(allow(addresses=nets, address_classes=tuple(classes)))
    found = positions(index.address_rules(address))
    assert 0 in found
    assert (1 in found) == any(address.version == net.version and address in net for net in nets)
    assert (2 in found) == (not classes or classify(address) in classes)
    assert (positions(both.address_rules(address)) == {0}) == (found == {0, 1, 2})


LIFTING: list[tuple[str, Rule, str, bool]] = [
    ("the class does", allow(address_classes=(AddressClass.PRIVATE,)), "10.0.0.1", True),
    ("another class does not", allow(address_classes=(AddressClass.LOOPBACK,)), "10.0.0.1", False),
    ("the address does", allow(addresses=networks("10.0.0.1/32")), "10.0.0.1", True),
    ("a network of the class does", allow(addresses=networks("10.0.0.0/8")), "10.0.0.1", True),
    ("a network of several classes does not", allow(addresses=networks("10.0.0.0/7")), "10.0.0.1", False),
    ("all addresses do not", allow(addresses=networks("0.0.0.0/0")), "127.0.0.1", False),
    (
        "a network around the metadata service does for others",
        allow(addresses=networks("169.254.0.0/16")),
        "169.254.1.1",
        True,
    ),
    (
        "a network around the metadata service does not for it",
        allow(addresses=networks("169.254.0.0/16")),
        "169.254.169.254",
        False,
    ),
    ("the metadata address does", allow(addresses=networks("169.254.169.254/32")), "169.254.169.254", True),
    ("the metadata class does", allow(address_classes=(AddressClass.METADATA,)), "fd00:ec2::254", True),
    ("the metadata address is no other", allow(addresses=networks("169.254.169.254/32")), "169.254.169.253", False),
    ("the rule without addresses does not", allow(), "10.0.0.1", False),
]


@pytest.mark.parametrize(("rule", "address", "lifts"), [row[1:] for row in LIFTING], ids=[row[0] for row in LIFTING])
def test_lifting(rule: Rule, address: str, lifts: bool) -> None:
    """A rule lifts a protection when it names the class, or a network that is nothing else."""
    found = an_index(rule).lifting(an_address(address), classify(an_address(address)))
    assert bool(found) is lifts


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 20)), max_size=5), st.integers(1, 120))
def test_ports(ranges: list[tuple[int, int]], port: int) -> None:
    """A rule's ports are single ones and ranges with both ends in."""
    rule = allow(ports=tuple((low, low + size) for low, size in ranges))
    expected = not ranges or any(low <= port <= low + size for low, size in ranges)
    assert (positions(an_index(rule, allow()).port_rules(port)) == {0, 1}) == expected


def test_lists_by_name_and_category() -> None:
    """Rules are found by the name of a list and by each of its categories."""
    lists = (ListInfo("a", "1", ("malware", "c2")), ListInfo("b", "1", ("malware",)), ListInfo("c", "1", ()))
    index = an_index(deny(categories=("c2",)), deny(categories=("malware",)), deny(lists=("c",)), deny(), lists=lists)
    (with_categories, by_category), (with_lists, by_list) = index.listings
    assert (positions(with_categories), positions(with_lists)) == ({0, 1}, {2})
    assert [positions(by_category(1 << bit)) for bit in range(3)] == [{0, 1}, {1}, set()]
    assert [positions(by_list(1 << bit)) for bit in range(3)] == [set(), set(), {2}]
    assert [positions(index.lists_of(rule)) for rule in (deny(categories=("malware",)), deny(lists=("c",)))] == [
        {0, 1},
        {2},
    ]


def test_tools() -> None:
    """Without evidence no rule about tools holds; with several pieces, any or every one of them may."""
    index = an_index(allow(tools=("curl", "go")), allow(tools=("go",)), allow())
    assert [positions(mask) for mask in index.tool_rules(())] == [{2}, {2}]
    assert [positions(mask) for mask in index.tool_rules(("go",))] == [{0, 1, 2}, {0, 1, 2}]
    assert [positions(mask) for mask in index.tool_rules(("go", "curl"))] == [{0, 1, 2}, {0, 2}]
    assert [positions(mask) for mask in index.tool_rules(("nobody-knows",))] == [{2}, {2}]


SEEN = {"media_types": ("text/html",), "file_types": frozenset(["zip"])}
TEXT = HttpConditions(response_types=("text/*",))
ZIP = HttpConditions(file_types=frozenset(["zip", "gzip"]))
RESPONSES: list[tuple[str, HttpConditions, dict[str, Any], Reason | Fact | None, Reason | Fact | None]] = [
    ("nothing about answers", HttpConditions(), SEEN, None, None),
    ("the media type", TEXT, SEEN, None, None),
    ("no media type", TEXT, {}, Reason.CONTENT_TYPE, Reason.CONTENT_TYPE),
    ("no media type, and that is what is named", HttpConditions(response_types=("application/*",)), {}, None, None),
    ("two media types, one right", TEXT, {"media_types": ("text/a", "b/c")}, Reason.CONTENT_TYPE, None),
    ("the file type", ZIP, SEEN, None, None),
    ("another file type", ZIP, {"file_types": frozenset(["pe"])}, Reason.FILE_TYPE, Reason.FILE_TYPE),
    ("two file types, one right", ZIP, {"file_types": frozenset(["pe", "zip"])}, Reason.FILE_TYPE, None),
    ("a file that cannot be seen", ZIP, {"file_types": frozenset(["unreadable"])}, Reason.FILE_TYPE, None),
    ("a file not seen yet", ZIP, {}, Fact.RESPONSE, Fact.RESPONSE),
    ("nothing comes", TEXT, {"content": False}, None, Reason.CONTENT_TYPE),
    ("no file comes", ZIP, {"content": False}, None, Reason.FILE_TYPE),
]


@pytest.mark.parametrize(
    ("conditions", "seen", "allow_rule", "deny_rule"),
    [row[1:] for row in RESPONSES],
    ids=[row[0] for row in RESPONSES],
)
def test_answers(
    conditions: HttpConditions,
    seen: dict[str, Any],
    allow_rule: Reason | Fact | None,
    deny_rule: Reason | Fact | None,
) -> None:
    """An allow rule needs every value of an answer to be named, a deny rule one, and one may wait for the answer."""
    response = a_response(**seen)
    assert response_mismatch(conditions, response, deny=False) is allow_rule
    assert response_mismatch(conditions, response, deny=True) is deny_rule
    assert response_mismatch(conditions, None, deny=True) is (Fact.RESPONSE if conditions.over_response else None)


def test_qtypes() -> None:
    """A rule for query types holds for those."""
    index = an_index(deny(qtypes=(16, 10)), deny())
    assert positions(index.qtype_rules(16)) == {0, 1}
    assert positions(index.qtype_rules(1)) == {1}


HTTP: list[tuple[str, HttpConditions, HttpRequest, Reason | None, Reason | None]] = [
    ("the method", HttpConditions(methods=frozenset(["GET"])), a_request(), None, None),
    (
        "another method",
        HttpConditions(methods=frozenset(["GET"])),
        a_request(method="POST"),
        Reason.METHOD,
        Reason.METHOD,
    ),
    (
        "the method in lower case",
        HttpConditions(methods=frozenset(["GET"])),
        a_request(method="get"),
        Reason.METHOD,
        None,
    ),
    ("the path", HttpConditions(paths=("/a/*",)), a_request(path="/a/b?c"), None, None),
    ("another path", HttpConditions(paths=("/a/*",)), a_request(path="/b"), Reason.PATH, Reason.PATH),
    ("a path of two readings", HttpConditions(paths=("/a/**",)), a_request(path="/a/%2e%2e/b"), Reason.PATH, None),
    ("no agent where any is wanted", HttpConditions(user_agents=("*",)), a_request(), None, None),
    (
        "no agent where one is wanted",
        HttpConditions(user_agents=("curl*",)),
        a_request(),
        Reason.USER_AGENT,
        Reason.USER_AGENT,
    ),
    (
        "two agents, one right",
        HttpConditions(user_agents=("curl*",)),
        a_request(headers=(("user-agent", "curl/8"), ("user-agent", "x"))),
        Reason.USER_AGENT,
        None,
    ),
    ("the header", HttpConditions(headers=(("x-a", "1*"),)), a_request(headers=(("x-a", "12"),)), None, None),
    ("no header", HttpConditions(headers=(("x-a", "*"),)), a_request(), Reason.HEADER, Reason.HEADER),
    (
        "two headers, one right",
        HttpConditions(headers=(("x-a", "1"),)),
        a_request(headers=(("x-a", "1"), ("x-a", "2"))),
        Reason.HEADER,
        None,
    ),
    (
        "one header of two",
        HttpConditions(headers=(("x-a", "*"), ("x-b", "*"))),
        a_request(headers=(("x-a", "1"),)),
        Reason.HEADER,
        Reason.HEADER,
    ),
    (
        "the media type with parameters",
        HttpConditions(content_types=("text/*",)),
        a_request(headers=(("content-type", "Text/Plain ;charset=x"),)),
        None,
        None,
    ),
    ("no media type", HttpConditions(content_types=("*",)), a_request(), Reason.CONTENT_TYPE, Reason.CONTENT_TYPE),
    (
        "a bracket in a media type is a bracket",
        HttpConditions(content_types=("text/[a-z]",)),
        a_request(headers=(("content-type", "text/x"),)),
        Reason.CONTENT_TYPE,
        Reason.CONTENT_TYPE,
    ),
    ("a body that fits", HttpConditions(max_body=10), a_request(body_length=10), None, None),
    (
        "a body that is larger",
        HttpConditions(max_body=10),
        a_request(body_length=11),
        Reason.BODY_SIZE,
        Reason.BODY_SIZE,
    ),
    (
        "a body of unknown length",
        HttpConditions(max_body=10),
        a_request(body_length=None),
        Reason.BODY_SIZE,
        Reason.BODY_SIZE,
    ),
    ("nothing wanted", HttpConditions(), a_request(), None, None),
]


@pytest.mark.parametrize(
    ("conditions", "request_", "allowing", "denying"), [row[1:] for row in HTTP], ids=[row[0] for row in HTTP]
)
def test_requests(
    conditions: HttpConditions, request_: HttpRequest, allowing: Reason | None, denying: Reason | None
) -> None:
    """The first condition that fails is named; an allow rule wants every value, a deny rule is content with one."""
    assert http_mismatch(conditions, request_, deny=False) is allowing
    assert http_mismatch(conditions, request_, deny=True) is denying
