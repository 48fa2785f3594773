"""The policy: its laws, and what a table cannot say. What it decides case by case is in `test_corpus.py`."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Fact, Point, Reason, Tls, Verdict, with_evidence
from gateway.domainset import NoLists
from gateway.names import embedded_addresses
from gateway.policy import Policy
from gateway.request import Client, DnsAnswer, DnsQuery, Flaw, HttpRequest, Request, TlsHello, Tunnel
from gateway.rule import HttpConditions, Rule
from tests.builders import (
    TXT,
    a_client,
    a_dial,
    a_hello,
    a_policy,
    a_query,
    a_request,
    a_tunnel,
    allow,
    an_address,
    an_answer,
    deny,
    networks,
)
from tests.naive_lists import NaiveLists
from tests.naive_policy import NaivePolicy, outcome_of
from tests.snapshots import snapshot_of
from tests.strategies import CONDITIONS, GROUPS, LISTS, answers, defaults, queries, requests, rule_lists, rules

SNAPSHOT = snapshot_of(LISTS)
NAIVE_LISTS = NaiveLists(LISTS)


# -- the engine and its oracle --------------------------------------------------------------------------------------


@given(
    rule_lists(), defaults, st.sampled_from((False, False, False, True)), st.lists(requests, min_size=10, max_size=40)
)
def test_engine_equals_naive_walk(
    ruleset: tuple[Rule, ...], default: dict[Point, Verdict], report: bool, asked: list[Request]
) -> None:
    """The index of bit masks decides as a walk over the rules, one condition after the other, does."""
    policy = Policy(rules=ruleset, clients=GROUPS, default=default, report=report, lists=SNAPSHOT)
    naive = NaivePolicy(ruleset, GROUPS, default, report, NAIVE_LISTS)
    for request in asked:
        expected = naive.decide(request)
        decision = policy.decide(request)
        assert outcome_of(decision, expected.protection) == expected, decision


@pytest.mark.parametrize("condition", CONDITIONS)
@settings(max_examples=25)
@given(st.data())
def test_each_condition_equals_its_naive_reading(
    condition: st.SearchStrategy[dict[str, Any]], data: st.DataObject
) -> None:
    """A condition by itself, for allow and for deny, holds where a reading of it without an index says so."""
    fields = data.draw(condition)
    asked = data.draw(st.lists(requests, min_size=10, max_size=40))
    for action in Verdict:
        ruleset = (Rule(name="only", action=action, **fields),)
        default = dict.fromkeys(Point, Verdict.DENY if action is Verdict.ALLOW else Verdict.ALLOW)
        policy = Policy(rules=ruleset, clients=GROUPS, default=default, lists=SNAPSHOT)
        naive = NaivePolicy(ruleset, GROUPS, default, False, NAIVE_LISTS)
        for request in asked:
            expected = naive.decide(request)
            decision = policy.decide(request)
            assert outcome_of(decision, expected.protection) == expected, decision


@given(rule_lists(), defaults, st.booleans(), requests)
def test_total_and_deterministic(
    ruleset: tuple[Rule, ...], default: dict[Point, Verdict], report: bool, request: Request
) -> None:
    """A request gets one decision, never `internal-error`, and the same from a policy that has seen others."""
    policy = Policy(rules=ruleset, clients=GROUPS, default=default, report=report, lists=SNAPSHOT)
    first = policy.decide(request)
    dials_elsewhere = first.reason is Reason.INTERNAL_ERROR and first.detail.startswith("asked to dial")
    assert first.reason is not Reason.INTERNAL_ERROR or dials_elsewhere
    for other in (a_query(), a_tunnel(), a_hello(), a_request(), a_dial()):
        policy.decide(other)
    again = Policy(rules=ruleset, clients=GROUPS, default=default, report=report, lists=SNAPSHOT)
    assert policy.decide(request) == first == again.decide(request)


@given(
    rule_lists(),
    defaults,
    st.sampled_from((False, False, False, True)),
    st.lists(queries | answers, min_size=10, max_size=60),
)
def test_what_was_decided_before_makes_no_difference(
    ruleset: tuple[Rule, ...], default: dict[Point, Verdict], report: bool, asked: list[DnsQuery | DnsAnswer]
) -> None:
    """A DNS query or answer is decided, evidence and all, as by a policy that has never seen another one."""

    def fresh() -> Policy:
        return Policy(rules=ruleset, clients=GROUPS, default=default, report=report, lists=SNAPSHOT)

    policy = fresh()
    for request in (*asked, *asked):
        expected = fresh().decide(request)
        if isinstance(request, DnsQuery):
            assert with_evidence(*policy.decide_query(request)) == expected
        elif not request.chain and policy.passes(request.client, request.name, request.qtype, request.addresses):
            assert (expected.verdict, expected.enforced, expected.reported) == (Verdict.ALLOW, True, ())
        assert policy.decide(request) == expected


def test_ordinary_answers_pass_once_one_was_decided() -> None:
    """What the next answer to the same kind of question is told without a decision, and what it is not."""
    rules = (deny(name="odd", qtypes=(TXT,)), deny(name="listed", categories=("malware",)))
    policy = Policy(rules=rules, clients=GROUPS, default={Point.DNS: Verdict.ALLOW}, lists=SNAPSHOT)
    public, private, listed = ((ip_address(each),) for each in ("1.1.1.1", "10.0.0.1", "93.184.215.14"))
    client = a_query().client
    assert not policy.passes(client, "one.example", 1, public)
    assert not policy.decide(DnsAnswer(client=client, name="one.example", qtype=1, addresses=public)).denied
    assert policy.passes(client, "another.example", 1, public)
    assert not policy.passes(client, "another.example", 1, private)
    assert not policy.passes(client, "another.example", 1, public + private)
    assert not policy.passes(client, "another.example", 1, listed)
    assert not policy.passes(client, "another.example", 28, public)
    assert policy.decide(DnsAnswer(client=client, name="one.example", qtype=TXT)).denied
    assert not policy.passes(client, "one.example", TXT, ())


wild_text = st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape"))
wild_client = st.builds(
    Client,
    address=st.ip_addresses(),
    user=st.none() | wild_text,
    certificate=st.none() | wild_text,
)
wild_host = wild_text | st.ip_addresses()
wild_tunnel = st.builds(
    Tunnel, client=wild_client, host=wild_host, port=st.integers(-1, 70000), user_agent=wild_text, flaw=st.none()
)
wild_hello = st.builds(
    TlsHello,
    tunnel=wild_tunnel,
    server_names=st.lists(wild_text, max_size=2).map(tuple),
    alpn=st.just(()),
    ech=st.booleans(),
    ja4=wild_text,
    tool=wild_text,
    flaw=st.none(),
)
wild_names = st.lists(wild_text, max_size=3).map(tuple)
wild_request: st.SearchStrategy[Request] = st.one_of(
    st.builds(DnsQuery, client=wild_client, name=wild_text, qtype=st.integers(0, 65535), flaw=st.none()),
    st.builds(
        DnsAnswer,
        client=wild_client,
        name=wild_text,
        qtype=st.integers(0, 65535),
        chain=wild_names,
        addresses=st.lists(st.ip_addresses(), max_size=3).map(tuple),
        trusted=st.booleans(),
    ),
    wild_tunnel,
    wild_hello,
    st.builds(
        HttpRequest,
        client=wild_client,
        host=wild_host,
        port=st.integers(-1, 70000),
        scheme=st.sampled_from(("http", "https", "ftp")) | wild_text,
        method=wild_text,
        path=wild_text,
        authorities=wild_names,
        headers=st.lists(st.tuples(wild_text, wild_text), max_size=3).map(tuple),
        user_agent=wild_text,
        body_length=st.none() | st.integers(-1),
        hello=st.none() | wild_hello,
        flaw=st.none(),
    ),
)
EVERY_CONDITION = (
    deny(name="1", registered_domains=("example.com",), domains=(".example.com",), clients=("web",)),
    deny(name="2", http=HttpConditions(methods=frozenset(["POST"]), paths=("/a/**",), headers=(("x", "*y*"),))),
    deny(name="3", http=HttpConditions(user_agents=("*curl*",), content_types=("text/*",))),
    deny(name="4", categories=("malware",), lists=("good",)),
    allow(name="5", addresses=networks("10.0.0.0/8", "fc00::/7"), ports=((1, 1023),), tools=("curl",)),
    allow(name="6", http=HttpConditions(paths=("/**",), max_body=10), categories=("trusted",)),
    deny(name="7", http=HttpConditions(response_types=("*/x",), file_types=frozenset(["pe"]))),
)


@given(wild_request, st.booleans())
def test_never_raises_whatever_the_readers_let_through(request: Request, default_allow: bool) -> None:
    """Any text, even what no reader would pass on, gets a decision and causes no error inside."""
    default = Verdict.ALLOW if default_allow else Verdict.DENY
    policy = a_policy(*EVERY_CONDITION, default=default, clients=GROUPS, lists=SNAPSHOT)
    assert policy.decide(request).reason is not Reason.INTERNAL_ERROR
    if isinstance(request, Tunnel | TlsHello | HttpRequest):
        address = None if isinstance(request.host, str) else request.host
        dial = a_dial(address or "93.184.215.14", origin=request)
        assert policy.decide(dial).reason is not Reason.INTERNAL_ERROR


@given(rule_lists(), rules(name="added"), st.integers(0, 6), defaults, requests)
def test_a_deny_rule_more_allows_nothing_more(
    ruleset: tuple[Rule, ...], added: Rule, at: int, default: dict[Point, Verdict], request: Request
) -> None:
    """What is denied stays denied when a deny rule is added, wherever it stands in the order."""
    added = Rule(name="added", action=Verdict.DENY, **_conditions_of(added))
    before = Policy(rules=ruleset, clients=GROUPS, default=default, lists=SNAPSHOT)
    after = Policy(rules=(*ruleset[:at], added, *ruleset[at:]), clients=GROUPS, default=default, lists=SNAPSHOT)
    if before.decide(request).denied:
        assert after.decide(request).denied


def _conditions_of(rule: Rule) -> dict[str, Any]:
    return {
        name: getattr(rule, name)
        for name in ("via", "clients", "domains", "registered_domains", "addresses", "address_classes", "ports")
    } | {name: getattr(rule, name) for name in ("categories", "lists", "tools", "qtypes", "http")}


@given(
    rule_lists(),
    defaults,
    requests,
    st.sampled_from(("www.example.com", "*.example.com", "evil.test", "93.184.215.14", "0.0.0.0/1", "evil.test/bad")),
)
def test_an_entry_more_on_a_deny_list_allows_nothing_more(
    ruleset: tuple[Rule, ...], default: dict[Point, Verdict], request: Request, entry: str
) -> None:
    """What is denied stays denied when an entry is added to a list that only deny rules speak of."""
    kept = tuple(
        rule
        for rule in ruleset
        if rule.action is Verdict.DENY or ("bad" not in rule.lists and "malware" not in rule.categories)
    )
    categories, entries = LISTS["bad"]
    more = NaiveLists({**LISTS, "bad": (categories, (*entries, entry))})
    before = Policy(rules=kept, clients=GROUPS, default=default, lists=NAIVE_LISTS)
    after = Policy(rules=kept, clients=GROUPS, default=default, lists=more)
    if before.decide(request).denied:
        assert after.decide(request).denied


@given(rule_lists(), defaults, requests)
def test_report_mode_enforces_nothing_of_its_own(
    ruleset: tuple[Rule, ...], default: dict[Point, Verdict], request: Request
) -> None:
    """In report mode only built-in protections and flaws deny; rules and default record."""
    decision = Policy(rules=ruleset, clients=GROUPS, default=default, report=True, lists=SNAPSHOT).decide(request)
    if decision.denied:
        assert not decision.rule
        assert decision.reason not in (Reason.RULE, Reason.DEFAULT_DENY, Reason.LISTED)


@given(rule_lists(), defaults, requests)
def test_only_an_explicit_rule_reaches_a_special_address(
    ruleset: tuple[Rule, ...], default: dict[Point, Verdict], request: Request
) -> None:
    """With no allow rule that names addresses or classes, no connection is made but to global addresses."""
    plain = tuple(
        rule for rule in ruleset if rule.action is Verdict.DENY or not (rule.addresses or rule.address_classes)
    )
    policy = Policy(rules=plain, clients=GROUPS, default=default, lists=SNAPSHOT)
    for address in ("10.0.0.1", "169.254.169.254", "::1", "::ffff:8.8.8.8", "0.0.0.0", "100.64.0.1", "224.0.0.1"):
        if isinstance(request, Tunnel | TlsHello | HttpRequest):
            assert policy.decide(a_dial(address, origin=request)).denied
        if isinstance(request, DnsAnswer) and not request.trusted:
            assert policy.decide(replace(request, addresses=(*request.addresses, an_address(address)))).denied


# -- what fails ------------------------------------------------------------------------------------------------------


class _BrokenLists(NoLists):
    def lookup_name(self, name: str) -> tuple[int, int]:
        raise OSError("the map is gone")


REQUESTS: list[Callable[[], Request]] = [a_query, an_answer, a_tunnel, a_hello, a_request, a_dial]


@pytest.mark.parametrize("ask", REQUESTS, ids=lambda ask: ask.__name__)
def test_an_exception_is_a_denial(ask: Callable[[], Request]) -> None:
    """Whatever goes wrong inside, at any stage, the answer is an enforced denial that says what it was."""
    policy = a_policy(deny(lists=("x",)), default=Verdict.ALLOW, report=True, lists=_BrokenLists())
    decision = policy.decide(ask())
    assert decision.denied
    assert decision.reason is Reason.INTERNAL_ERROR
    assert decision.detail == "OSError: the map is gone"


def test_an_exception_is_a_denial_with_the_evidence_apart_too() -> None:
    """A query for which something goes wrong inside is denied, whichever way it is decided."""
    policy = a_policy(deny(lists=("x",)), default=Verdict.ALLOW, report=True, lists=_BrokenLists())
    decision, matched = policy.decide_query(a_query())
    assert decision == policy.decide(a_query())
    assert (decision.denied, matched) == (True, None)


def test_what_is_no_request_is_denied() -> None:
    """A value that is no request is denied, as any other mistake in an adapter."""
    decision = a_policy(default=Verdict.ALLOW).decide("GET / HTTP/1.1")  # type: ignore[arg-type]  # on purpose
    assert decision.denied
    assert decision.reason is Reason.INTERNAL_ERROR


def test_no_other_address_than_the_one_asked_for_is_dialled() -> None:
    """A dial to another address than the literal one that was asked for is a mistake of ours, and denied."""
    policy = a_policy(allow(addresses=networks("0.0.0.0/0")))
    origin = a_tunnel(an_address("8.8.8.8"))
    assert policy.decide(a_dial("8.8.8.8", origin)).verdict is Verdict.ALLOW
    assert policy.decide(a_dial("8.8.4.4", origin)).reason is Reason.INTERNAL_ERROR


# -- evidence --------------------------------------------------------------------------------------------------------


def test_names_on_one_list_share_a_decision() -> None:
    """Names that a rule denies since they are on one list are decided by one object, with their entries beside it."""
    policy = a_policy(deny(categories=("c2",)), default=Verdict.ALLOW, lists=SNAPSHOT)
    policy.decide_query(a_query("example.com"))
    names = ("a.example.com", "b.example.com")
    (first, one), (second, other) = (policy.decide_query(a_query(name)) for name in names)
    assert first is second
    assert first.matched is not None
    assert (first.detail, first.matched.list, first.matched.entry) == ("", "worse", "")
    for matched in (one, other):
        assert matched is not None
        assert (matched.line, matched.told) == (1, "example.com is on the list worse")


@given(rule_lists(), defaults, requests, st.booleans())
def test_what_has_to_be_inspected_is_never_spliced(
    ruleset: tuple[Rule, ...], default: dict[Point, Verdict], request: Request, report: bool
) -> None:
    """Whatever the rules say, a host that has to be inspected is; nothing else about any decision changes."""
    given: dict[str, Any] = {"rules": ruleset, "clients": GROUPS, "default": default, "report": report}
    plain = Policy(**given, lists=SNAPSHOT).decide(request)
    decision = Policy(**given, lists=SNAPSHOT, inspected=(".example.com",)).decide(request)
    host = request.name if isinstance(request, DnsQuery | DnsAnswer) else request.host
    inside = isinstance(host, str) and (host == "example.com" or host.endswith(".example.com"))
    if not inside:
        assert decision == plain
    elif isinstance(request, Tunnel | TlsHello):
        assert decision.tls is not Tls.SPLICE
        assert decision == replace(plain, tls=decision.tls) or plain.reason is Reason.ECH
    else:
        assert decision == plain


def test_a_network_opens_no_txt_records() -> None:
    """An allow rule for addresses alone says nothing for query types that have none."""
    policy = a_policy(allow(name="net", addresses=networks("93.184.215.0/24")))
    assert policy.decide(a_query()).pending == (Fact.ADDRESS,)
    assert policy.decide(a_query(qtype=TXT)).denied
    assert policy.decide(an_answer("t.evil.test", qtype=TXT)).denied
    assert policy.decide(an_answer("www.example.com")).verdict is Verdict.ALLOW, "NODATA for A"


def test_http_conditions_are_judged_for_names_of_the_chain() -> None:
    """A deny rule that names a CNAME target still wants its HTTP conditions to hold."""
    rule = deny(domains=("tracker.test",), http=HttpConditions(methods=frozenset(["POST"])))
    policy = a_policy(rule, default=Verdict.ALLOW)
    get, post = a_request("shop.test"), a_request("shop.test", method="POST")
    assert policy.decide(a_dial(origin=get, chain=("tracker.test",))).verdict is Verdict.ALLOW
    assert policy.decide(a_dial(origin=post, chain=("tracker.test",))).denied


def test_addresses_may_be_on_different_lists_of_a_category() -> None:
    """An allow rule for a category holds when each address is on some list of it."""
    lists = snapshot_of({"one": (("ours",), ("8.8.8.8",)), "two": (("ours",), ("9.9.9.9",))})
    policy = a_policy(allow(categories=("ours",)), lists=lists)
    assert policy.decide(an_answer("dns.test", "8.8.8.8", "9.9.9.9")).verdict is Verdict.ALLOW
    assert policy.decide(an_answer("dns.test", "8.8.8.8", "1.1.1.1")).denied


def test_a_second_user_agent_field_is_evidence_too() -> None:
    """A tool named by any User-Agent field is seen, whichever the adapter took for the first."""
    policy = a_policy(deny(tools=("curl",)), default=Verdict.ALLOW)
    request = a_request(user_agent="Foo/1", headers=(("user-agent", "curl/8"),))
    assert policy.decide(request).reason is Reason.TOOL


def test_groups_of_says_who_a_client_is() -> None:
    """A client belongs to every group whose kinds all match; where only addresses are known, they alone count."""
    policy = a_policy(clients=GROUPS)
    stolen = a_client("10.1.0.5", user="batch")
    assert policy.groups_of(stolen) == ("web",)
    assert policy.groups_of(a_client("10.2.0.5", user="batch")) == ("batch",)
    assert policy.groups_of(a_client("10.2.0.5"), Point.DNS) == ("batch", "staff")


def test_many_clients_do_not_grow_the_cache_without_bound() -> None:
    """A flood of source addresses is decided right, and forgotten."""
    policy = a_policy(allow(clients=("web",)), clients=GROUPS)
    for low in range(5000):
        client = a_client(f"10.1.{low // 250}.{low % 250}")
        assert policy.decide(a_tunnel(client=client)).verdict is Verdict.ALLOW
    assert len(policy._index._clients) <= 4096  # the bound is what is tested


def test_names_of_the_universe_are_what_they_seem() -> None:
    """The names that the properties use do stand for addresses."""
    assert embedded_addresses("169-254-169-254.nip.io") == (an_address("169.254.169.254"),)


def test_pins_are_of_rules() -> None:
    """A rule's pins and its size of answers come with its decision; in report mode a missing pin only records."""
    rule = allow(pins=("x",), http=HttpConditions(max_response=5))
    decision = a_policy(rule).decide(a_dial(origin=a_request(scheme="https")))
    assert (decision.pins, decision.max_response) == (("x",), 5)
    flaw = Flaw(Reason.CERTIFICATE_PIN, "not proven")
    assert a_policy(rule).decide(a_request(flaw=flaw)).denied
    assert not a_policy(rule, report=True).decide(a_request(flaw=flaw)).denied


ASKED_AGAIN = st.lists(
    st.tuples(
        st.sampled_from(["www.example.com", "example.com", "evil.example", "other.test"]),
        st.sampled_from(["", "curl/8.5.0", "Wget/1.21", "x" * 300]),
        st.sampled_from([None, "ann"]),
        st.sampled_from([443, 8443]),
        st.sampled_from([(), ("h2",), ("a", "b", "c", "d", "e")]),
        st.sampled_from(["93.184.215.14", "10.0.0.1", "2606:2800::1"]),
        st.sampled_from([(), ("evil.example",)]),
    ),
    min_size=1,
    max_size=6,
)


@given(asked=ASKED_AGAIN, found=rule_lists())
def test_what_is_asked_again_is_decided_the_same(asked: list[tuple[Any, ...]], found: list[Rule]) -> None:
    """Of a policy that has decided much before, every answer is that of one that never decided anything."""
    old = a_policy(*found, lists=SNAPSHOT)
    for host, agent, user, port, alpn, address, chain in asked * 2:
        tunnel = a_tunnel(host, port, client=a_client(user=user), user_agent=agent)
        hello = a_hello(host, tunnel=tunnel, alpn=alpn)
        for request in (tunnel, hello, a_dial(address, hello, chain=chain)):
            assert old.decide(request) == a_policy(*found, lists=SNAPSHOT).decide(request)


def test_a_hidden_name_is_denied_with_what_to_do() -> None:
    """Browsers send the extension whatever they do with it, so its denial is the first that many people meet."""
    decision = a_policy(default=Verdict.ALLOW).decide(a_hello(ech=True))
    assert decision.reason is Reason.ECH
    assert "tls: inspect" in decision.detail
    assert "turn ECH off in the client" in decision.detail
