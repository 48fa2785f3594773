"""An authority that issues client certificates."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Issues certificates; `file` holds its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test authority", "Example")
        self._now = datetime.datetime.now(datetime.UTC)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        own = (
            self._builder(self._name, self._key).add_extension(basic, critical=True).sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(self, common_name: str, organization: str, *names: str, days: int = 30) -> Path:
        """Write a certificate with its key, and return the file. `names` are DNS names besides the subject."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(common_name, organization), key, days)
        if names:
            further = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(further, critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        path = self._folder / f"{common_name}-{made.serial_number:x}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
        return path

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 30
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - datetime.timedelta(days=60))
            .not_valid_after(self._now + datetime.timedelta(days=days))
        )


def _name(common_name: str, organization: str) -> x509.Name:
    # The subject of a certificate begins with what is most general; its text (RFC 4514) ends with that.
    parts = [(NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])
