"""What is remembered beside the accounts, within bounds."""

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.tunnelling.priors import FACTORS, Prior
from gateway.tunnelling.state import Bounds, Client, Recent, Tables, Zone

DAY = 86400.0


@given(st.integers(2, 40), st.lists(st.integers(0, 60)))
def test_what_was_used_last_is_kept(bound: int, keys: list[int]) -> None:
    """However many keys there are, the bound holds, and the half of it that was used last is there."""
    recent: Recent[int, str] = Recent(bound)
    for key in keys:
        if recent.get(key) is None:
            recent[key] = str(key)
    assert len(recent) <= bound
    assert len(list(recent.values())) == len(recent)
    for key in list(dict.fromkeys(reversed(keys)))[: bound // 2]:
        assert recent[key] == str(key)


def test_a_query_is_fresh_once_a_day_and_for_each_client() -> None:
    """The table hears of a zone when its day or one of its first clients is new, and is left alone otherwise."""
    zone = Zone("example.com", 1, Prior.UNKNOWN, 1.0, 0.0)
    asked = [(0.0, "a"), (1.0, "a"), (2.0, "b"), (3.0, "a"), (DAY - 1, "b"), (DAY, "b"), (DAY + 1, "b")]
    assert [zone.asked(now, client, 1) for now, client in asked] == [True, False, True, False, False, True, False]
    assert zone.queries == 7
    assert zone.types == {1: 7}


def test_a_zone_may_become_something_else() -> None:
    """What is strict follows from what a zone is."""
    zone = Zone("example.com", 1, Prior.UNKNOWN, 1.0, 0.0)
    assert zone.strict
    zone.become(Prior.ESTABLISHED, FACTORS[Prior.ESTABLISHED])
    assert not zone.strict


def test_a_client_knows_about_how_many_zones_it_has_today() -> None:
    """The estimate is right to a tenth up to a thousand and more, and begins anew each day."""
    client, random_ = Client(1), random.Random(1)
    for count, low, high in ((20, 18, 22), (980, 900, 1100)):
        for _ in range(count):
            client.asked(5.0, random_.getrandbits(64))
        assert low <= client.zones <= high
    client.asked(DAY, 7)
    assert client.zones < 2


def test_a_trail_keeps_the_end() -> None:
    """Of many names the last ones are remembered."""
    tables = Tables(Bounds())
    for index in range(100):
        tables.step(7, float(index), 1.0)
    assert tables.trails[7][-1] == (99.0, 1.0)
    assert len(tables.trails[7]) == 32
