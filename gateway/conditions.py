"""Conditions: from what one stage knows to the rules that hold, or may hold.

Pure: no I/O, no clock. Facts become known stage by stage; a condition therefore yields the rules for which it is
true, and for each fact still missing the rules for which that fact will tell.

Where a condition meets several values (every name of a CNAME chain, every address of an answer, every claim about the
tool), a deny rule matches if *any* value does and an allow rule only if *every* value does.
"""

from dataclasses import dataclass

from gateway.addresses import IPAddress
from gateway.decision import Fact, Match, Point, Reason
from gateway.domainset import Lists
from gateway.request import Client, HttpRequest, HttpResponse
from gateway.rule import Rule
from gateway.ruleindex import RuleIndex, http_mismatch, response_mismatch

ADDRESS_TYPES = frozenset((1, 28, 64, 65, 255))
"""A, AAAA, SVCB, HTTPS, ANY: the query types whose answers hold addresses."""

type Condition = tuple[Reason, int, int, int, int]
"""Reason for a near miss; rules for which it is true; rules that wait for the address, the tool, HTTP.

With the request known, what they still wait for of HTTP is the answer.
"""


@dataclass(slots=True)
class Barrier:
    """A built-in protection that applies."""

    reason: Reason
    detail: str
    lifted_by: int
    """Allow rules that switch it off."""


@dataclass(slots=True)
class Facts:
    """What one stage knows, in the terms of the conditions."""

    point: Point
    client: Client
    host: str | None = None
    """The name asked for; None when the destination is an address."""
    chain: tuple[str, ...] = ()
    addresses: tuple[IPAddress, ...] | None = None
    """None: not known yet."""
    port: int = 0
    tools: tuple[str, ...] = ()
    tools_final: bool = False
    qtype: int = 0
    http: HttpRequest | None = None
    response: HttpResponse | None = None
    last: bool = False
    """No later stage will learn more."""
    carries_tls: bool = False
    """The decision is about a tunnel: say how to carry it."""
    barrier: Barrier | None = None


def tightest(first: Barrier | None, second: Barrier | None) -> Barrier | None:
    """Join two protections: the first gives the reason, and a rule has to lift both."""
    if first is None or second is None:
        return first or second
    return Barrier(first.reason, first.detail, first.lifted_by & second.lifted_by)


class Conditions:
    """Evaluates the conditions of some rules over facts and lists."""

    def __init__(self, rules: tuple[Rule, ...], index: RuleIndex, lists: Lists) -> None:
        self._rules = rules
        self._index = index
        self._lists = lists
        self._lists_of: dict[int, int] = {}

    def evaluate(self, facts: Facts) -> list[Condition]:
        """Evaluate every condition that some rule uses and this enforcement point can judge."""
        index = self._index
        found: list[Condition] = []
        if index.with_clients:
            found.append((Reason.CLIENT_UNKNOWN, index.client_rules(facts.client, facts.point), 0, 0, 0))
        named = index.all
        if index.with_domains:
            named = self._named(facts)
            found.append((Reason.DEFAULT_DENY, named, 0, 0, 0))
        if index.with_addresses:
            found.append(self._addressed(facts))
        if index.with_listings:
            found += self._listed(facts)
        if facts.point is Point.DNS:
            if index.with_qtypes:
                found.append((Reason.QTYPE, index.qtype_rules(facts.qtype), 0, 0, 0))
            return found
        if index.with_ports:
            found.append((Reason.PORT, index.port_rules(facts.port), 0, 0, 0))
        if index.with_tools:
            any_of, every = index.tool_rules(facts.tools)
            true = any_of & index.deny | every & index.allow
            found.append((Reason.TOOL, true, 0, 0 if facts.tools_final else index.with_tools & ~true, 0))
        if index.with_http:
            found += self._over_http(facts, named)
        return found

    def _named(self, facts: Facts) -> int:
        index = self._index
        if facts.host is None:
            return index.all & ~index.with_domains
        named = index.name_rules(facts.host)
        for name in facts.chain:
            named |= index.name_rules(name) & index.deny
        return named

    def _addressed(self, facts: Facts) -> Condition:
        index = self._index
        free = index.all & ~index.with_addresses
        if facts.addresses is None:
            return Reason.DEFAULT_DENY, free, index.with_addresses, 0, 0
        if not facts.addresses:
            # There will never be one. A deny does not count. An allow does when there could have been (NODATA denied
            # for AAAA would take the name's A records away too), else only when the rule names the domain: a network
            # must not let the TXT records of the whole world through.
            allowed = index.allow if facts.qtype in ADDRESS_TYPES else index.allow & index.with_domains
            return Reason.DEFAULT_DENY, free | allowed, 0, 0, 0
        any_of, every = 0, index.all
        for address in facts.addresses:
            holds = index.address_rules(address)
            any_of |= holds
            every &= holds
        return Reason.DEFAULT_DENY, any_of & index.deny | every & index.allow, 0, 0, 0

    def _listed(self, facts: Facts) -> list[Condition]:
        """Evaluate `categories` and `lists`."""
        index = self._index
        any_of, every, held, scoped = self._listings(facts)
        found: list[Condition] = []
        for concerned, rules_of in index.listings:
            if not concerned:
                continue
            true = index.all & ~concerned
            if any_of:
                allowed = index.all if held else 0
                for mask in held:
                    allowed &= rules_of(mask)
                true |= rules_of(any_of) & index.deny | (rules_of(every) | allowed) & index.allow
            by_url = rules_of(scoped) & concerned & ~true if scoped else 0
            if by_url and facts.point is Point.DNS:
                true |= by_url & index.allow
                by_url = 0
            elif by_url and facts.last:
                true |= by_url & index.deny
                by_url = 0
            waiting = concerned & ~true if facts.addresses is None else 0
            found.append((Reason.DEFAULT_DENY, true, waiting, 0, by_url))
        return found

    def _listings(self, facts: Facts) -> tuple[int, int, list[int], int]:
        """Return the lists that hold anything, the host or path, each address; and those with URLs on the host."""
        lists, http = self._lists, facts.http
        any_of = every = scoped = 0
        held: list[int] = []
        if facts.host is not None:
            any_of, scoped = lists.lookup_name(facts.host)
            every = any_of
            for name in facts.chain:
                any_of |= lists.lookup_name(name)[0]
        elif facts.addresses:
            scoped = lists.lookup_name(str(facts.addresses[0]))[1]
        if facts.addresses:
            held = [lists.lookup_address(address) for address in facts.addresses]
            for mask in held:
                any_of |= mask
        if scoped and http is not None:
            by_path = lists.lookup_path(str(http.host), http.path)
            any_of |= by_path
            every |= by_path and lists.lookup_path(str(http.host), http.path, wholly=True)
            scoped = 0
        return any_of, every, held, scoped

    def _over_http(self, facts: Facts, named: int) -> list[Condition]:
        index, http = self._index, facts.http
        free = index.all & ~index.with_http
        if http is None:
            if facts.last:  # spliced, and yet a rule wants to see the request: deny counts, allow does not
                return [(Reason.DEFAULT_DENY, free | index.deny, 0, 0, 0)]
            return [(Reason.DEFAULT_DENY, free, 0, 0, index.with_http)]
        missed: dict[Reason, int] = {}
        waiting = 0
        candidates = index.with_http & named
        while candidates:
            bit = candidates & -candidates
            candidates ^= bit
            rule = self._rules[bit.bit_length() - 1]
            assert rule.http is not None
            deny = bool(bit & index.deny)
            reason = http_mismatch(rule.http, http, deny=deny)
            found = reason or response_mismatch(rule.http, facts.response, deny=deny)
            if found is Fact.RESPONSE:
                waiting |= bit
            elif found is not None:
                missed[found] = missed.get(found, 0) | bit
        judged = [(reason, index.all & ~mask, 0, 0, 0) for reason, mask in missed.items()]
        return [*judged, (Reason.DEFAULT_DENY, index.all & ~waiting, 0, 0, waiting)] if waiting else judged

    def evidence(self, rule: Rule, facts: Facts) -> Match | None:
        """Return the list entry by which a rule matches, if it speaks of lists."""
        mask = self.lists_for(rule)
        if not mask:
            return None
        lists, http = self._lists, facts.http
        for name in (facts.host, *facts.chain):
            if name is not None and (found := lists.match_name(name, mask)):
                return found
        for address in facts.addresses or ():
            if found := lists.match_address(address, mask):
                return found
        return lists.match_path(str(http.host), http.path, mask) if http is not None else None

    def lists_for(self, rule: Rule) -> int:
        """Return the lists that a rule speaks of."""
        mask = self._lists_of.get(id(rule))  # by identity: hashing a rule costs more than the look-up
        if mask is None:
            mask = self._index.lists_of(rule) if rule.categories or rule.lists else 0
            if any(rule is known for known in self._rules):  # which live as long as this
                self._lists_of[id(rule)] = mask
        return mask
