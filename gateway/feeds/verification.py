"""Whether a copy is what its publisher made: a pinned digest, a minisign signature, a plain Ed25519 signature.

Pure: no I/O, no clock. All of them are about the file as it was published, before it is unpacked.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.feeds.publickeys import MINISIGN, MINISIGN_ID, MinisignKey, decode

MAX_SIGNATURE = 16 << 10
"""Octets of a signature file: far more than any has."""
_HASHED = b"ED"
_SIGNATURE = 64


def flaw_of_digest(published: bytes, sha256: str) -> str:
    """Return what is wrong with a file whose digest is known, or nothing."""
    found = hashlib.sha256(published).hexdigest()
    return "" if found == sha256 else f"has the SHA-256 digest {found}, not the one given"


def flaw_of_minisign(published: bytes, signature: bytes, key: MinisignKey) -> str:
    """Return what is wrong with a file or its `.minisig`, or nothing. The trusted comment has to be genuine, too."""
    lines = signature.decode("utf-8", "replace").splitlines()
    made = decode(lines[1]) if len(lines) > 1 else None
    whole = decode(lines[3]) if len(lines) > 3 else None
    prefix = "trusted comment: "
    if (
        made is None
        or whole is None
        or len(made) != 2 + MINISIGN_ID + _SIGNATURE
        or made[:2] not in (MINISIGN, _HASHED)
        or not lines[2].startswith(prefix)
    ):
        return "has a signature that is no minisign signature"
    if made[2 : 2 + MINISIGN_ID] != key.id:
        return "is signed with another minisign key than the one given"
    signed = published if made[:2] == MINISIGN else hashlib.blake2b(published).digest()
    of_file = made[2 + MINISIGN_ID :]
    comment = lines[2].removeprefix(prefix).encode()
    if not (_is_signed(key.key, of_file, signed) and _is_signed(key.key, whole, of_file + comment)):
        return "has a minisign signature that does not fit"
    return ""


def flaw_of_ed25519(published: bytes, signature: bytes, key: bytes) -> str:
    """Return what is wrong with a file or its detached signature (64 octets, or those in base64), or nothing."""
    made = signature if len(signature) == _SIGNATURE else decode(signature.decode("ascii", "replace").strip())
    if made is None or len(made) != _SIGNATURE:
        return "has a signature that is no Ed25519 signature"
    return "" if _is_signed(key, made, published) else "has an Ed25519 signature that does not fit"


def _is_signed(key: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
