"""The policy: the only place where anything is allowed or denied.

Pure: no I/O, no clock, no logging. Each stage of a connection becomes facts here, with the built-in protections that
hold for it; which rule decides on those, `gateway.rulewalk` finds. What was decided is remembered.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import assert_never

from gateway.addresses import AddressClass, IPAddress, classify
from gateway.agreement import http_flaw, sni_flaw
from gateway.conditions import ADDRESS_TYPES, Barrier, Facts, tightest
from gateway.decision import Decision, Match, Point, Reason, Tls, Verdict, with_evidence
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
from gateway.rulewalk import RuleWalk, flawed
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
        self.report = report
        self.lists: Lists = lists if lists is not None else NoLists()
        self._index = RuleIndex(self.rules, tuple(clients), self.lists.lists)
        self._walk = RuleWalk(self.rules, self._index, self.lists, default or {}, report=report)
        self._inspected = DomainMap()
        self._any_inspected = False
        for pattern in inspected:
            self._inspected.add(pattern, 1)
            self._any_inspected = True
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
            return flawed(flaw), None
        # A resolver answers localhost itself, with loopback (RFC 6761 section 6.3): each client means its own host.
        if (embedded := embedded_addresses(name)) and not is_localhost(name):
            barrier = self._address_barrier(embedded, Reason.PRIVATE_ADDRESS)
            return self._walk.decide(self._query_facts(request, barrier)), None
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
        decision = self._walk.decide(facts)
        if decision.matched is None and all(would.matched is None for would in decision.reported):
            self._queries.keep(key, (decision, 0))
        elif decision.matched is not None and not decision.reported:
            for rule in self.rules:
                if self._walk.denied_by(rule, facts) == decision:
                    kept = replace(decision, detail="", matched=decision.matched._replace(line=0, entry=""))
                    self._queries.keep(key, (kept, self._walk.lists_for(rule)))
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
        return self._walk.decide(facts)

    def _decide_tunnel(self, request: Tunnel) -> Decision:
        if request.flaw:
            return self._found_out(request.flaw)
        facts = self._proxy_facts(request)
        facts.tools = claimed(request.user_agent)
        facts.carries_tls = True
        return self._looking_inside(self._walk.decide(facts), request.host)

    def _decide_hello(self, request: TlsHello) -> Decision:
        if flaw := request.tunnel.flaw or request.flaw or sni_flaw(request):
            return self._found_out(flaw)
        facts = self._proxy_facts(request)
        facts.tools = _evidence(request)
        facts.tools_final = True
        facts.carries_tls = True
        decision = self._looking_inside(self._walk.decide(facts), request.host)
        if request.ech and decision.tls is Tls.SPLICE:
            return flawed(Flaw(Reason.ECH, _ECH))
        return decision

    def _decide_http(self, request: HttpRequest) -> Decision:
        if flaw := request.flaw or http_flaw(request):
            return self._found_out(flaw)
        facts = self._proxy_facts(request)
        facts.http = request
        facts.tools = _evidence(request)
        facts.tools_final = True
        return self._with_proof(self._walk.decide(facts), request)

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
            return flawed(Flaw(Reason.INTERNAL_ERROR, f"asked to dial {request.address} for {origin.host}"))
        return self._with_proof(self._walk.decide(facts), origin)

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
        decision = flawed(flaw)
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


_ECH = "the ClientHello may hide the real name (ECH): inspect it (tls: inspect), or turn ECH off in the client"
_QUERIES_KEPT = 4096
_OF_RULES = frozenset((Reason.UPLOAD_BUDGET, Reason.CERTIFICATE_PIN, Reason.BODY_SIZE))
"""What shells find by the terms of a rule: its budget, its pins, the size of answers."""
_NAMES_KEPT = 1024
"""Names that were asked for last: more than wait for an upstream on a busy day."""
_FLOWS_KEPT = 2048  # at most 2 KB each, since nothing long is kept
_LONG = 256


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
