"""Accounts of proxy users: the lines of an htpasswd file, and whether a password is theirs.

Pure: no I/O, no clock. Read are bcrypt (`htpasswd -B`), SHA-1 (`htpasswd -s`) and Apache's MD5 (`htpasswd -m`, which
is its default). The latter two are quick to guess: they are for files that exist already.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5, sha1

import bcrypt

_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}\Z")
_SHA = re.compile(r"\{SHA\}[A-Za-z0-9+/]{27}=\Z")
_APR1 = re.compile(r"\$apr1\$([./A-Za-z0-9]{1,8})\$([./A-Za-z0-9]{22})\Z")
_COSTS = range(4, 17)
"""bcrypt's cost doubles with each step: 16 is some five seconds of a core for each check, and nobody waits longer."""
_BCRYPT_OCTETS = 72
"""bcrypt looks at no more of a password, and htpasswd cuts it there too."""
_LONGEST_NAME = 255
_ITOA64 = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who can prove who they are, and whether everybody has to."""

    hashes: Mapping[str, str] = field(repr=False)
    """The stored form of each user's password."""
    required: bool = False
    """No request without user and password."""

    @property
    def decoy(self) -> str:
        """What to check the password of a user against who does not exist, so that the answer takes as long."""
        costs = [int(found[1]) for stored in self.hashes.values() if (found := _BCRYPT.match(stored))]
        return f"$2b${max(costs, default=4):02}${'.' * 53}" if costs else "{SHA}" + "A" * 27 + "="


def parse_htpasswd(text: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """Return the accounts of a file, and what is wrong with it: lines, counted from 1, and messages."""
    hashes: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        user, colon, stored = line.partition(":")
        if not colon or not user:
            problems.append((number, "expected user:hash, as htpasswd -B writes it"))
        elif not user.isprintable() or len(user.encode()) > _LONGEST_NAME:
            problems.append((number, f"user {user[:40]!r}: expected at most {_LONGEST_NAME} printable characters"))
        elif user in hashes:
            problems.append((number, f"user {user!r} is there twice"))
        elif problem := _hash_problem(stored):
            problems.append((number, f"user {user!r}: {problem}"))
        else:
            hashes[user] = stored
    return hashes, problems


def _hash_problem(stored: str) -> str:
    found = _BCRYPT.match(stored)
    if found:
        cost = int(found[1])
        if cost in _COSTS:
            return ""
        return f"bcrypt of cost {cost}, expected {_COSTS.start} to {_COSTS.stop - 1}"
    if _SHA.match(stored) or _APR1.match(stored):
        return ""
    return "no hash that the gateway reads; make one with htpasswd -B (bcrypt)"


def matches(stored: str, password: bytes) -> bool:
    """Say whether a password is the one behind a stored hash. Takes as long as the hash wants, up to seconds."""
    if _BCRYPT.match(stored):
        return bcrypt.checkpw(password[:_BCRYPT_OCTETS], stored.encode("ascii"))
    if found := _APR1.match(stored):
        return hmac.compare_digest(_apr1(password, found[1].encode("ascii")), found[2].encode("ascii"))
    digest = base64.b64encode(sha1(password, usedforsecurity=False).digest())
    return hmac.compare_digest(b"{SHA}" + digest, stored.encode("ascii"))


def _apr1(password: bytes, salt: bytes) -> bytes:
    """Return Apache's MD5 of a password: that of crypt(3) with a prefix of its own."""
    inner = _md5(password + salt + password)
    length = len(password)
    start = password + b"$apr1$" + salt + (inner * (length // 16 + 1))[:length]
    while length:
        start += b"\0" if length & 1 else password[:1]
        length >>= 1
    digest = _md5(start)
    for turn in range(1000):
        step = password if turn & 1 else digest
        if turn % 3:
            step += salt
        if turn % 7:
            step += password
        digest = _md5(step + (digest if turn & 1 else password))
    groups = [(digest[i], digest[i + 6], digest[i + 12 if i < 4 else 5]) for i in range(5)]
    text = b"".join(_to64(high << 16 | middle << 8 | low, 4) for high, middle, low in groups)
    return text + _to64(digest[11], 2)


def _to64(value: int, count: int) -> bytes:
    return bytes(_ITOA64[value >> 6 * place & 0x3F] for place in range(count))


def _md5(data: bytes) -> bytes:
    return md5(data, usedforsecurity=False).digest()
