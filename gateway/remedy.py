"""Which rule would allow what was denied: the narrowest one, tried out before it is shown.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from gateway.addresses import IPAddress
from gateway.decision import Reason
from gateway.explain import Stage
from gateway.request import Dial, DnsAnswer, DnsQuery, HttpRequest, Request, TlsHello, Tunnel

type RuleText = dict[str, Any]
"""A rule as it stands in the policy file."""

_STEPS = 3
"""Each built-in protection has to be named, and shows only when the one before it is out of the way."""


def remedy(
    stages: Sequence[Stage], groups: Sequence[str], retry: Callable[[RuleText], Sequence[Stage]]
) -> RuleText | None:
    """Return a rule that, put first, allows what was denied at these stages; None when nothing was, or no rule can.

    Nor is there one for a client that is in no group of a rule: a rule without groups would be for everybody.

    `groups` are the client's; `retry` returns the stages as they are with a rule in front of all others.
    """
    for _ in range(_STEPS):
        denied = next((stage for stage in stages if stage.decision.denied), None)
        if denied is None or denied.decision.reason is Reason.CLIENT_UNKNOWN:
            return None
        if getattr(denied.request, "flaw", None) is not None:
            return None
        rule = _rule_for(denied.request, groups)
        stages = retry(rule)
        if not any(stage.decision.denied for stage in stages):
            return rule
    return None


def _rule_for(request: Request, groups: Sequence[str]) -> RuleText:
    if isinstance(request, DnsQuery | DnsAnswer):
        to: RuleText = {"domains": [request.name]}
        if isinstance(request, DnsAnswer):
            to["addresses"] = _networks(request.addresses)
        return _named(request.name, "dns", groups, to)
    address: IPAddress | None = None
    if isinstance(request, Dial):
        address, request = request.address, request.origin
    seen = request if isinstance(request, HttpRequest) else None
    if isinstance(request, TlsHello):
        request = request.tunnel
    assert isinstance(request, Tunnel | HttpRequest)
    host = request.host
    to = {"domains": [host]} if isinstance(host, str) else {"addresses": _networks((host,))}
    if isinstance(host, str) and address is not None:
        to["addresses"] = _networks((address,))
    rule = _named(str(host), "proxy", groups, {**to, "ports": [request.port]})
    if seen is not None and seen.hello is not None:
        # A rule without conditions for requests would end the inspection of this host.
        rule["http"] = {"methods": [seen.method], "paths": [seen.path.partition("?")[0]]}
    return rule


def _named(host: str, via: str, groups: Sequence[str], to: RuleText) -> RuleText:
    name = re.sub(r"[^a-z0-9]+", "-", host.lower()).strip("-")[:40].strip("-")
    who = {"clients": [groups[0]]} if groups else {}
    return {"name": f"allow-{name}", "action": "allow", "via": [via], **who, "to": to}


def _networks(addresses: Sequence[IPAddress]) -> list[str]:
    return [f"{address}/{address.max_prefixlen}" for address in addresses]
