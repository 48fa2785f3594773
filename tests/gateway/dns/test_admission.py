"""Tests for gateway.dns.admission."""

from gateway.dns.admission import Admission


def test_a_client_has_its_share() -> None:
    """One client's share being full leaves room for another, until all is full."""
    admission = Admission(total=3, per_client=2)
    assert [admission.enter(peer) for peer in ("a", "a", "a", "b", "b", "c")] == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]


def test_who_leaves_makes_room() -> None:
    """A place that is given back is given again, and clients that are gone are forgotten."""
    admission = Admission(total=1, per_client=1)
    for peer in map(str, range(1000)):
        assert admission.enter(peer)
        assert not admission.enter("other")
        admission.leave(peer)
    assert admission.enter("other")
