"""Do the certificates of an origin hold a key that a rule has pinned?

Pins are digests of public keys and not of certificates (RFC 7469 section 2.4), so that a certificate that is renewed
with its key needs no new policy.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL


def keys_of(chain: Iterable[x509.Certificate]) -> frozenset[str]:
    """Return the digests of the keys of some certificates, as pins are written: SHA-256, base64."""
    return frozenset(pin_of(certificate) for certificate in chain)


def pin_of(certificate: x509.Certificate) -> str:
    """Return the digest of a certificate's key (SubjectPublicKeyInfo): SHA-256, base64."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(hashlib.sha256(key).digest()).decode()


def pin_problem(pins: Sequence[str], connection: SSL.Connection | None) -> str | None:
    """Return why a connection proves none of some pins, or None.

    The chain that was verified counts, not what else the server sent: those certificates prove nothing.
    """
    if connection is None:
        return "no certificate was shown"
    chain = connection.get_verified_chain()
    if not chain:
        return "no chain of certificates was verified"
    keys = keys_of(certificate.to_cryptography() for certificate in chain)
    if not keys.isdisjoint(pins):
        return None
    return f"no key of the origin is pinned; its own is sha256//{pin_of(chain[0].to_cryptography())}"
