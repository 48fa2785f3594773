"""A TLS web server that records every connection, and the certificates for it."""

import asyncio
import datetime
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.addresses import parse_address
from gateway.selfcheck.client import start_tls
from tests.peers.http_origin import Origin


@dataclass(slots=True)
class TlsOrigin(Origin):
    """Serves HTTP/1.1 inside TLS. A connection counts before its handshake, a request after it."""

    certificate: Path | None = None
    """PEM file with key and certificate."""
    server_names: list[str | None] = field(default_factory=list)
    """What clients asked for in SNI."""

    async def secure(self, writer: asyncio.StreamWriter) -> None:
        """Do the handshake."""
        assert self.certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)

        def remember(_: object, name: str | None, __: object) -> None:
            self.server_names.append(name)

        context.sni_callback = remember
        await start_tls(writer, context)


def _general_name(text: str) -> x509.GeneralName:
    address = parse_address(text)
    return x509.DNSName(text) if address is None else x509.IPAddress(address)


def make_certificate(path: Path, *names: str) -> Path:
    """Write a self-signed certificate for some names, with its key, and return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
