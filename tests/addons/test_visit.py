"""Tests of `addons.visit`: what is known about one client connection."""

from addons.visit import Passage, Visit
from gateway.decision import Decision, Reason, Verdict
from gateway.policy import Policy
from gateway.proxy.case import Case
from tests.builders import a_client, a_request, an_address
from tests.integration.proxy_rig import Bench

ALLOWED = Decision(Verdict.ALLOW, Reason.RULE)
CASE = Case(Bench(Policy()))
FIRST, SECOND = an_address("192.0.2.1"), an_address("192.0.2.2")


def test_a_passage_knows_its_place() -> None:
    """The place is host and port of the request."""
    assert Passage(a_request(), ALLOWED, began=0.0, case=CASE).place == ("www.example.com", 80)


def test_a_request_is_under_way_until_it_is_forgotten() -> None:
    """Only its own place counts, port included."""
    visit = Visit(a_client(), passages={"flow": Passage(a_request(), ALLOWED, began=0.0, case=CASE)})
    assert visit.under_way(("www.example.com", 80))
    assert not visit.under_way(("www.example.com", 443))
    assert not visit.under_way(("other.example.com", 443))
    del visit.passages["flow"]
    assert not visit.under_way(("www.example.com", 80))


def test_the_peers_of_a_place_are_where_its_connections_go() -> None:
    """Each address once, in the order of connecting; connections elsewhere do not count."""
    here, there = ("a.test", 443), ("b.test", 443)
    visit = Visit(a_client())
    visit.connected = {"1": (here, SECOND), "2": (there, FIRST), "3": (here, FIRST), "4": (here, SECOND)}
    assert visit.peers(here) == (SECOND, FIRST)
    assert visit.peers(("a.test", 80)) == ()
