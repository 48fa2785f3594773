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


def test_an_ipv6_network_is_one_client() -> None:
    """All addresses of a /64 have one share, or a single host could take all connections; others have theirs."""
    admission = Admission(total=10, per_client=2)
    peers = ["2001:db8::1", "2001:db8::2", "2001:db8::3%eth0", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"]
    assert [admission.enter(peer) for peer in peers] == [True, True, False, True, True, True]
    admission.leave("2001:db8::2")
    assert [admission.enter(peer) for peer in ("2001:db8::4", "2001:db8::5")] == [True, False]
