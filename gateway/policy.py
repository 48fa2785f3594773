"""The policy: the only place where anything is allowed or denied.

Pure: no I/O, no clock, no logging. Rules are evaluated first match wins, but never one by one: every condition keeps
an index from its values to a bit mask with one bit per rule (the bit-vector classification of Lakshman and Stiliadis,
SIGCOMM 1998), so one fact costs one look-up whatever the number of rules, and ANDing the masks leaves the rules that
match (see `gateway.conditions`).
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import assert_never

from gateway.addresses import AddressClass, IPAddress, classify
from gateway.agreement import http_flaw, sni_flaw
from gateway.conditions import ADDRESS_TYPES, Barrier, Condition, Conditions, Facts, tightest
from gateway.decision import Decision, Fact, Match, Point, Reason, Tls, Verdict, with_evidence
from gateway.domainset import DomainMap, Lists, NoLists
from gateway.memo import Memo
from gateway.names import embedded_addresses, is_localhost
from gateway.request import (
    Client,
    Dial,
    DnsAnswer,
    DnsQuery,
    Flaw,
    Host,
    HttpRequest,
    HttpResponse,
    Request,
    TlsHello,
    Tunnel,
)
from gateway.rule import WEB_PORTS, ClientGroup, Rule
from gateway.ruleindex import RuleIndex
from gateway.techniques import techniques
from gateway.tools import claimed


class Policy:
    """Compiled rules, bound to a snapshot of lists. Immutable: a reload makes a new one."""

    def __init__(
        self,
        *,
        rules: Iterable[Rule] = (),
        clients: Iterable[ClientGroup] = (),
        default: Mapping[Point, Verdict] | None = None,
        report: bool = False,
        lists: Lists | None = None,
        inspected: Iterable[str] = (),
    ) -> None:
        self.rules = tuple(rules)
        default = default or {}
        self._dns_default = default.get(Point.DNS, Verdict.DENY)
        self._proxy_default = default.get(Point.PROXY, Verdict.DENY)
        self.report = report
        self.lists: Lists = lists if lists is not None else NoLists()
        self._index = RuleIndex(self.rules, tuple(clients), self.lists.lists)
        self._conditions = Conditions(self.rules, self._index, self.lists)
        self._inspected = DomainMap()
        self._any_inspected = False
        for pattern in inspected:
            self._inspected.add(pattern, 1)
            self._any_inspected = True
        self._allowed: dict[tuple[int, bool, int, int], Decision] = {}
        self._known = Memo[Hashable, Decision](_FLOWS_KEPT)
        """What was allowed on the way to a spliced tunnel: whoever connects again asks the same three times."""
        self._same = Memo[int, tuple[Request, Decision]](_FLOWS_KEPT)
        """The same by the ids of requests that came again: often they are the very objects."""
        self._queries = Memo[Hashable, tuple[Decision, int]](_QUERIES_KEPT)
        """What was decided on DNS queries, and the lists that hold evidence of its own for each name."""
        self._answers = Memo[Hashable, Decision](_QUERIES_KEPT)
        """What was decided on DNS answers with nothing in them that a rule could see."""
        self._names = Memo[str, tuple[int, tuple[int, int] | None]](_NAMES_KEPT)

    def decide(self, request: Request) -> Decision:
        """Return the verdict on a request.

        Total and deterministic: any exception on the way is a denial with reason `internal-error`.
        """
        try:
            same = self._same.get(id(request))
            if same is not None and same[0] is request:  # an id is used again once its object is gone
                return same[1]
            key = _key(request)
            if key is None:
                return self._decide(request)
            known = self._known.get(key)
            if known is not None:
                self._same.keep(id(request), (request, known))
                return known
            known = self._decide(request)
            if known.verdict is Verdict.ALLOW and not known.reported:
                self._known.keep(key, known)
            return known
        except Exception as error:
            return _failed(error)

    def decide_query(self, request: DnsQuery) -> tuple[Decision, Match | None]:
        """Decide as `decide` does, with the evidence beside the decision: names that a rule denies since they are on
        one list share a decision, down to the object, that has a blank for the entry, and the entry comes with it.
        """
        try:
            return self._decide_query(request)
        except Exception as error:
            return _failed(error), None

    def passes(self, client: Client, name: str, qtype: int, addresses: tuple[IPAddress, ...]) -> bool:
        """Say whether an answer without further names is known to be allowed with nothing to record: one that was
        decided alike has been. Otherwise `decide` has to be asked, which takes five times as long.
        """
        key = self._answer_key(client, name, qtype, addresses)
        known = self._answers.get(key) if key is not None else None
        return known is not None and known.verdict is Verdict.ALLOW and known.enforced and not known.reported

    def groups_of(self, client: Client, point: Point = Point.PROXY) -> tuple[str, ...]:
        """Return the names of the client groups that a client belongs to."""
        return self._index.groups_of(client, point)

    # -- stages ------------------------------------------------------------------------------------------------

    def _decide(self, request: Request) -> Decision:
        match request:
            case DnsQuery():
                return with_evidence(*self._decide_query(request))
            case DnsAnswer():
                return self._decide_answer(request)
            case Tunnel():
                return self._decide_tunnel(request)
            case TlsHello():
                return self._decide_hello(request)
            case HttpRequest():
                return self._decide_http(request)
            case Dial():
                return self._decide_dial(request)
            case HttpResponse():
                return self._decide_dial(request.dial, request)
            case _:
                assert_never(request)

    def _decide_query(self, request: DnsQuery) -> tuple[Decision, Match | None]:
        client, name, qtype, flaw = request
        if flaw is not None:
            return _flawed(flaw), None
        # A resolver answers localhost itself, with loopback (RFC 6761 section 6.3): each client means its own host.
        if (embedded := embedded_addresses(name)) and not is_localhost(name):
            barrier = self._address_barrier(embedded, Reason.PRIVATE_ADDRESS)
            return self._evaluate(self._query_facts(request, barrier)), None
        # Of a name the conditions see nothing but the rules and the lists that hold it, so most names are decided
        # like one before; only evidence is their own.
        place = self._place(name)
        key = (self._index.dns_standing(client), place, qtype)
        known = self._queries.get(key)
        if known is None:
            return self._decide_first(request, key), None
        decision, lists = known
        if lists:
            return decision, self.lists.match_name(name, lists)
        if decision.verdict is Verdict.ALLOW:
            self._names.keep(name, place)  # the answer is asked about soon
        return decision, None

    def _decide_first(self, request: DnsQuery, key: Hashable) -> Decision:
        """Decide on a name, and keep what goes for those that are decided alike."""
        facts = self._query_facts(request)
        decision = self._evaluate(facts)
        if decision.matched is None and all(would.matched is None for would in decision.reported):
            self._queries.keep(key, (decision, 0))
        elif decision.matched is not None and not decision.reported:
            for rule in self.rules:
                if self._denied_by(rule, facts) == decision:
                    kept = replace(decision, detail="", matched=decision.matched._replace(line=0, entry=""))
                    self._queries.keep(key, (kept, self._conditions.lists_for(rule)))
        return decision

    def _query_facts(self, request: DnsQuery, barrier: Barrier | None = None) -> Facts:
        addresses = None if request.qtype in ADDRESS_TYPES else ()
        return Facts(
            Point.DNS,
            request.client,
            host=request.name,
            addresses=addresses,
            qtype=request.qtype,
            barrier=barrier,
        )

    def _place(self, name: str) -> tuple[int, tuple[int, int] | None]:
        """Return the rules and the lists that hold a name."""
        index = self._index
        return self._names.get(name) or (
            index.name_rules(name),
            self.lists.lookup_name(name) if index.with_listings else None,
        )

    def _decide_answer(self, request: DnsAnswer) -> Decision:
        key = None
        if not request.chain:
            key = self._answer_key(request.client, request.name, request.qtype, request.addresses)
        known = self._answers.get(key) if key is not None else None
        if known is not None:
            return known
        decision = self._decide_fully(request)
        if key is not None and decision.matched is None and all(would.matched is None for would in decision.reported):
            self._answers.keep(key, decision)
        return decision

    def _answer_key(self, client: Client, name: str, qtype: int, addresses: tuple[IPAddress, ...]) -> Hashable | None:
        """Return what the decision on an answer without further names depends on, where its addresses are ordinary,
        on no list and of no interest to any rule: what else the conditions see of it is in the key. None for others.
        """
        index = self._index
        if index.with_addresses:
            return None
        lookup = self.lists.lookup_address if index.with_listings else None
        for address in addresses:
            if classify(address) is not AddressClass.GLOBAL or (lookup is not None and lookup(address)):
                return None
        return index.dns_standing(client), self._place(name), qtype, bool(addresses)

    def _decide_fully(self, request: DnsAnswer) -> Decision:
        facts = Facts(Point.DNS, request.client, host=request.name, qtype=request.qtype, chain=request.chain)
        facts.addresses = request.addresses
        facts.last = True
        if not request.trusted:
            facts.barrier = self._address_barrier(request.addresses, Reason.DNS_REBINDING)
        return self._evaluate(facts)

    def _decide_tunnel(self, request: Tunnel) -> Decision:
        if request.flaw:
            return self._found_out(request.flaw)
        facts = self._proxy_facts(request)
        facts.tools = claimed(request.user_agent)
        facts.carries_tls = True
        return self._looking_inside(self._evaluate(facts), request.host)

    def _decide_hello(self, request: TlsHello) -> Decision:
        if flaw := request.tunnel.flaw or request.flaw or sni_flaw(request):
            return self._found_out(flaw)
        facts = self._proxy_facts(request)
        facts.tools = _evidence(request)
        facts.tools_final = True
        facts.carries_tls = True
        decision = self._looking_inside(self._evaluate(facts), request.host)
        if request.ech and decision.tls is Tls.SPLICE:
            return _flawed(Flaw(Reason.ECH, _ECH))
        return decision

    def _decide_http(self, request: HttpRequest) -> Decision:
        if flaw := request.flaw or http_flaw(request):
            return self._found_out(flaw)
        facts = self._proxy_facts(request)
        facts.http = request
        facts.tools = _evidence(request)
        facts.tools_final = True
        return self._with_proof(self._evaluate(facts), request)

    def _decide_dial(self, request: Dial, response: HttpResponse | None = None) -> Decision:
        origin = request.origin
        facts = self._proxy_facts(origin)
        facts.chain = request.chain
        facts.tools = _evidence(origin)
        facts.tools_final = True
        facts.http = origin if isinstance(origin, HttpRequest) else None
        facts.response = response
        facts.last = True
        if facts.host is not None:
            facts.addresses = (request.address,)
            barrier = self._address_barrier(facts.addresses, Reason.DNS_REBINDING)
            facts.barrier = tightest(barrier, facts.barrier)
        elif request.address != origin.host:
            return _flawed(Flaw(Reason.INTERNAL_ERROR, f"asked to dial {request.address} for {origin.host}"))
        return self._with_proof(self._evaluate(facts), origin)

    def _with_proof(self, decision: Decision, origin: Tunnel | TlsHello | HttpRequest) -> Decision:
        """Deny what a rule with pins allows, and what can show no certificate: plain HTTP."""
        if decision.pins and not decision.pending and isinstance(origin, HttpRequest) and origin.scheme != "https":
            detail = f"rule {decision.rule} has pins, and plain HTTP shows no certificate"
            return self._found_out(Flaw(Reason.CERTIFICATE_PIN, detail))
        return decision

    def _looking_inside(self, decision: Decision, host: Host) -> Decision:
        """Inspect what no rule may leave spliced: hosts that the gateway has something to say to."""
        if decision.tls is not Tls.SPLICE or not self._any_inspected or not isinstance(host, str):
            return decision
        return replace(decision, tls=Tls.INSPECT) if self._inspected.lookup(host) else decision

    def _found_out(self, flaw: Flaw) -> Decision:
        """Return the denial for what a shell found. What belongs to a rule only records in report mode."""
        decision = _flawed(flaw)
        if self.report and flaw.reason in _OF_RULES:
            return replace(decision, enforced=False)
        return decision

    def _proxy_facts(self, request: Tunnel | TlsHello | HttpRequest) -> Facts:
        host, port, index = request.host, request.port, self._index
        facts = Facts(Point.PROXY, request.client, port=port)
        if isinstance(host, str):
            facts.host = host
            if embedded := embedded_addresses(host):
                barrier = self._address_barrier(embedded, Reason.PRIVATE_ADDRESS)
                facts.barrier = barrier or Barrier(
                    Reason.DIRECT_ADDRESS,
                    f"{host} only stands for {embedded[0]}",
                    index.allow & (index.naming_address(embedded[0]) | index.with_domains),
                )
        else:
            facts.addresses = (host,)
            facts.barrier = self._address_barrier(facts.addresses, Reason.PRIVATE_ADDRESS) or Barrier(
                Reason.DIRECT_ADDRESS,
                f"{host} is no name, and no rule names it",
                index.allow & index.naming_address(host),
            )
        if port not in WEB_PORTS:
            closed = Barrier(
                Reason.PORT,
                f"port {port} is closed unless an allow rule names it",
                index.allow & index.with_ports,
            )
            facts.barrier = tightest(facts.barrier, closed)
        return facts

    def _address_barrier(self, addresses: tuple[IPAddress, ...], reason: Reason) -> Barrier | None:
        """Return the protection of special addresses; every one of them has to be lifted by the same rule."""
        # The last metadata address, or else the first special one, gives the reason; it is written out once, because
        # an answer may have hundreds.
        told: tuple[IPAddress, AddressClass] | None = None
        lifted = self._index.allow
        for address in addresses:
            kind = classify(address)
            if kind is AddressClass.GLOBAL:
                continue
            lifted &= self._index.lifting(address, kind)
            if told is None or kind is AddressClass.METADATA:
                told = address, kind
        if told is None:
            return None
        address, kind = told
        cause = Reason.METADATA_ADDRESS if kind is AddressClass.METADATA else reason
        return Barrier(cause, f"{address} is a {kind} address", lifted)

    # -- the walk ----------------------------------------------------------------------------------------------

    def _evaluate(self, facts: Facts) -> Decision:
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
            found.append(replace(self._denied_by(self.rules[bit.bit_length() - 1], facts), enforced=False))
        return tuple(found)

    def _verdict(self, winner: int | None, facts: Facts) -> Verdict:
        if winner is not None:
            return self.rules[winner].action
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
        rule = None if winner is None else self.rules[winner]
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
            decision = self._denied_by(self.rules[winner], facts)
            if decision.reason is Reason.FILE_TYPE and facts.response is not None and facts.response.file_types:
                types = ", ".join(sorted(facts.response.file_types))
                decision = replace(decision, detail=f"the answer is of type {types}")
        elif barrier is None:
            decision = self._denied_by_default(facts, conditions)
        else:
            decision = _flawed(Flaw(barrier.reason, barrier.detail))
        if self.report:
            if barrier is not None:  # built-in protections stay on, whatever rule came first
                decision = _flawed(Flaw(barrier.reason, barrier.detail))
            else:
                tls = Tls.SPLICE if facts.carries_tls else None
                decision = replace(decision, enforced=False, tls=tls)
        return replace(decision, reported=self._reports(on_trial, facts)) if on_trial else decision

    def _denied_by(self, rule: Rule, facts: Facts) -> Decision:
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
                if reason is not Reason.CLIENT_UNKNOWN or not self.groups_of(facts.client, facts.point):
                    return _missed(self.rules[(rules & -rules).bit_length() - 1], reason)
        return _NO_RULE


_ECH = "the ClientHello may hide the real name (ECH): inspect it (tls: inspect), or turn ECH off in the client"
_QUERIES_KEPT = 4096
_OF_RULES = frozenset((Reason.UPLOAD_BUDGET, Reason.CERTIFICATE_PIN, Reason.BODY_SIZE))
"""What shells find by the terms of a rule: its budget, its pins, the size of answers."""
_NAMES_KEPT = 1024
"""Names that were asked for last: more than wait for an upstream on a busy day."""
_FLOWS_KEPT = 2048  # at most 2 KB each, since nothing long is kept
_LONG = 256
_NO_RULE = Decision(Verdict.DENY, Reason.DEFAULT_DENY, detail="no rule allows it")


def _key(request: Request) -> Hashable:
    """Return what to remember a decision by, for the requests that are asked again and again; None for others.

    Names, not addresses, are what clients connect to; and whoever chooses addresses could give all the same hash.
    """
    if isinstance(request, Dial):
        origin = request.origin
        if isinstance(origin, TlsHello) and len(request.chain) <= 8 and _key(origin) is not None:
            return origin, request.address.packed, request.chain
        return None
    if isinstance(request, TlsHello):
        if len(request.alpn) > 4 or len(request.server_names) != 1 or len(request.tunnel.user_agent) > _LONG:
            return None
        return request if isinstance(request.tunnel.host, str) else None
    if isinstance(request, Tunnel):
        return request if isinstance(request.host, str) and len(request.user_agent) <= _LONG else None
    return None


def _failed(error: Exception) -> Decision:
    """Fail closed: whatever went wrong, the answer is no, and the record says what it was."""
    return Decision(Verdict.DENY, Reason.INTERNAL_ERROR, detail=f"{type(error).__name__}: {error}")


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


def _flawed(flaw: Flaw) -> Decision:
    return Decision(Verdict.DENY, flaw.reason, detail=flaw.detail, technique=techniques(flaw.reason))


def _evidence(request: Tunnel | TlsHello | HttpRequest) -> tuple[str, ...]:
    """Return every tool that the request, its tunnel and its TLS fingerprint speak of."""
    if isinstance(request, Tunnel):
        return claimed(request.user_agent)
    if isinstance(request, TlsHello):
        tools = claimed(request.tunnel.user_agent)
        return (*tools, request.tool) if request.tool else tools
    tools = claimed(request.user_agent)
    for name, value in request.headers:
        if name == "user-agent" and value != request.user_agent:  # a second field, as a disguise for the first
            tools += claimed(value)
    return tools + _evidence(request.hello) if request.hello is not None else tools


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
