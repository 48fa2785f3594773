"""The certificate authority of inspected tunnels: made once, kept in the state directory, trusted by the clients.

ECDSA P-256 rather than mitmproxy's RSA: signing a handshake is thirty times cheaper, and every client of the last ten
years accepts it. mitmproxy signs leaf certificates with the key of the authority, so their key is the same kind.
"""

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BASENAME = "mitmproxy"
"""File names are those that mitmproxy looks for."""
_YEARS = 10
_NAME = "Egress gateway inspection CA"


def ensure_ca(folder: Path) -> Path:
    """Return the certificate that clients have to trust; make key and certificate where there are none.

    The folder and the key are for the owner alone: who has the key can be any server for every client.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    certificate = folder / f"{BASENAME}-ca-cert.pem"
    both = folder / f"{BASENAME}-ca.pem"
    if not both.exists():
        key, made = _make(datetime.datetime.now(datetime.UTC))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(both, private + made.public_bytes(serialization.Encoding.PEM), 0o600)
    if not certificate.exists():
        # From the file, not from memory: another worker's key may have been there first.
        found = x509.load_pem_x509_certificate(both.read_bytes())
        _write(certificate, found.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate


def _make(now: datetime.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(now - datetime.timedelta(days=2))  # clients whose clock is behind
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is whole or not there, and never readable by others even for a moment."""
    partial = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    # Another worker may make one at the same time: the first link wins, and everybody uses that.
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    partial.unlink()
