"""Which rule would allow what was denied: the narrowest one, tried out before it is shown.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Callable, Container, Sequence
from itertools import count
from typing import Any

from dnslib import QTYPE

from gateway.addresses import IPAddress
from gateway.conditions import ADDRESS_TYPES
from gateway.decision import Reason
from gateway.explain import Stage
from gateway.names import embedded_addresses
from gateway.request import Dial, DnsAnswer, DnsQuery, HttpRequest, Request, TlsHello, Tunnel
from gateway.tools import claimed
from gateway.urlpaths import readings

type RuleText = dict[str, Any]
"""A rule as it stands in the policy file."""

_STEPS = 4
"""Each built-in protection has to be named, and shows only when the one before it is out of the way."""


def remedy(
    stages: Sequence[Stage],
    groups: Sequence[str],
    retry: Callable[[RuleText], Sequence[Stage]],
    taken: Container[str] = (),
) -> RuleText | None:
    """Return a rule that, put first, allows what was denied at these stages; None when nothing was, or no rule can.

    Nor is there one for a client that is in no group of a rule: a rule without groups would be for everybody.

    `groups` are the client's; `retry` returns the stages as they are with a rule in front of all others; `taken` are
    the names of those.
    """
    rule: RuleText = {}
    for _ in range(_STEPS):
        denied = [stage for stage in stages if stage.decision.denied]
        if not denied or denied[0].decision.reason is Reason.CLIENT_UNKNOWN:
            return None
        for stage in denied:
            if getattr(stage.request, "flaw", None) is not None or not _can_be_said(stage.request):
                return None
            rule = _joined(rule, _rule_for(stage, groups, taken))
        stages = retry(rule)
        if not any(stage.decision.denied for stage in stages):
            return rule
    return None


def _can_be_said(request: Request) -> bool:
    """Say whether a rule can name this request and no other: a star in a path stands for more than itself."""
    origin = request.origin if isinstance(request, Dial) else request
    return not isinstance(origin, HttpRequest) or not any("*" in path for path in readings(origin.path))


def _rule_for(stage: Stage, groups: Sequence[str], taken: Container[str]) -> RuleText:
    request, reason = stage.request, stage.decision.reason
    if isinstance(request, DnsQuery | DnsAnswer):
        to: RuleText = {"domains": [request.name]}
        if isinstance(request, DnsAnswer):
            to["addresses"] = _networks(request.addresses)
        elif reason in _OF_ADDRESSES:
            to["addresses"] = _networks(embedded_addresses(request.name))
        rule = _named(request.name, "dns", groups, to, taken)
        if request.qtype not in ADDRESS_TYPES:  # which those who mean the host ask for together
            rule["qtypes"] = [str(QTYPE.forward.get(request.qtype) or f"TYPE{request.qtype}")]
        return rule
    address: IPAddress | None = None
    if isinstance(request, Dial):
        address, request = request.address, request.origin
    tools = request.user_agent if isinstance(request, Tunnel | HttpRequest) else ""
    seen = request if isinstance(request, HttpRequest) else None
    if isinstance(request, TlsHello):
        request = request.tunnel
    assert isinstance(request, Tunnel | HttpRequest)
    host = request.host
    to = {"domains": [host]} if isinstance(host, str) else {"addresses": _networks((host,))}
    if isinstance(host, str) and address is not None:
        to["addresses"] = _networks((address,))
    elif isinstance(host, str) and reason in _OF_ADDRESSES:
        to["addresses"] = _networks(embedded_addresses(host))
    rule = _named(str(host), "proxy", groups, {**to, "ports": [request.port]}, taken)
    if seen is not None:
        # Without them, a rule would allow all of a host of which others allow a part, and end its inspection.
        rule["http"] = {"methods": [seen.method], "paths": list(readings(seen.path))}
    if reason is Reason.TOOL and (claims := claimed(tools)):
        rule["tools"] = list(claims)
    return rule


def _joined(before: RuleText, rule: RuleText) -> RuleText:
    """Return a rule that names what either names."""
    if not before:
        return rule
    to = {**before["to"], **rule["to"]}
    addresses = [*before["to"].get("addresses", ()), *rule["to"].get("addresses", ())]
    if addresses:
        to["addresses"] = list(dict.fromkeys(addresses))
    return {**before, **rule, "to": to}


def _named(host: str, via: str, groups: Sequence[str], to: RuleText, taken: Container[str]) -> RuleText:
    stem = f"allow-{re.sub(r'[^a-z0-9]+', '-', host.lower()).strip('-')[:40]}".strip("-")
    name, others = stem, count(2)
    while name in taken:
        name = f"{stem}-{next(others)}"
    who = {"clients": [groups[0]]} if groups else {}
    return {"name": name, "action": "allow", "via": [via], **who, "to": to}


def _networks(addresses: Sequence[IPAddress]) -> list[str]:
    return [f"{address}/{address.max_prefixlen}" for address in addresses]


_OF_ADDRESSES = frozenset((Reason.PRIVATE_ADDRESS, Reason.METADATA_ADDRESS))
"""What a name is denied for that says its address itself."""
