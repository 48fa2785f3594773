"""The index of a policy's rules: for each condition, from a value to the mask of rules that it satisfies.

Pure: no I/O, no clock. Bit i of every mask stands for rule i. A rule without a condition satisfies it, so every
look-up returns those rules too.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Literal

from gateway.addresses import AddressClass, IPAddress, IPNetwork, NetworkMap, classify, classify_network
from gateway.buckets import buckets_of
from gateway.decision import Fact, Point, Reason, Tls, Verdict
from gateway.domainset import DomainMap, ListInfo
from gateway.filetypes import UNREADABLE
from gateway.memo import Memo
from gateway.names import registered_domain
from gateway.request import Client, HttpRequest, HttpResponse
from gateway.rule import ClientGroup, HttpConditions, Rule, glob_pattern
from gateway.urlpaths import possible_readings, readings

_CLIENTS_KEPT = 4096  # a flood of source addresses must not grow the cache without bound


class RuleIndex:
    """Masks of rules by condition and value."""

    def __init__(self, rules: tuple[Rule, ...], groups: tuple[ClientGroup, ...], lists: tuple[ListInfo, ...]) -> None:
        self._groups = groups
        self.all = (1 << len(rules)) - 1
        self.allow = _mask(rule.action is Verdict.ALLOW for rule in rules)
        self.deny = self.all & ~self.allow
        self.with_clients = _mask(bool(rule.clients) for rule in rules)
        self.with_domains = _mask(bool(rule.domains or rule.registered_domains) for rule in rules)
        self.with_addresses = _mask(bool(rule.addresses or rule.address_classes) for rule in rules)
        self.with_ports = _mask(bool(rule.ports) for rule in rules)
        self.with_tools = _mask(bool(rule.tools) for rule in rules)
        self.with_qtypes = _mask(bool(rule.qtypes) for rule in rules)
        self.with_http = _mask(rule.http is not None for rule in rules)
        self.on_trial = _mask(rule.report for rule in rules)
        self.inspecting = _mask(rule.tls is Tls.INSPECT for rule in rules)
        # DNS never learns ports, tools or HTTP: there such an allow counts as a match and such a deny does not.
        unseen = self.with_ports | self.with_tools | self.with_http
        self.dns_rules = _mask(Point.DNS in rule.via for rule in rules) & ~(self.deny & unseen)
        self.proxy_rules = _mask(Point.PROXY in rule.via for rule in rules) & ~self.with_qtypes
        self._index_clients(rules)
        self._index_domains(rules)
        self._index_addresses(rules)
        self._ports = _ValueMap(rules, self.with_ports, lambda rule: (low for low, high in rule.ports if low == high))
        self._port_ranges = tuple(
            (low, high, 1 << bit) for bit, rule in enumerate(rules) for low, high in rule.ports if low != high
        )
        self._tools = _ValueMap(rules, self.with_tools, lambda rule: rule.tools)
        self._qtypes = _ValueMap(rules, self.with_qtypes, lambda rule: rule.qtypes)
        self._index_lists(rules, lists)

    # -- clients -----------------------------------------------------------------------------------------------

    def _index_clients(self, rules: tuple[Rule, ...]) -> None:
        self._group_rules = [_mask(group.name in rule.clients for rule in rules) for group in self._groups]
        self._group_networks = NetworkMap(
            (network, 1 << bit) for bit, group in enumerate(self._groups) for network in group.addresses
        )
        self._clients = Memo[Hashable, tuple[int, bool]](_CLIENTS_KEPT)
        self._at_hand = Memo[int, tuple[Client, tuple[int, bool]]](_CLIENTS_KEPT)
        """The same for the resolver, by the ids of clients: it has one object for each."""

    def client_rules(self, client: Client, point: Point) -> int:
        """Return the rules whose `clients` hold."""
        return self.standing(client, point)[0]

    def dns_standing(self, client: Client) -> tuple[int, bool]:
        """Return the `standing` of a client of the resolver."""
        known = self._at_hand.get(id(client))
        if known is None or known[0] is not client:  # an id is used again once its object is gone
            known = self._at_hand.keep(id(client), (client, self.standing(client, Point.DNS)))
        return known[1]

    def standing(self, client: Client, point: Point) -> tuple[int, bool]:
        """Return the rules whose `clients` hold, and whether the client belongs to any group."""
        address = client.address
        # Not the client itself: hashing an ipaddress object costs more than all the rest of this look-up.
        key = (int(address), address.version, client.user, client.certificate, client.names, point is Point.DNS)
        found = self._clients.get(key)
        if found is None:
            mask = self.all & ~self.with_clients
            belongs = False
            for position in self._belonging(client, point):
                belongs = True
                rules = self._group_rules[position]
                # A group without addresses could be anybody where only addresses are known: there an allow counts
                # as a match, and a deny does not.
                known = point is not Point.DNS or self._groups[position].addresses
                mask |= rules if known else rules & self.allow
            found = self._clients.keep(key, (mask, belongs))
        return found

    def groups_of(self, client: Client, point: Point) -> tuple[str, ...]:
        """Return the names of the groups that a client belongs to, as far as the enforcement point can know."""
        if not self._groups:
            return ()
        return tuple(self._groups[position].name for position in self._belonging(client, point))

    def _belonging(self, client: Client, point: Point) -> Iterator[int]:
        by_address = self._group_networks.lookup(client.address) if self._groups else 0
        for position, group in enumerate(self._groups):
            if group.addresses and not by_address >> position & 1:
                continue
            if point is not Point.DNS:
                if group.users and client.user not in group.users:
                    continue
                if group.certificates and group.certificates.isdisjoint((client.certificate, *client.names)):
                    continue
            yield position

    # -- destinations ------------------------------------------------------------------------------------------

    def _index_domains(self, rules: tuple[Rule, ...]) -> None:
        # Both conditions in one map, so that one walk over a name's parents finds both: the bits of
        # `registered_domains` stand above those of `domains`.
        self._names = DomainMap()
        self._registered: dict[str, int] = {}
        self._shift = len(rules)
        for bit, rule in enumerate(rules):
            for pattern in rule.domains:
                self._names.add(pattern, 1 << bit)
            for domain in rule.registered_domains:
                self._registered[domain] = self._registered.get(domain, 0) | 1 << bit
                self._names.add(f".{domain}", 1 << bit << self._shift)
        self._without_domains = _mask(not rule.domains for rule in rules)
        self._without_registered = _mask(not rule.registered_domains for rule in rules)

    def name_rules(self, name: str) -> int:
        """Return the rules whose `domains` and `registered_domains` hold."""
        found = self._names.lookup(name)
        registered = self._without_registered
        if found >> self._shift:
            # A name below a registered domain may have been registered itself, under a longer public suffix.
            registered |= self._registered.get(registered_domain(name), 0)
        return (self._without_domains | found) & registered

    def _index_addresses(self, rules: tuple[Rule, ...]) -> None:
        networks: list[tuple[IPNetwork, int]] = []
        special: list[tuple[IPNetwork, int]] = []
        metadata: list[tuple[IPNetwork, int]] = []
        self._classes = dict.fromkeys(AddressClass, 0)
        for bit, rule in enumerate(rules):
            for network in rule.addresses:
                networks.append((network, 1 << bit))
                # `0.0.0.0/0` means "any address", not "and my metadata service too": a network lifts a protection
                # only when all of it is of one special class, and that of metadata only when it is nothing else.
                kind = classify_network(network)
                if kind is AddressClass.METADATA:
                    metadata.append((network, 1 << bit))
                elif kind not in (None, AddressClass.GLOBAL):
                    special.append((network, 1 << bit))
            for kind in rule.address_classes:
                self._classes[kind] |= 1 << bit
        self._networks = NetworkMap(networks)
        self._special = NetworkMap(special)
        self._metadata = NetworkMap(metadata)
        self._without_networks = _mask(not rule.addresses for rule in rules)
        self._without_classes = _mask(not rule.address_classes for rule in rules)

    def rules_at(self, point: Point) -> int:
        """Return the rules that an enforcement point walks."""
        return self.dns_rules if point is Point.DNS else self.proxy_rules

    def address_rules(self, address: IPAddress) -> int:
        """Return the rules whose `addresses` and `address_class` hold."""
        return (self._without_networks | self._networks.lookup(address)) & (
            self._without_classes | self._classes[classify(address)]
        )

    def naming_address(self, address: IPAddress) -> int:
        """Return the rules that name the address or its class."""
        return self._networks.lookup(address) | self._classes[classify(address)]

    def lifting(self, address: IPAddress, kind: AddressClass) -> int:
        """Return the rules that name a special address explicitly enough to lift its protection."""
        networks = self._metadata if kind is AddressClass.METADATA else self._special
        return networks.lookup(address) | self._classes[kind]

    def port_rules(self, port: int) -> int:
        """Return the rules whose `ports` hold."""
        found = self._ports.lookup(port)
        for low, high, bit in self._port_ranges:
            if low <= port <= high:
                found |= bit
        return found

    # -- lists -------------------------------------------------------------------------------------------------

    def _index_lists(self, rules: tuple[Rule, ...], lists: tuple[ListInfo, ...]) -> None:
        self._by_category = [
            _mask(not set(info.categories).isdisjoint(rule.categories) for rule in rules) for info in lists
        ]
        self._by_list = [_mask(info.name in rule.lists for rule in rules) for info in lists]
        self._lists = lists
        self.listings: tuple[tuple[int, Callable[[int], int]], ...] = (
            (_mask(bool(rule.categories) for rule in rules), lambda mask: _union(mask, self._by_category)),
            (_mask(bool(rule.lists) for rule in rules), lambda mask: _union(mask, self._by_list)),
        )
        self.with_listings = self.listings[0][0] | self.listings[1][0]

    def lists_of(self, rule: Rule) -> int:
        """Return the mask of lists that a rule speaks of."""
        return _mask(
            info.name in rule.lists or not set(info.categories).isdisjoint(rule.categories) for info in self._lists
        )

    # -- tools, query types ------------------------------------------------------------------------------------

    def tool_rules(self, tools: tuple[str, ...]) -> tuple[int, int]:
        """Return the rules whose `tools` hold for any of the tools, and those for which they hold for every one."""
        if not tools:
            return self._tools.free, self._tools.free
        any_of, every = 0, self.all
        for tool in tools:
            holds = self._tools.lookup(tool)
            any_of |= holds
            every &= holds
        return any_of, every

    def qtype_rules(self, qtype: int) -> int:
        """Return the rules whose `qtypes` hold."""
        return self._qtypes.lookup(qtype)


class _ValueMap[V: (int, str)]:
    """Masks of rules by a single value."""

    def __init__(self, rules: tuple[Rule, ...], concerned: int, values: Callable[[Rule], Iterable[V]]) -> None:
        self.free = ((1 << len(rules)) - 1) & ~concerned
        self._masks: dict[V, int] = {}
        for bit, rule in enumerate(rules):
            for value in values(rule):
                self._masks[value] = self._masks.get(value, self.free) | 1 << bit

    def lookup(self, value: V) -> int:
        return self._masks.get(value, self.free)


def _mask(wanted: Iterable[bool]) -> int:
    """Return a mask with the bits of the true items set."""
    return int("".join("1" if yes else "0" for yes in wanted)[::-1] or "0", 2)


def _union(bits: int, masks: list[int]) -> int:
    """OR the masks at the positions of the set bits."""
    found = 0
    while bits:
        bit = bits & -bits
        bits ^= bit
        found |= masks[bit.bit_length() - 1]
    return found


# -- HTTP: few rules get this far, so they are judged one by one ----------------------------------------------------


def http_mismatch(conditions: HttpConditions, request: HttpRequest, *, deny: bool) -> Reason | None:
    """Return the first condition that does not hold, or None when all do.

    `deny` chooses how several values count: for a deny rule one that matches is enough, an allow rule needs all.
    """
    combine = any if deny else all
    # Methods are case-sensitive (RFC 9110 section 9.1), but not to every server: `post` must not pass for harmless.
    if conditions.methods and (request.method.upper() if deny else request.method) not in conditions.methods:
        return Reason.METHOD
    if conditions.paths:
        paths = possible_readings(request.path) if deny else readings(request.path)
        globs = [glob_pattern(glob, "/") for glob in conditions.paths]
        if not combine(any(glob.match(path) for glob in globs) for path in paths):
            return Reason.PATH
    if conditions.buckets:
        host, query = str(request.host), request.path.partition("?")[2]
        found = [buckets_of(host, path, query) for path in readings(request.path)]
        if not combine(not conditions.buckets.isdisjoint(names) for names in found):
            return Reason.BUCKET
    if conditions.user_agents:
        agents = _values(request, "user-agent") or [""]
        agent_globs = [glob_pattern(glob) for glob in conditions.user_agents]
        if not combine(any(glob.match(agent) for glob in agent_globs) for agent in agents):
            return Reason.USER_AGENT
    for name, glob in conditions.headers:
        values = _values(request, name)
        pattern = glob_pattern(glob)
        if not values or not combine(pattern.match(value) is not None for value in values):
            return Reason.HEADER
    if conditions.content_types:
        types = _values(request, "content-type")
        if not types or not combine(_is_type(value, conditions.content_types) for value in types):
            return Reason.CONTENT_TYPE
    if conditions.max_body is not None and (request.body_length is None or request.body_length > conditions.max_body):
        return Reason.BODY_SIZE
    return None


def response_mismatch(
    conditions: HttpConditions, response: HttpResponse | None, *, deny: bool
) -> Reason | Literal[Fact.RESPONSE] | None:
    """Return the first condition on the answer that does not hold, the fact that is missing, or None.

    Where nothing comes there is nothing to deny and nothing to fear. A body without a media type is
    `application/octet-stream` (RFC 9110 section 8.3); one that cannot be looked into may be anything.
    """
    if not conditions.over_response:
        return None
    if response is None:
        return Fact.RESPONSE
    if not response.content:
        why = Reason.CONTENT_TYPE if conditions.response_types else Reason.FILE_TYPE
        return why if deny else None
    combine = any if deny else all
    if conditions.response_types:
        types = response.media_types or ("application/octet-stream",)
        if not combine(_is_type(value, conditions.response_types) for value in types):
            return Reason.CONTENT_TYPE
    if conditions.file_types:
        found = response.file_types
        if found is None:
            return Fact.RESPONSE
        if UNREADABLE in found:
            return None if deny else Reason.FILE_TYPE
        if not combine(name in conditions.file_types for name in found):
            return Reason.FILE_TYPE
    return None


def _is_type(value: str, globs: tuple[str, ...]) -> bool:
    kind = value.partition(";")[0].strip().lower()
    return any(glob_pattern(glob).match(kind) for glob in globs)


def _values(request: HttpRequest, name: str) -> list[str]:
    return [value for field, value in request.headers if field == name]
