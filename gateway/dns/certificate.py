"""The certificate of the encrypted listeners, and its renewal while they serve."""

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path

_LOG = logging.getLogger(__name__)

DOT = ("dot",)
DOH = ("h2", "http/1.1")
"""What is agreed on by ALPN (RFC 7301)."""


class CertificateError(OSError):
    """A certificate cannot be used; the text says which, why and what to do."""


class Certificate:
    """A certificate with its key. Connections ask for the context that is current when they begin."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Load both files.

        Raises:
            CertificateError: they cannot be used.
        """
        self._dot = server_context(cert, key, DOT)
        self._doh = server_context(cert, key, DOH)

    def dot(self) -> ssl.SSLContext:
        """Return the context for DNS over TLS."""
        return self._dot

    def doh(self) -> ssl.SSLContext:
        """Return the context for DNS over HTTPS."""
        return self._doh

    def renew(self, cert: Path, key: Path) -> bool:
        """Load the files anew for the connections to come. If that fails, say so, and keep what there is."""
        try:
            fresh = server_context(cert, key, DOT), server_context(cert, key, DOH)
        except CertificateError as error:
            _LOG.error("the old certificate stays in use: %s", error)
            return False
        self._dot, self._doh = fresh
        return True


def certificate_problem(files: tuple[Path, Path] | None) -> str | None:
    """Return why a certificate cannot be used and what to do, or None; also when there is none to use."""
    try:
        if files is not None:
            Certificate(*files)
    except CertificateError as error:
        return str(error)
    return None


def server_context(
    cert: Path, key: Path, protocols: Sequence[str], section: str = "dns.certificate"
) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and newer with a certificate. `section` is where the policy file names it.

    Raises:
        CertificateError: it cannot be used.
    """
    for name, path in (("cert", cert), ("key", key)):
        try:
            text = path.read_bytes()
        except OSError as error:
            raise CertificateError(
                f"{section}.{name}: {path}: {error.strerror or error}; give a PEM file that this user may read"
            ) from None
        if (b"CERTIFICATE-----" if name == "cert" else b"PRIVATE KEY-----") not in text:
            kind = "certificate" if name == "cert" else "private key"
            raise CertificateError(f"{section}.{name}: {path}: holds no {kind}; give one in PEM form")
        if name == "key" and b"ENCRYPTED" in text:
            # Nobody is there to type a passphrase; OpenSSL would wait for one.
            raise CertificateError(f"{section}.key: {path}: has a passphrase; give a key without one")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(protocols))
    try:
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(
                f"{section}: {key} is not the key of {cert}; give the two that were made together"
            ) from None
        why = (error.reason or "unreadable").replace("_", " ").lower()
        raise CertificateError(
            f"{section}: {cert} and {key} cannot be used ({why}); check them with 'openssl x509' and 'openssl pkey'"
        ) from None
    except OSError as error:  # replaced in this moment: whoever renews tries again at the next reload
        raise CertificateError(f"{section}: {cert} and {key}: {error.strerror or error}; load it again") from None
    return context
