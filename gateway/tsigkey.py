"""Keys that two name servers share (TSIG, RFC 8945).

Pure: no I/O, no clock.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field

from gateway.names import normalize

_ALGORITHMS = {
    "hmac-sha256": hashlib.sha256,
    "hmac-sha384": hashlib.sha384,
    "hmac-sha512": hashlib.sha512,
}
"""No MD5 and no SHA-1: every server of the last ten years has these."""
_KEY = re.compile(
    r'key\s+"?([^\s"{]+)"?\s*\{\s*algorithm\s+"?([A-Za-z0-9-]+)"?\s*;\s*secret\s+"?([A-Za-z0-9+/=]+)"?\s*;\s*\}\s*;?'
)
_COMMENT = re.compile(r"(?:#|//)[^\n]*|/\*.*?\*/", re.DOTALL)
_MIN_SECRET = 16


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that two servers share."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)

    def mac(self, data: bytes) -> bytes:
        """Return the message authentication code of some octets."""
        return hmac.new(self.secret, data, _ALGORITHMS[self.algorithm]).digest()


def parse_keys(text: str) -> dict[str, Key]:
    """Read keys as `tsig-keygen` writes them: `key "name" { algorithm hmac-sha256; secret "..."; };`.

    Raises:
        ValueError: there is none, or something that is no key.
    """
    keys: dict[str, Key] = {}
    text = _COMMENT.sub("", text)
    for found in _KEY.finditer(text):
        name, algorithm = normalize(found[1]), found[2].lower()
        if algorithm not in _ALGORITHMS:
            raise ValueError(f"key {name}: algorithm {algorithm!r} is not one of {', '.join(_ALGORITHMS)}")
        try:
            secret = base64.b64decode(found[3], validate=True)
        except binascii.Error:
            secret = b""
        if len(secret) < _MIN_SECRET:
            raise ValueError(f"key {name}: the secret is no base64 of {_MIN_SECRET} octets or more")
        keys[name] = Key(name, algorithm, secret)
    if not keys or _KEY.sub("", text).strip():
        raise ValueError('expected what tsig-keygen writes: key "name" { algorithm hmac-sha256; secret "..."; };')
    return keys
