"""The shipped data."""

from pathlib import Path

from gateway.domainset import parse_pattern
from gateway.tunnelling.data import character_model, popular, services
from gateway.tunnelling.priors import Prior
from gateway.tunnelling.train import SHARED_SUFFIXES
from gateway.tunnelling.zones import is_hosted

DATA = Path(__file__).parents[3] / "gateway" / "tunnelling" / "known"


def test_it_is_small() -> None:
    """All data files together stay below 300 KB."""
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 300_000


def test_popular_is_what_people_use() -> None:
    """Well-known domains are leading; shared ones are unknown, however popular."""
    assert popular().prior("google.com") is Prior.LEADING
    assert popular().prior("duckdns.org") is Prior.UNKNOWN
    assert popular().prior("no-such-domain-at-all.com") is Prior.UNKNOWN


def test_services_say_what_they_carry() -> None:
    """Each shipped service is a pattern, and says what its names carry and why it passes."""
    found = services()
    assert len({service.suffix for service in found}) == len(found) > 60
    for service in found:
        name, _, below = parse_pattern(service.suffix)
        assert below, service
        assert "." in name, service
        assert all(service), service


def test_operated_domains_give_nobody_a_zone() -> None:
    """No domain whose operator answers for all is a suffix under which customers have zones, or shared in another
    way; and it is a popular one."""
    operated = popular().operated
    assert len(operated) > 80
    assert not {domain for domain in operated if is_hosted(f"me.{domain}")}
    assert not operated & SHARED_SUFFIXES
    assert {popular().prior(domain) for domain in operated} == {Prior.POPULAR}


def test_ordinary_labels_are_cheap() -> None:
    """Labels that everybody uses cost less than an octet each."""
    assert all(character_model().bits(label) < 8 for label in ("www", "api", "cdn", "_dmarc", "_tcp"))
