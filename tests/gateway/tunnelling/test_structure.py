"""Types and octets that no honest query has."""

import pytest

from gateway.tunnelling.structure import Controls, flaw_of


@pytest.mark.parametrize("qtype", [10, 25, 24, 30, 65280, 65399, 1000])
def test_types_in_no_use(qtype: int) -> None:
    """NULL, KEY, the obsolete and the private types are refused, and pass with the control off."""
    assert flaw_of("a.example.com", qtype, Controls()) == f"type {qtype} is in no use"
    assert flaw_of("a.example.com", qtype, Controls(types=False)) is None


@pytest.mark.parametrize("qtype", [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 43, 48, 52, 64, 65, 257])
def test_types_in_use(qtype: int) -> None:
    """Types that clients use pass."""
    assert flaw_of("_25._tcp.mx-1.example.com", qtype, Controls()) is None


@pytest.mark.parametrize("name", ["a\\\\200.example.com", "a=b.example.com", "a+b.example.com", "a/b.example.com"])
def test_octets(name: str) -> None:
    """Octets that host names do not have are refused, and pass with the control off."""
    assert flaw_of(name, 1, Controls()) == "octets that host names do not have"
    assert flaw_of(name, 1, Controls(octets=False)) is None
