"""Bounded tables."""

from gateway.tunnelling.priors import Prior
from gateway.tunnelling.state import LABELS_PER_ZONE, Bounds, Tables, Trip, Zone
from gateway.tunnelling.window import Limit

LIMITS = (Limit(120, 3600), Limit(240, 86400))


def a_table(**bounds: int) -> Tables:
    """Return empty tables with some bounds."""
    return Tables(Bounds()._replace(**bounds), LIMITS, hash)


def test_a_zone_forgets_the_older_half() -> None:
    """However many names a zone has, two generations are kept, the latest name among them."""
    zone = Zone("example.com", Prior.UNKNOWN, 1.0, 0.0)
    for index in range(5 * LABELS_PER_ZONE):
        zone.learn([index])
    assert zone.names <= 2 * LABELS_PER_ZONE + 1
    assert zone.knows(5 * LABELS_PER_ZONE - 1)
    assert not zone.knows(0)


def test_zones_and_names_are_bounded() -> None:
    """No flood of zones or names makes more of them than allowed, and the count is right."""
    tables = a_table(zones=50, names=200)
    for index in range(500):
        zone = Zone(f"z{index}", Prior.UNKNOWN, 1.0, 0.0)
        tables.add_zone(0.0, zone, index)
        tables.learn(0.0, zone, list(range(7)))
    assert len(tables.zones) <= 50
    assert tables.names == sum(zone.names for zone in tables.zones.values()) <= 200


def test_a_forgotten_account_leaves_what_it_spent() -> None:
    """A client that makes the gateway forget an account begins no better than it was."""
    tables = a_table(accounts=4)
    tables.account(0.0, "c", "evil").up.add(0.0, 100, 86400)
    for index in range(40):
        tables.account(1000.0, "c", f"junk{index}").up.add(1000.0, 30, 86400)
    assert tables.accounts == 4
    assert tables.account(1000.0, "c", "evil").up.spent(1000.0, 3600) >= 100


def test_a_forgotten_client_leaves_what_it_spent() -> None:
    """The same holds for clients."""
    tables = a_table(clients=4)
    tables.account(0.0, "c", "evil").up.add(0.0, 100, 86400)
    for index in range(40):
        tables.client(1.0, f"junk{index}")
    assert len(tables.clients) == 4
    assert tables.account(1.0, "c", "evil").up.spent(1.0, 3600) >= 100


def test_denials_are_bounded() -> None:
    """The oldest denial is forgotten first."""
    tables = a_table(trips=3)
    for index in range(9):
        tables.trip(Trip(f"c{index}", "z", "dns-tunnel", "", 0, 1, 0, 0, (), ()))
    assert [client for client, _ in tables.trips] == ["c6", "c7", "c8"]
