"""Tests of `gateway.proxy.leaves`."""

from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from gateway.proxy.ca import BASENAME, ensure_ca
from gateway.proxy.leaves import MOST, Leaves


def test_the_oldest_is_forgotten(tmp_path: Path) -> None:
    """As many are kept as may be, and which are forgotten depends on when they were made."""
    ensure_ca(tmp_path)
    leaves = Leaves.from_store(tmp_path, BASENAME, 2048)
    assert isinstance(leaves, Leaves)
    assert leaves.STORE_CAP == MOST
    leaves.STORE_CAP = 3

    def serial(name: str) -> int:
        return leaves.get_cert(name, [x509.DNSName(name)]).cert.serial

    first = {name: serial(name) for name in ("a.test", "b.test", "c.test")}
    assert {name: serial(name) for name in first} == first
    serial("d.test")
    assert len(leaves.certs) == 3
    assert serial("b.test") == first["b.test"]
    assert serial("c.test") == first["c.test"]
    assert serial("a.test") != first["a.test"]
    assert len(leaves.certs) == 3


def test_which_names_are_known(tmp_path: Path) -> None:
    """Those of the certificates that are kept: each while one of them names it."""
    ensure_ca(tmp_path)
    leaves = Leaves.from_store(tmp_path, BASENAME, 2048)
    assert isinstance(leaves, Leaves)
    leaves.STORE_CAP = 2
    assert not leaves.knows("a.test")
    leaves.get_cert("a.test", [x509.DNSName("a.test")])
    leaves.get_cert("10.0.0.1", [x509.IPAddress(ip_address("10.0.0.1")), x509.DNSName("a.test")])
    assert leaves.knows("a.test")
    assert leaves.knows("10.0.0.1")
    leaves.get_cert("b.test", [x509.DNSName("b.test")])
    assert leaves.knows("a.test")
    leaves.get_cert("c.test", [x509.DNSName("c.test")])
    assert not leaves.knows("a.test")
    assert not leaves.knows("10.0.0.1")
    assert leaves.knows("b.test")
    assert leaves.knows("c.test")
