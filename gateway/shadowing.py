"""Rules that can never match, because an earlier rule covers everything they do.

Pure: no I/O, no clock. Finds only what is certain: every condition of the earlier rule is absent, or admits all that
the later rule's condition admits. That is judged by the names and addresses that clients ask for: a deny rule behind
an allow rule for the same names may still catch a CNAME target, which nobody means who writes it.
"""

from collections.abc import Iterable, Iterator

from gateway.addresses import AddressClass, IPNetwork, classify_network
from gateway.decision import Point, Verdict
from gateway.domainset import parse_pattern
from gateway.names import names_addresses
from gateway.rule import ClientGroup, Rule


def shadowed(rules: tuple[Rule, ...], groups: Iterable[ClientGroup] = ()) -> Iterator[tuple[Rule, Rule]]:
    """Yield each rule that can never match, with the first rule that covers it."""
    groups = tuple(groups)
    for position, rule in enumerate(rules):
        for earlier in rules[:position]:
            if not earlier.report and covers(earlier, rule, groups):
                yield rule, earlier
                break


def covers(earlier: Rule, later: Rule, groups: Iterable[ClientGroup] = ()) -> bool:
    """Say whether every request that the later rule matches is matched by the earlier one.

    A group of clients that is not among `groups` is taken for one that may be anybody, and holds nobody else's.
    """
    return (
        later.via <= earlier.via
        and _clients_hold(earlier, later, {group.name: group for group in groups})
        and _domains_hold(earlier.domains, later.domains)
        and _registered_hold(earlier, later)
        and _networks_hold(earlier.addresses, later.addresses)
        and _holds(earlier.address_classes, later.address_classes)
        and _ports_hold(earlier, later)
        and _holds(earlier.categories, later.categories)
        and _holds(earlier.lists, later.lists)
        and _holds(earlier.tools, later.tools)
        and _holds(earlier.qtypes, later.qtypes)
        and (earlier.http is None or earlier.http == later.http)
        and not (_passes_dns(earlier, later) if earlier.action is Verdict.DENY else _opens_more(earlier, later))
    )


def _clients_hold(earlier: Rule, later: Rule, groups: dict[str, ClientGroup]) -> bool:
    if not earlier.clients:
        return True
    # The resolver knows addresses alone: there a deny rule for a group that has none never matches, and so covers
    # only what never matches there either.
    unseen = earlier.action is Verdict.DENY and Point.DNS in later.via
    outers = [groups.get(name, ClientGroup(name=name)) for name in earlier.clients]
    inners = [groups.get(name, ClientGroup(name=name)) for name in later.clients]
    return bool(inners) and all(
        any(
            _group_holds(outer, inner)
            and (outer.addresses or not unseen or (later.action is Verdict.DENY and not inner.addresses))
            for outer in outers
        )
        for inner in inners
    )


def _group_holds(outer: ClientGroup, inner: ClientGroup) -> bool:
    """Say whether everybody in a group is in the other: each kind that the outer one asks for narrows it."""
    if outer.name == inner.name:
        return True
    if not (outer.addresses or outer.users or outer.certificates):
        return False  # a group that nobody described
    return (
        _networks_hold(outer.addresses, inner.addresses)
        and (not outer.users or bool(inner.users and inner.users <= outer.users))
        and (not outer.certificates or bool(inner.certificates and inner.certificates <= outer.certificates))
    )


def _passes_dns(earlier: Rule, later: Rule) -> bool:
    # The resolver sees no ports, tools or requests: there a deny rule with such conditions never matches, and an
    # allow rule always does.
    unseen = earlier.ports or earlier.tools or earlier.http
    return bool(unseen) and later.action is Verdict.ALLOW and Point.DNS in later.via


def _opens_more(earlier: Rule, later: Rule) -> bool:
    # An allow rule that names ports, addresses or names of addresses reaches what a broader rule without them does
    # not: the built-in protections stand between.
    if later.ports and not earlier.ports:
        return True
    if (later.addresses or later.address_classes) and not (earlier.addresses or earlier.address_classes):
        return True
    if not earlier.domains and any(names_addresses(parse_pattern(pattern)[0]) for pattern in later.domains):
        return True
    return not all(
        any(_within(inner, outer) and _lifts(outer, inner) for outer in earlier.addresses)
        for inner in later.addresses
        if earlier.addresses
    )


def _lifts(outer: IPNetwork, inner: IPNetwork) -> bool:
    kind = classify_network(inner)
    return kind in (None, AddressClass.GLOBAL) or classify_network(outer) is kind


def _holds[V](earlier: tuple[V, ...], later: tuple[V, ...]) -> bool:
    return not earlier or (bool(later) and set(later) <= set(earlier))


def _domains_hold(earlier: tuple[str, ...], later: tuple[str, ...]) -> bool:
    if not earlier:
        return True
    return bool(later) and all(any(_pattern_holds(outer, inner) for outer in earlier) for inner in later)


def _pattern_holds(outer: str, inner: str) -> bool:
    outer_name, outer_exact, outer_below = parse_pattern(outer)
    inner_name, inner_exact, inner_below = parse_pattern(inner)
    if inner_name == outer_name:
        return (outer_exact or not inner_exact) and (outer_below or not inner_below)
    return outer_below and inner_name.endswith("." + outer_name)


def _registered_hold(earlier: Rule, later: Rule) -> bool:
    return _holds(earlier.registered_domains, later.registered_domains)


def _networks_hold(earlier: tuple[IPNetwork, ...], later: tuple[IPNetwork, ...]) -> bool:
    if not earlier:
        return True
    return bool(later) and all(any(_within(inner, outer) for outer in earlier) for inner in later)


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    if inner.version == 4:
        return outer.version == 4 and inner.subnet_of(outer)
    return outer.version == 6 and inner.subnet_of(outer)


def _ports_hold(earlier: Rule, later: Rule) -> bool:
    if not earlier.ports:
        return True
    return bool(later.ports) and all(
        any(low <= inner_low and inner_high <= high for low, high in earlier.ports)
        for inner_low, inner_high in later.ports
    )
