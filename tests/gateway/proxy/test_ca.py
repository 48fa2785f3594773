"""Tests of `gateway.proxy.ca`."""

import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.proxy.ca import ensure_ca


def test_made_once(tmp_path: Path) -> None:
    """Key and certificate are made once, belong together, and are the owner's alone."""
    certificate = ensure_ca(tmp_path / "ca")
    both = tmp_path / "ca" / "mitmproxy-ca.pem"
    before = both.read_bytes()
    assert ensure_ca(tmp_path / "ca") == certificate
    assert both.read_bytes() == before
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    assert isinstance(found.public_key(), ec.EllipticCurvePublicKey)
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert found.public_bytes is not None
    assert certificate.read_bytes() in before
    assert stat.S_IMODE(both.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "ca").iterdir()) == ["mitmproxy-ca-cert.pem", "mitmproxy-ca.pem"]


def test_certificate_follows_the_key(tmp_path: Path) -> None:
    """A certificate that was lost is made anew from the one beside the key."""
    certificate = ensure_ca(tmp_path)
    before = certificate.read_bytes()
    certificate.unlink()
    assert ensure_ca(tmp_path).read_bytes() == before
