"""The proxy's TLS listeners: their certificate, the client certificates they take, and who a client is by its own."""

import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from gateway.decision import Reason
from gateway.dns.certificate import CertificateError, server_context
from gateway.request import Client, Flaw

_PROTOCOLS = ("http/1.1",)
_MOST_NAMES = 64
"""Further names that are read of a certificate."""
_NOT_PROVEN = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": Reason.AUTH_REQUIRED,
    "CERTIFICATE_VERIFY_FAILED": Reason.AUTH_FAILED,
}


class TlsFiles(NamedTuple):
    """PEM files of the TLS listeners."""

    cert: Path
    key: Path
    client_ca: Path | None = None


def listener_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context for connections to come.

    Raises:
        CertificateError: a file cannot be used; says which, why and what to do.
    """
    context = server_context(files.cert, files.key, _PROTOCOLS, "proxy.certificate")
    if files.client_ca is None:
        return context
    try:
        context.load_verify_locations(files.client_ca)
    except ssl.SSLError:
        raise CertificateError(f"proxy.client_ca: {files.client_ca}: holds no certificate; give PEM") from None
    except OSError as error:
        reason = error.strerror or error
        raise CertificateError(
            f"proxy.client_ca: {files.client_ca}: {reason}; give a file this user may read"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would bring a certificate back that has expired since, or whose authority was taken away.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def tls_problem(files: TlsFiles | None) -> str | None:
    """Return why the files cannot be used and what to do, or None; also when there are none."""
    try:
        if files is not None:
            listener_context(files)
    except CertificateError as error:
        return str(error)
    return None


def proven(client: Client, connection: ssl.SSLObject | None) -> Client:
    """Return a client with what its certificate proves: the subject, and further names.

    Only after a handshake that has verified it: with `client_ca`, there is no other.
    """
    encoded = connection.getpeercert(binary_form=True) if connection is not None else None
    if not encoded:
        return client
    subject, names = read_names(encoded)
    return Client(address=client.address, user=client.user, certificate=subject, names=names)


def read_names(encoded: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the subject of a certificate (RFC 4514; empty if it has none), and its further names by kind."""
    certificate = x509.load_der_x509_certificate(encoded)
    names: list[str] = []
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        found = None
    if isinstance(found, x509.SubjectAlternativeName):
        for name in list(found)[:_MOST_NAMES]:
            match name:
                case x509.DNSName(value=value):
                    names.append(f"DNS:{value.lower()}")
                case x509.UniformResourceIdentifier(value=value):
                    names.append(f"URI:{value}")
                case x509.RFC822Name(value=value):
                    names.append(f"email:{value}")
                case x509.IPAddress(value=address):
                    names.append(f"IP:{address}")
    return certificate.subject.rfc4514_string(), tuple(names)


def handshake_flaw(error: ssl.SSLError) -> Flaw:
    """Say why a handshake failed: a client that has shown no certificate, or none that counts, or no TLS."""
    reason = _NOT_PROVEN.get(error.reason or "", Reason.NOT_TLS)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Flaw(reason, f"client certificate: {error.verify_message}")
    if reason is Reason.AUTH_REQUIRED:
        return Flaw(reason, "a client certificate is needed")
    return Flaw(reason, f"TLS handshake: {(error.reason or 'failed').replace('_', ' ').lower()}")
