"""Tests of `addons.pinning`: keys as pins. With origins: tests/integration/test_proxy_pins.py."""

import re
import subprocess
from pathlib import Path

from cryptography import x509

from addons.pinning import keys_of, pin_of, pin_problem
from tests.peers.certificates import Authority
from tests.peers.tls_origin import make_certificate


def test_as_openssl_says(tmp_path: Path) -> None:
    """A pin is what the commands in RFC 7469 appendix A make of the certificate."""
    path = make_certificate(tmp_path / "one.pem", "good.test")
    commands = "openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl enc -base64"
    told = subprocess.run(
        ["sh", "-c", f"openssl x509 -in {path} -noout -pubkey | {commands}"], check=True, capture_output=True
    )
    assert pin_of(x509.load_pem_x509_certificate(path.read_bytes())) == told.stdout.decode().strip()


def test_keys_of_a_chain(tmp_path: Path) -> None:
    """Each certificate of a chain brings its key."""
    authority = Authority(tmp_path)
    files = (authority.file, authority.issue("good.test", "Example"))
    keys = keys_of(x509.load_pem_x509_certificate(each.read_bytes()) for each in files)
    assert len(keys) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9+/]{43}=", key) for key in keys)


def test_nothing_shown() -> None:
    """Without TLS nothing is proven."""
    assert pin_problem(["x"], None) == "no certificate was shown"
