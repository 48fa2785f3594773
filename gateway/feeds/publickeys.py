"""Public keys of those who sign lists, as the catalogue has them. What they prove is in `gateway.feeds.verification`.

Pure: no I/O, no clock. A policy file is checked without the library that signatures are verified with.
"""

import base64
import binascii
from dataclasses import dataclass

MINISIGN = b"Ed"
"""How keys of minisign begin, and signatures of files that were not hashed before."""
MINISIGN_ID = 8
"""Octets of the number that a key has, and the signatures that it made."""
_KEY = 32


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
    octets = decode(text)
    if octets is None or len(octets) != 2 + MINISIGN_ID + _KEY or octets[:2] != MINISIGN:
        raise ValueError("expected a minisign public key: the line of 56 characters that begins with RW")
    return MinisignKey(octets[2 : 2 + MINISIGN_ID], octets[2 + MINISIGN_ID :])


def parse_ed25519_key(text: str) -> bytes:
    """Read a public key: its 32 octets in base64.

    Raises:
        ValueError: it is none.
    """
    octets = decode(text)
    if octets is None or len(octets) != _KEY:
        raise ValueError("expected an Ed25519 public key: 32 octets in base64")
    return octets


def decode(text: str) -> bytes | None:
    """Return what is written in base64; None when that is no base64."""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
