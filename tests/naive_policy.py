"""The rules of a policy, walked one by one: what `gateway.policy` must answer, written down without any index.

A condition is True, False, or the set of facts that are missing. Nothing is shared with the engine but the values
that go in, the readers of names, addresses and paths, and the agreement of names, which have tests of their own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.addresses import AddressClass, IPAddress, IPNetwork, classify
from gateway.agreement import http_flaw, sni_flaw
from gateway.buckets import buckets_of
from gateway.decision import Decision, Fact, Point, Reason, Tls, Verdict
from gateway.domainset import Lists, parse_pattern
from gateway.names import embedded_addresses, registered_domain
from gateway.request import Client, Dial, DnsAnswer, DnsQuery, HttpRequest, HttpResponse, Request, TlsHello, Tunnel
from gateway.rule import ClientGroup, Rule
from gateway.tools import claimed
from gateway.urlpaths import possible_readings, readings

type Ternary = bool | frozenset[Fact]

ADDRESS, TOOL, HTTP = frozenset([Fact.ADDRESS]), frozenset([Fact.TOOL]), frozenset([Fact.HTTP])
RESPONSE = frozenset([Fact.RESPONSE])


@dataclass(frozen=True)
class Outcome:
    """What has to be the same in a decision, however it was reached."""

    verdict: Verdict
    rule: str = ""
    enforced: bool = True
    pending: frozenset[Fact] = frozenset()
    tls: Tls | None = None
    protection: Reason | None = None
    """The reason, when a built-in protection or a flaw denied."""
    reported: tuple[str, ...] = ()


def outcome_of(decision: Decision, protection: Reason | None) -> Outcome:
    """Return a decision in the same terms; `protection` is what the other side expects there."""
    return Outcome(
        decision.verdict,
        decision.rule,
        decision.enforced,
        frozenset(decision.pending),
        decision.tls,
        decision.reason if protection is not None else None,
        tuple(report.rule for report in decision.reported),
    )


_BEFORE_RULES = (Reason.PRIVATE_ADDRESS, Reason.METADATA_ADDRESS, Reason.DNS_REBINDING)


@dataclass
class Protection:
    """A built-in protection, and which rules lift it."""

    reason: Reason
    lifted_by: Callable[[Rule], bool]


@dataclass
class View:
    """What is known at a stage."""

    point: Point
    client: Client
    host: str | None = None
    chain: tuple[str, ...] = ()
    addresses: tuple[IPAddress, ...] | None = None
    port: int = 0
    tools: tuple[str, ...] = ()
    tools_final: bool = False
    qtype: int = 0
    http: HttpRequest | None = None
    response: HttpResponse | None = None
    last: bool = False
    protections: list[Protection] = field(default_factory=list)


@dataclass(frozen=True)
class NaivePolicy:
    """A policy without an index."""

    rules: tuple[Rule, ...]
    groups: tuple[ClientGroup, ...]
    default: Mapping[Point, Verdict]
    report: bool
    lists: Lists

    def decide(self, request: Request) -> Outcome:
        """Return the verdict on a request."""
        flaw = _flaw(request)
        if flaw is not None:
            return Outcome(Verdict.DENY, protection=flaw)
        outcome = self._walk(_view(request), tunnelled=isinstance(request, Tunnel | TlsHello))
        if isinstance(request, TlsHello) and request.ech and outcome.tls is Tls.SPLICE:
            return Outcome(Verdict.DENY, protection=Reason.ECH)
        return outcome

    def _walk(self, view: View, *, tunnelled: bool) -> Outcome:
        if view.protections and view.protections[0].reason in _BEFORE_RULES and not self._can_be_lifted(view):
            return Outcome(Verdict.DENY, protection=view.protections[0].reason)
        winner: Rule | None = None
        unknown: list[Rule] = []
        missing: set[Fact] = set()
        reported: list[str] = []
        on_trial: set[Fact] = set()
        for rule in self.rules:
            holds = self.judge(rule, view)
            if holds is False:
                continue
            if rule.action is Verdict.ALLOW and not all(found.lifted_by(rule) for found in view.protections):
                continue
            if rule.report:
                if holds is True:
                    reported.append(rule.name)
                elif isinstance(holds, frozenset):
                    on_trial |= holds & RESPONSE
            elif holds is True:
                winner = rule
                break
            else:
                assert isinstance(holds, frozenset)
                unknown.append(rule)
                missing |= holds
        if winner is not None:
            verdict = winner.action
        else:
            verdict = Verdict.DENY if view.protections else self.default[view.point]
        if verdict is Verdict.DENY and not any(rule.action is Verdict.ALLOW for rule in unknown):
            return self._denied(winner, view, tuple(reported), tunnelled=tunnelled)
        inspect = Fact.HTTP in missing or any(rule.tls is Tls.INSPECT for rule in unknown)
        if verdict is Verdict.DENY:
            winner = None
        elif winner is not None and winner.tls is Tls.INSPECT:
            inspect = True
        return Outcome(
            Verdict.ALLOW,
            winner.name if winner else "",
            pending=frozenset(missing | on_trial),
            tls=(Tls.INSPECT if inspect else Tls.SPLICE) if tunnelled else None,
            reported=tuple(reported),
        )

    def _can_be_lifted(self, view: View) -> bool:
        return any(
            rule.action is Verdict.ALLOW
            and self.judge(rule, view) is not False
            and all(found.lifted_by(rule) for found in view.protections)
            for rule in self.rules
        )

    def _denied(self, winner: Rule | None, view: View, reported: tuple[str, ...], *, tunnelled: bool) -> Outcome:
        if view.protections and (winner is None or self.report):
            return Outcome(Verdict.DENY, protection=view.protections[0].reason, reported=reported)
        return Outcome(
            Verdict.DENY,
            winner.name if winner else "",
            enforced=not self.report,
            tls=Tls.SPLICE if tunnelled and self.report else None,
            reported=reported,
        )

    # -- one rule ----------------------------------------------------------------------------------------------

    def judge(self, rule: Rule, view: View) -> Ternary:
        """Say whether a rule matches, or which facts will tell."""
        deny = rule.action is Verdict.DENY
        dns = view.point is Point.DNS
        if view.point not in rule.via:
            return False
        if dns and deny and (rule.ports or rule.tools or rule.http):
            return False
        if not dns and rule.qtypes:
            return False
        conditions: list[Ternary] = [
            not rule.clients or any(self._belongs(group, rule, view) for group in self.groups),
            self._named(rule, view),
            _addressed(rule, view),
            self._listed(rule, view, lambda name, categories: name in rule.lists) if rule.lists else True,
            self._listed(rule, view, lambda name, categories: not categories.isdisjoint(rule.categories))
            if rule.categories
            else True,
        ]
        if dns:
            conditions.append(not rule.qtypes or view.qtype in rule.qtypes)
        else:
            conditions.append(not rule.ports or any(low <= view.port <= high for low, high in rule.ports))
            conditions.append(_by_tool(rule, view))
            conditions.append(_over_http(rule, view))
        if any(condition is False for condition in conditions):
            return False
        missing = frozenset[Fact]().union(*(c for c in conditions if isinstance(c, frozenset)))
        return missing or True

    def _belongs(self, group: ClientGroup, rule: Rule, view: View) -> bool:
        if group.name not in rule.clients:
            return False
        client = view.client
        if group.addresses and not _within(client.address, group.addresses):
            return False
        if view.point is Point.DNS:
            return bool(group.addresses) or rule.action is Verdict.ALLOW
        return (not group.users or client.user in group.users) and (
            not group.certificates or bool(group.certificates & {client.certificate, *client.names})
        )

    def _named(self, rule: Rule, view: View) -> bool:
        if not rule.domains and not rule.registered_domains:
            return True
        if view.host is None:
            return False
        names = (view.host, *view.chain) if rule.action is Verdict.DENY else (view.host,)
        return any(
            (not rule.domains or any(_covers(pattern, name) for pattern in rule.domains))
            and (not rule.registered_domains or registered_domain(name) in rule.registered_domains)
            for name in names
        )

    def _listed(self, rule: Rule, view: View, wanted: Callable[[str, set[str]], bool]) -> Ternary:
        mask = sum(1 << bit for bit, info in enumerate(self.lists.lists) if wanted(info.name, set(info.categories)))
        lists, deny, http = self.lists, rule.action is Verdict.DENY, view.http
        host = view.host if view.host is not None else str((view.addresses or ("",))[0])
        on_host = bool(lists.lookup_name(host)[1] & mask)
        by_name = view.host is not None and bool(lists.lookup_name(view.host)[0] & mask)
        by_chain = any(lists.lookup_name(name)[0] & mask for name in view.chain)
        held = [bool(lists.lookup_address(address) & mask) for address in view.addresses or ()]
        by_path = http is not None and on_host and bool(lists.lookup_path(host, http.path, wholly=not deny) & mask)
        if by_name or by_path:
            return True
        if deny and ((by_chain and view.host is not None) or any(held)):
            return True
        if not deny and held and all(held):
            return True
        missing: frozenset[Fact] = ADDRESS if view.addresses is None else frozenset()
        if on_host and http is None:
            if view.point is Point.DNS:
                if not deny:
                    return True
            elif view.last:
                if deny:
                    return True
            else:
                missing |= HTTP
        return missing or False


def _view(request: Request) -> View:
    match request:
        case DnsQuery():
            view = View(Point.DNS, request.client, host=request.name, qtype=request.qtype)
            if request.qtype not in (1, 28, 64, 65, 255):
                view.addresses = ()
            if request.name.rpartition(".")[2] != "localhost":  # each client means its own host
                view.protections = _special(embedded_addresses(request.name), Reason.PRIVATE_ADDRESS)
        case DnsAnswer():
            view = View(Point.DNS, request.client, host=request.name, qtype=request.qtype, last=True)
            view.chain, view.addresses = request.chain, request.addresses
            if not request.trusted:
                view.protections = _special(request.addresses, Reason.DNS_REBINDING)
        case Dial():
            view = _proxied(request.origin)
            view.chain, view.last, view.tools_final = request.chain, True, True
            if view.host is not None:
                view.addresses = (request.address,)
                view.protections = _special(view.addresses, Reason.DNS_REBINDING) + view.protections
        case HttpResponse():
            view = _view(request.dial)
            view.response = request
        case _:
            view = _proxied(request)
            view.tools_final = not isinstance(request, Tunnel)
    return view


def _proxied(request: Tunnel | TlsHello | HttpRequest) -> View:
    host, port = request.host, request.port
    view = View(Point.PROXY, request.client, port=port, tools=tuple(_tools(request)))
    view.http = request if isinstance(request, HttpRequest) else None
    if isinstance(host, str):
        view.host = host
        embedded = embedded_addresses(host)
        view.protections = _special(embedded, Reason.PRIVATE_ADDRESS)
        if embedded and not view.protections:
            view.protections = [
                Protection(
                    Reason.DIRECT_ADDRESS,
                    lambda rule: bool(rule.domains or rule.registered_domains or _names(rule, embedded[0])),
                )
            ]
    else:
        view.addresses = (host,)
        view.protections = _special(view.addresses, Reason.PRIVATE_ADDRESS) or [
            Protection(Reason.DIRECT_ADDRESS, lambda rule: _names(rule, host))
        ]
    if port not in (80, 443):
        view.protections.append(Protection(Reason.PORT, lambda rule: bool(rule.ports)))
    return view


def _special(addresses: Iterable[IPAddress], reason: Reason) -> list[Protection]:
    """Return a protection for each address that is not global, those of metadata services first."""
    found: list[Protection] = []
    for address in addresses:
        kind = classify(address)
        if kind is not AddressClass.GLOBAL:
            why = Reason.METADATA_ADDRESS if kind is AddressClass.METADATA else reason
            found.append(Protection(why, _lifter(address, kind)))
    return sorted(found, key=lambda item: item.reason is not Reason.METADATA_ADDRESS)


def _lifter(address: IPAddress, kind: AddressClass) -> Callable[[Rule], bool]:
    return lambda rule: (
        kind in rule.address_classes
        or any(_within(address, [network]) and _wholly(network, kind) for network in rule.addresses)
    )


def _wholly(network: IPNetwork, kind: AddressClass) -> bool:
    """Say whether all of a network is of a class: judged by its ends and middle, which is enough for the tests."""
    size = network.num_addresses
    found = {classify(network[at]) for at in {0, size // 3, size // 2, size - 1}}
    if kind is not AddressClass.METADATA:
        found.discard(AddressClass.METADATA)
    return found == {kind}


def _names(rule: Rule, address: IPAddress) -> bool:
    return classify(address) in rule.address_classes or _within(address, rule.addresses)


def _within(address: IPAddress, among: Iterable[IPNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in among)


def _covers(pattern: str, name: str) -> bool:
    wanted, exact, below = parse_pattern(pattern)
    return (exact and name == wanted) or (below and name.endswith("." + wanted))


def _flaw(request: Request) -> Reason | None:
    match request:
        case DnsQuery() | Tunnel():
            flaw = request.flaw
        case TlsHello():
            flaw = request.tunnel.flaw or request.flaw or sni_flaw(request)
        case HttpRequest():
            flaw = request.flaw or http_flaw(request)
        case Dial():
            host = request.host
            return None if isinstance(host, str) or host == request.address else Reason.INTERNAL_ERROR
        case HttpResponse():
            return _flaw(request.dial)
        case _:
            flaw = None
    return flaw.reason if flaw is not None else None


def _tools(request: Tunnel | TlsHello | HttpRequest) -> Iterable[str]:
    if isinstance(request, Tunnel):
        yield from claimed(request.user_agent)
    elif isinstance(request, TlsHello):
        yield from claimed(request.tunnel.user_agent)
        if request.tool:
            yield request.tool
    else:
        yield from claimed(request.user_agent)
        for name, value in request.headers:
            if name == "user-agent":
                yield from claimed(value)
        if request.hello is not None:
            yield from _tools(request.hello)


def _addressed(rule: Rule, view: View) -> Ternary:
    if not rule.addresses and not rule.address_classes:
        return True
    if view.addresses is None:
        return ADDRESS
    if not view.addresses:
        if rule.action is Verdict.DENY:
            return False
        return view.qtype in (1, 28, 64, 65, 255) or bool(rule.domains or rule.registered_domains)
    combine = any if rule.action is Verdict.DENY else all
    return combine(
        (not rule.addresses or _within(address, rule.addresses))
        and (not rule.address_classes or classify(address) in rule.address_classes)
        for address in view.addresses
    )


def _by_tool(rule: Rule, view: View) -> Ternary:
    if not rule.tools:
        return True
    combine = any if rule.action is Verdict.DENY else all
    if view.tools and combine(tool in rule.tools for tool in view.tools):
        return True
    return False if view.tools_final else TOOL


def _over_http(rule: Rule, view: View) -> Ternary:
    conditions, request, deny = rule.http, view.http, rule.action is Verdict.DENY
    if conditions is None:
        return True
    if request is None:
        return deny if view.last else HTTP
    combine = any if deny else all

    def values(name: str) -> list[str]:
        return [value for field_name, value in request.headers if field_name == name]

    def match(texts: list[str], globs: Iterable[str]) -> bool:
        globs = list(globs)
        return bool(texts) and combine(any(_glob(glob, text) for glob in globs) for text in texts)

    method = request.method.upper() if deny else request.method
    types = [value.partition(";")[0].strip() for value in values("content-type")]
    holds = all(
        (
            not conditions.methods or method in conditions.methods,
            not conditions.paths
            or combine(
                any(_path_glob(glob, path) for glob in conditions.paths)
                for path in (possible_readings if deny else readings)(request.path)
            ),
            not conditions.buckets
            or combine(
                bool(conditions.buckets & buckets_of(str(request.host), path, request.path.partition("?")[2]))
                for path in readings(request.path)
            ),
            not conditions.user_agents or match(values("user-agent") or [""], conditions.user_agents),
            all(match(values(name), [glob]) for name, glob in conditions.headers),
            not conditions.content_types or match(types, conditions.content_types),
            conditions.max_body is None
            or (request.body_length is not None and request.body_length <= conditions.max_body),
        )
    )
    if not holds or not (conditions.response_types or conditions.file_types):
        return holds
    response = view.response
    if response is None:
        return RESPONSE
    if not response.content:
        return not deny
    media = [value.partition(";")[0].strip() for value in response.media_types]
    if conditions.response_types and not match(media or ["application/octet-stream"], conditions.response_types):
        return False
    if not conditions.file_types:
        return True
    if response.file_types is None:
        return RESPONSE
    if "unreadable" in response.file_types:
        return deny
    return combine(name in conditions.file_types for name in response.file_types)


def _glob(glob: str, text: str) -> bool:
    """Match a glob of stars without regard to case."""
    first, *rest = re.split(r"\*+", glob.lower())
    text = text.lower()
    if not rest:
        return text == first
    if not text.startswith(first):
        return False
    text = text[len(first) :]
    for part in rest[:-1]:
        _, found, text = text.partition(part)
        if not found and part:
            return False
    return text.endswith(rest[-1])


def _path_glob(glob: str, path: str) -> bool:
    """Match `*` within a segment and `**` across them, by trying every length."""
    if glob.startswith("**"):
        return any(_path_glob(glob[2:], path[at:]) for at in range(len(path) + 1))
    if glob.startswith("*"):
        segment = len(path.partition("/")[0])
        return any(_path_glob(glob[1:], path[at:]) for at in range(segment + 1))
    if not glob or not path:
        return glob == path
    return glob[0] == path[0] and _path_glob(glob[1:], path[1:])
