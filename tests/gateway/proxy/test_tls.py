"""Tests of `gateway.proxy.tls`. What clients see is in tests/integration/test_proxy_identity.py."""

import datetime
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.decision import Reason
from gateway.dns.certificate import CertificateError
from gateway.proxy.tls import TlsFiles, handshake_flaw, listener_context, proven, read_names, tls_problem
from tests.builders import a_client
from tests.peers.tls_origin import make_certificate


def encoded(subject: Sequence[tuple[x509.ObjectIdentifier, str]], *names: x509.GeneralName) -> bytes:
    """Return a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_names() -> None:
    """The subject is read as RFC 4514 has it, the most special part first; further names say their kind."""
    found = read_names(
        encoded(
            [(NameOID.ORGANIZATION_NAME, "Example"), (NameOID.COMMON_NAME, "batch")],
            x509.DNSName("Batch.Example"),
            x509.UniformResourceIdentifier("spiffe://example/batch"),
            x509.RFC822Name("batch@example"),
            x509.IPAddress(ip_address("192.0.2.7")),
        )
    )
    further = ("DNS:batch.example", "URI:spiffe://example/batch", "email:batch@example", "IP:192.0.2.7")
    assert found == ("CN=batch,O=Example", further)


def test_no_name_passes_for_another() -> None:
    """Separators inside a value are escaped: no value of one field reads like another subject or kind of name."""
    subject, names = read_names(encoded([(NameOID.COMMON_NAME, "batch,O=Example"), (NameOID.COMMON_NAME, "DNS:x")]))
    assert subject == "CN=DNS:x,CN=batch\\,O=Example"
    assert names == ()


def test_names_are_bounded() -> None:
    """Of a certificate with hundreds of names, some count."""
    _, names = read_names(encoded([], *(x509.DNSName(f"{number}.example") for number in range(500))))
    assert len(names) == 64


def test_no_certificate_proves_nothing() -> None:
    """Without TLS, or without a certificate, a client is its address."""
    assert proven(a_client(), None) == a_client()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ValueError, match="handshake"):  # fails closed: nothing was verified yet
        proven(a_client(), server)


def test_files(tmp_path: Path) -> None:
    """With authorities, clients have to show a certificate, and no session is taken up again."""
    both = make_certificate(tmp_path / "both.pem", "proxy.example")
    assert listener_context(TlsFiles(both, both)).verify_mode is ssl.CERT_NONE
    context = listener_context(TlsFiles(both, both, both))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.num_tickets == 0
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls_problem(TlsFiles(both, both, both)) is None
    assert tls_problem(None) is None


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """What is wrong is told with the key of the policy file and the file's name."""
    both, empty, none = make_certificate(tmp_path / "both.pem", "x"), tmp_path / "empty.pem", tmp_path / "none.pem"
    empty.write_text("")
    assert f"proxy.certificate.cert: {none}: No such file" in str(tls_problem(TlsFiles(none, both)))
    assert f"proxy.certificate.key: {empty}: holds no private key" in str(tls_problem(TlsFiles(both, empty)))
    assert f"proxy.client_ca: {none}: No such file" in str(tls_problem(TlsFiles(both, both, none)))
    with pytest.raises(CertificateError, match=r"proxy.client_ca: .*empty.pem: holds no certificate"):
        listener_context(TlsFiles(both, both, empty))


def failure(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    """Return the error of a handshake."""
    error = kind(1, reason)
    error.reason = reason
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "certificate has expired"
    return error


def test_why_a_handshake_failed() -> None:
    """No certificate, one that does not count, and no TLS at all are told apart."""
    flaw = handshake_flaw(failure("PEER_DID_NOT_RETURN_A_CERTIFICATE"))
    assert (flaw.reason, flaw.detail) == (Reason.AUTH_REQUIRED, "a client certificate is needed")
    flaw = handshake_flaw(failure("CERTIFICATE_VERIFY_FAILED", ssl.SSLCertVerificationError))
    assert (flaw.reason, flaw.detail) == (Reason.AUTH_FAILED, "client certificate: certificate has expired")
    flaw = handshake_flaw(failure("HTTP_REQUEST"))
    assert (flaw.reason, flaw.detail) == (Reason.NOT_TLS, "TLS handshake: http request")
