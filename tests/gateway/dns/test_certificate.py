"""Tests for gateway.dns.certificate."""

import logging
import subprocess
from pathlib import Path, PosixPath

import pytest

from gateway.dns.certificate import Certificate, CertificateError, certificate_problem


def openssl(folder: Path, name: str, *more: str) -> tuple[Path, Path]:
    """Make a certificate as an administrator does."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"]
    words += ["-subj", f"/CN={name}", "-out", str(cert), "-keyout", str(key), *(more or ("-nodes",))]
    subprocess.run(words, check=True, capture_output=True)
    return cert, key


def test_a_certificate_of_openssl_is_good(tmp_path: Path) -> None:
    """What openssl makes can be used, for TLS 1.2 and above alone."""
    files = openssl(tmp_path, "dns")
    certificate = Certificate(*files)
    assert certificate.dot().minimum_version == certificate.doh().minimum_version == 0x303
    assert certificate_problem(files) is None
    assert certificate_problem(None) is None


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    """Each kind of bad file is one line that names the file and says what to do."""
    cert, key = openssl(tmp_path, "one")
    _, other = openssl(tmp_path, "two")
    _, locked = openssl(tmp_path, "three", "-passout", "pass:secret")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    missing = tmp_path / "missing.pem"
    for files, expected in (
        ((missing, key), f"dns.certificate.cert: {missing}: No such file or directory; give a PEM file"),
        ((cert, tmp_path), f"dns.certificate.key: {tmp_path}: Is a directory; give a PEM file"),
        ((key, cert), f"dns.certificate.cert: {key}: holds no certificate; give one in PEM form"),
        ((cert, cert), f"dns.certificate.key: {cert}: holds no private key; give one in PEM form"),
        ((cert, other), f"dns.certificate: {other} is not the key of {cert}; give the two"),
        ((cert, locked), f"dns.certificate.key: {locked}: has a passphrase; give a key without one"),
        ((broken, key), f"dns.certificate: {broken} and {key} cannot be used ("),
    ):
        with pytest.raises(CertificateError) as caught:
            Certificate(*files)
        assert str(caught.value).startswith(expected)
        assert certificate_problem(files) == str(caught.value)
        assert "\n" not in str(caught.value)


class Vanishing(PosixPath):
    """A file that somebody takes away as soon as it was read."""

    def read_bytes(self) -> bytes:
        """Return what is in it for the last time."""
        octets = super().read_bytes()
        self.unlink()
        return octets


def test_a_file_that_is_replaced_while_it_is_loaded_keeps_the_old_certificate(tmp_path: Path) -> None:
    """Whoever follows the configuration goes on to follow it, and loads the file at the next reload."""
    first, second = openssl(tmp_path, "one"), openssl(tmp_path, "two")
    certificate = Certificate(*first)
    assert not certificate.renew(Vanishing(second[0]), second[1])
    assert certificate.renew(*first)


def test_a_bad_renewal_keeps_the_old_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be used changes nothing and is told; a good one is used from then on."""
    first, second = openssl(tmp_path, "one"), openssl(tmp_path, "two")
    certificate = Certificate(*first)
    before = certificate.dot(), certificate.doh()
    with caplog.at_level(logging.ERROR):
        assert not certificate.renew(first[0], second[1])
    assert "the old certificate stays in use" in caplog.text
    assert (certificate.dot(), certificate.doh()) == before
    assert certificate.renew(*second)
    assert certificate.dot() is not before[0]
    assert certificate.doh() is not before[1]
