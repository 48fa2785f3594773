"""Tests of `addons.routing`: the addresses that a request may be sent to."""

from collections.abc import Callable

from addons.asked import to_request
from addons.routing import settle_address
from addons.visit import Visit
from gateway.decision import Decision, Reason
from gateway.policy import Policy
from gateway.proxy.case import Case, Refusal
from gateway.proxy.dial import Dialer
from tests.addons.flows import a_flow
from tests.builders import a_client, an_address
from tests.integration.proxy_rig import Bench, Names, allow

PLACE = ("good.test", 80)


async def settled(
    visit: Visit, *found: str, before: Callable[[str], None] | None = None
) -> tuple[Decision | Refusal, Names]:
    """Settle a request of a visit to good.test, which is at some addresses."""
    judge = Bench(Policy(rules=[allow("good.test")]))
    names = Names({"good.test": tuple(an_address(each) for each in found)}, before=before)
    request = to_request(a_flow(), visit)
    return await settle_address(Dialer(names), visit, Case(judge), request), names


async def test_first() -> None:
    """A first request is resolved, and its connection may go to the addresses that are allowed."""
    visit = Visit(a_client())
    decision, _ = await settled(visit, "127.0.0.1", "10.0.0.1", "127.0.0.2")
    assert isinstance(decision, Decision)
    assert visit.approved[PLACE] == (an_address("127.0.0.1"), an_address("127.0.0.2"))


async def test_open_connection() -> None:
    """With a connection open, its address is judged, and the name is not asked for again."""
    visit = Visit(a_client(), connected={"one": (PLACE, an_address("127.0.0.1"))})
    decision, names = await settled(visit, "10.0.0.1")
    assert isinstance(decision, Decision)
    assert names.asked == []


async def test_opened_meanwhile() -> None:
    """A connection that another request opens while the name is looked up counts: this one will be sent over it."""
    for peer, expected in (("10.0.0.1", Refusal), ("127.0.0.9", Decision)):
        visit = Visit(a_client())

        def opened(_: str, visit: Visit = visit, peer: str = peer) -> None:
            visit.connected["one"] = PLACE, an_address(peer)

        decision, names = await settled(visit, "127.0.0.1", before=opened)
        assert isinstance(decision, expected)
        assert names.asked == ["good.test"]


async def test_denied_peer() -> None:
    """A request that may not be sent to the address of an open connection is refused."""
    visit = Visit(a_client(), connected={"one": (PLACE, an_address("10.0.0.1"))})
    refusal, _ = await settled(visit, "127.0.0.1")
    assert isinstance(refusal, Refusal)
    assert refusal.decision.reason is Reason.DNS_REBINDING
