"""What is counted: names that Prometheus takes, and labels from closed sets."""

import re

from gateway.control.cells import COUNTERS, GAUGES, KINDS, concerns
from gateway.decision import Reason


def test_every_number_has_a_family_and_a_place_of_its_own() -> None:
    """No cell is there twice, and each says what it is; counters and gauges are what their families are."""
    assert len(set(COUNTERS)) == len(COUNTERS)
    assert len(set(GAUGES)) == len(GAUGES)
    assert {KINDS[cell.family].type for cell in COUNTERS} == {"counter"}
    assert {KINDS[cell.family].type for cell in GAUGES} == {"gauge"}


def test_names_are_as_prometheus_wants_them() -> None:
    """Counters end in _total and nothing else does; names are plain, and every family is explained."""
    for name, kind in KINDS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (kind.type == "counter")
        assert kind.help.endswith(".")


def test_denials_are_counted_by_every_reason() -> None:
    """A reason that is added to the decision is counted without anybody thinking of it."""
    counted = {dict(cell.labels)["reason"] for cell in COUNTERS if cell.family == "denials_total"}
    assert counted == {reason.value for reason in Reason}


def test_numbers_that_a_role_cannot_have_are_left_out() -> None:
    """Queries of clients are the resolver's, connections the proxy's, and the cache is in both."""
    assert concerns("dns", "dns_queries_total")
    assert not concerns("proxy", "dns_queries_total")
    assert concerns("proxy", "proxy_connections_total")
    assert not concerns("dns", "proxy_connections_total")
    assert concerns("dns", "dns_cache_entries")
    assert concerns("proxy", "dns_cache_entries")
