"""Where a request is sent: over a connection that is open, or to an address that is found and judged for it."""

from collections.abc import Sequence

from addons.visit import Visit
from gateway.decision import Decision, Fact, Reason
from gateway.proxy.case import Case, Refusal
from gateway.proxy.dial import Approved, Dialer
from gateway.request import HttpRequest


async def settle_address(dialer: Dialer, visit: Visit, case: Case, request: HttpRequest) -> Decision | Refusal:
    """Judge where a request will be sent, and let the visit's connections go there.

    Returns the last word on the request, with every fact known.
    """
    place = (request.host, request.port)
    found: Approved | None = None
    if not visit.peers(place):
        resolved = await dialer.approve(case, request)
        if isinstance(resolved, Refusal):
            return resolved
        found = resolved
    if peers := visit.peers(place):  # or opened meanwhile
        # mitmproxy may use any of them, so all have to be allowed.
        approved = dialer.judge(case, request, peers, visit.chains.get(place, ()))
        if isinstance(approved, Refusal):
            return approved
        if len(approved.addresses) == len(peers):
            return _most_careful(approved.decisions)
        return case.refuse(request, Reason.INTERNAL_ERROR, "an open connection to another address is in the way")
    assert found is not None, "without a connection, an address was asked for"
    addresses = found.addresses
    if visit.under_way(place):
        # Whichever request opens the connection, the others will use it too.
        both = visit.approved.get(place, ())
        addresses = tuple(address for address in addresses if address in both)
        if not addresses:
            return case.refuse(request, Reason.INTERNAL_ERROR, "no address that all requests to it may use")
    visit.approved[place] = addresses
    visit.chains[place] = found.chain
    return _most_careful([found.decision(address) for address in addresses])


def _most_careful(decisions: Sequence[Decision]) -> Decision:
    """Return the decision that asks most: which of the addresses it will be, mitmproxy chooses."""
    return max(decisions, key=_demands) if len(decisions) > 1 else decisions[0]


def _demands(decision: Decision) -> tuple[bool, bool, bool, bool]:
    waits = Fact.RESPONSE in decision.pending
    return waits, bool(decision.pins), decision.budget is not None, decision.max_response is not None
