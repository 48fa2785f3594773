"""Whether a copy is what its publisher made: a pinned digest, a minisign signature, a plain Ed25519 signature.

Pure: no I/O, no clock. All of them are about the file as it was published, before it is unpacked.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_SIGNATURE = 16 << 10
"""Octets of a signature file: far more than any has."""
_PLAIN, _HASHED = b"Ed", b"ED"
_KEY_ID = 8
_KEY, _SIGNATURE = 32, 64


@dataclass(frozen=True, slots=True)
class MinisignKey:
    """A public key as `minisign -G` writes it (https://jedisct1.github.io/minisign/, "Signature format")."""

    id: bytes
    key: bytes


def parse_minisign_key(text: str) -> MinisignKey:
    """Read a public key: the second line of `minisign.pub`.

    Raises:
        ValueError: it is none.
    """
    octets = _decode(text)
    if octets is None or len(octets) != 2 + _KEY_ID + _KEY or octets[:2] != _PLAIN:
        raise ValueError("expected a minisign public key: the line of 56 characters that begins with RW")
    return MinisignKey(octets[2 : 2 + _KEY_ID], octets[2 + _KEY_ID :])


def parse_ed25519_key(text: str) -> bytes:
    """Read a public key: its 32 octets in base64.

    Raises:
        ValueError: it is none.
    """
    octets = _decode(text)
    if octets is None or len(octets) != _KEY:
        raise ValueError("expected an Ed25519 public key: 32 octets in base64")
    return octets


def flaw_of_digest(published: bytes, sha256: str) -> str:
    """Return what is wrong with a file whose digest is known, or nothing."""
    found = hashlib.sha256(published).hexdigest()
    return "" if found == sha256 else f"has the SHA-256 digest {found}, not the one given"


def flaw_of_minisign(published: bytes, signature: bytes, key: MinisignKey) -> str:
    """Return what is wrong with a file or its `.minisig`, or nothing. The trusted comment has to be genuine, too."""
    lines = signature.decode("utf-8", "replace").splitlines()
    made = _decode(lines[1]) if len(lines) > 1 else None
    whole = _decode(lines[3]) if len(lines) > 3 else None
    prefix = "trusted comment: "
    if (
        made is None
        or whole is None
        or len(made) != 2 + _KEY_ID + _SIGNATURE
        or made[:2] not in (_PLAIN, _HASHED)
        or not lines[2].startswith(prefix)
    ):
        return "has a signature that is no minisign signature"
    if made[2 : 2 + _KEY_ID] != key.id:
        return "is signed with another minisign key than the one given"
    signed = published if made[:2] == _PLAIN else hashlib.blake2b(published).digest()
    of_file = made[2 + _KEY_ID :]
    comment = lines[2].removeprefix(prefix).encode()
    if not (_is_signed(key.key, of_file, signed) and _is_signed(key.key, whole, of_file + comment)):
        return "has a minisign signature that does not fit"
    return ""


def flaw_of_ed25519(published: bytes, signature: bytes, key: bytes) -> str:
    """Return what is wrong with a file or its detached signature (64 octets, or those in base64), or nothing."""
    made = signature if len(signature) == _SIGNATURE else _decode(signature.decode("ascii", "replace").strip())
    if made is None or len(made) != _SIGNATURE:
        return "has a signature that is no Ed25519 signature"
    return "" if _is_signed(key, made, published) else "has an Ed25519 signature that does not fit"


def _is_signed(key: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
