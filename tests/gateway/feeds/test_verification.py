"""Digests and signatures: what fits, and everything that does not."""

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.feeds.publickeys import parse_ed25519_key, parse_minisign_key
from gateway.feeds.verification import flaw_of_digest, flaw_of_ed25519, flaw_of_minisign

LIST = b"a.example\nb.example\n"
SECRET = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = SECRET.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
ID = b"12345678"
KEY = base64.b64encode(b"Ed" + ID + PUBLIC).decode()


def minisig(data: bytes, *, kind: bytes = b"ED", id: bytes = ID, comment: str = "timestamp:1") -> bytes:
    """Sign as minisign does."""
    made = SECRET.sign(hashlib.blake2b(data).digest() if kind == b"ED" else data)
    whole = SECRET.sign(made + comment.encode())
    first, last = base64.b64encode(kind + id + made).decode(), base64.b64encode(whole).decode()
    return f"untrusted comment: signature\n{first}\ntrusted comment: {comment}\n{last}\n".encode()


@pytest.mark.parametrize("kind", [b"ED", b"Ed"])
def test_minisign(kind: bytes) -> None:
    """Both kinds of signature that minisign makes are good; over other content they are not."""
    key = parse_minisign_key(KEY)
    assert flaw_of_minisign(LIST, minisig(LIST, kind=kind), key) == ""
    assert "does not fit" in flaw_of_minisign(LIST + b"c.example\n", minisig(LIST, kind=kind), key)


@pytest.mark.parametrize(
    ("signature", "flaw"),
    [
        (b"", "no minisign signature"),
        (b"<html>not found</html>", "no minisign signature"),
        (minisig(LIST)[:60], "no minisign signature"),
        (minisig(LIST, kind=b"XX"), "no minisign signature"),
        (minisig(LIST, id=b"87654321"), "signed with another minisign key"),
        (minisig(LIST).replace(b"timestamp:1", b"timestamp:2"), "does not fit"),
    ],
)
def test_minisign_signatures_that_are_none(signature: bytes, flaw: str) -> None:
    """Half a signature, one of another key, and one with a changed comment prove nothing."""
    assert flaw in flaw_of_minisign(LIST, signature, parse_minisign_key(KEY))


def test_the_real_minisign(tmp_path: Path) -> None:
    """What the minisign program signs is good."""
    program = shutil.which("minisign")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs minisign")
        pytest.skip("minisign is not installed")
    file = tmp_path / "list"
    file.write_bytes(LIST)
    names = {"-p": tmp_path / "key.pub", "-s": tmp_path / "key"}
    options = [str(word) for pair in names.items() for word in pair]
    subprocess.run([program, "-G", "-W", *options], check=True, capture_output=True)
    subprocess.run([program, "-S", "-s", str(names["-s"]), "-m", str(file)], check=True, capture_output=True)
    key = parse_minisign_key(names["-p"].read_text().splitlines()[1])
    signature = (tmp_path / "list.minisig").read_bytes()
    assert flaw_of_minisign(LIST, signature, key) == ""
    assert "does not fit" in flaw_of_minisign(LIST + b"\n", signature, key)


def test_ed25519() -> None:
    """A detached signature may be 64 octets, or those in base64."""
    key = parse_ed25519_key(base64.b64encode(PUBLIC).decode())
    made = SECRET.sign(LIST)
    assert flaw_of_ed25519(LIST, made, key) == ""
    assert flaw_of_ed25519(LIST, base64.b64encode(made) + b"\n", key) == ""
    assert "does not fit" in flaw_of_ed25519(LIST + b"\n", made, key)
    for nothing in (b"", b"\xff" * 10, b"AAAA"):
        assert "no Ed25519 signature" in flaw_of_ed25519(LIST, nothing, key)


def test_digests() -> None:
    """A pinned file is that one or none."""
    good = hashlib.sha256(LIST).hexdigest()
    assert flaw_of_digest(LIST, good) == ""
    assert flaw_of_digest(LIST + b"\n", good).endswith("not the one given")
