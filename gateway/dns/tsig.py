"""Signed DNS messages (TSIG, RFC 8945): reading the signature of a query, and signing a stream of answers.

Pure: no I/O, no clock (`now` is an argument). Bounds-checked: what cannot be read raises ValueError.
"""

import hmac
import re
import struct
from dataclasses import dataclass, replace

from gateway.dns.message import encode_name
from gateway.tsigkey import Key

TSIG = 250
ANY = 255
FUDGE = 300
"""Seconds by which clocks may differ."""
NOTAUTH = 9
BADSIG, BADKEY, BADTIME = 16, 17, 18
_HEADER = 12
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Signature:
    """The TSIG record of a message, and the message without it."""

    message: bytes
    name: str
    algorithm: str
    time: int
    fudge: int
    mac: bytes
    original_id: int
    error: int
    other: bytes = b""

    def variables(self) -> bytes:
        """Return what is signed of the record itself (section 4.3.3)."""
        return (
            encode_name(self.name)
            + struct.pack("!HI", ANY, 0)
            + encode_name(self.algorithm)
            + self.timers()
            + struct.pack("!HH", self.error, len(self.other))
            + self.other
        )

    def timers(self) -> bytes:
        """Return what is signed of the record in later messages of a stream (section 5.3.1)."""
        return self.time.to_bytes(6, "big") + self.fudge.to_bytes(2, "big")

    def record(self) -> bytes:
        """Return the record."""
        data = (
            encode_name(self.algorithm)
            + self.timers()
            + struct.pack("!H", len(self.mac))
            + self.mac
            + struct.pack("!HHH", self.original_id, self.error, len(self.other))
            + self.other
        )
        return encode_name(self.name) + struct.pack("!HHIH", TSIG, ANY, 0, len(data)) + data


def split(message: bytes) -> Signature | None:
    """Return the signature of a message; None when it has none.

    Raises:
        ValueError: it cannot be read, or the signature is not the last record.
    """
    if len(message) < _HEADER:
        raise ValueError("shorter than a header")
    counts = struct.unpack_from("!4H", message, 4)
    at = _HEADER
    for _ in range(counts[0]):
        at = _skip_name(message, at) + 4
    last = sum(counts[1:]) - 1
    for number in range(last + 1):
        start = at
        at = _skip_name(message, at)
        kind, _, _, length = _unpack("!HHIH", message, at)
        data = at + 10
        at = data + length
        if at > len(message):
            raise ValueError("a record is cut short")
        if kind != TSIG:
            continue
        if number != last or not counts[3]:
            raise ValueError("a signature that is not the last record")
        return _read(message, start, data, at, counts[3])
    return None


def _read(message: bytes, start: int, data: int, end: int, additional: int) -> Signature:
    name, _ = _name(message, start)
    algorithm, at = _name(message, data)
    high, low, fudge, size = _unpack("!HIHH", message, at)
    mac = message[at + 10 : at + 10 + size]
    original, error, other = _unpack("!HHH", message, at + 10 + size)
    if at + 16 + size + other != end:
        raise ValueError("a signature of the wrong length")
    head = message[:10] + (additional - 1).to_bytes(2, "big")
    bare = original.to_bytes(2, "big") + head[2:] + message[_HEADER:start]
    return Signature(bare, name, algorithm, high << 32 | low, fudge, mac, original, error, message[end - other : end])


def _unpack(layout: str, message: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, message, at)
    except struct.error:
        raise ValueError("a record is cut short") from None


def _skip_name(message: bytes, at: int) -> int:
    while at < len(message):
        length = message[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at
    raise ValueError("a name is cut short")


def _name(message: bytes, at: int) -> tuple[str, int]:
    """Return a name that is not compressed, in lower case, and where it ends. It can be written again."""
    labels: list[str] = []
    start = at
    while True:
        if at >= len(message) or message[at] > 63:
            raise ValueError("a name is cut short, or compressed")
        if at - start >= _MAX_NAME:
            raise ValueError(f"a name longer than {_MAX_NAME} octets")
        length = message[at]
        at += 1
        if not length:
            return ".".join(labels), at
        label = message[at : at + length].decode("ascii", "replace").lower()
        if len(label) != length or not re.fullmatch(r"[a-z0-9_-]+", label):
            raise ValueError("a name that no key has")
        labels.append(label)
        at += length


def verify(signature: Signature, keys: dict[str, Key], now: float) -> tuple[Key | None, int]:
    """Return the key that a query is signed with, and the error if it is not (section 5.2): the key, then the
    signature, then the time."""
    key = keys.get(signature.name)
    if key is None or signature.algorithm != key.algorithm:
        return None, BADKEY
    # The whole code and nothing less: nobody needs truncated ones.
    if not hmac.compare_digest(key.mac(signature.message + signature.variables()), signature.mac):
        return None, BADSIG
    if abs(int(now) - signature.time) > signature.fudge:
        return key, BADTIME
    return key, 0


@dataclass(slots=True)
class Signer:
    """Signs the answers to one query, in their order."""

    key: Key
    request: Signature
    _before: bytes = b""

    def sign(self, message: bytes, now: float, *, error: int = 0) -> bytes:
        """Return a message with its signature."""
        first = not self._before
        key, ident = self.key, self.request.original_id
        made = Signature(message, key.name, key.algorithm, int(now), FUDGE, b"", ident, error)
        if error == BADTIME:
            made = replace(made, time=self.request.time, other=int(now).to_bytes(6, "big"))
        prior = self.request.mac if first else self._before
        signed = len(prior).to_bytes(2, "big") + prior + message + (made.variables() if first else made.timers())
        self._before = self.key.mac(signed)
        return append(message, replace(made, mac=self._before))


def append(message: bytes, signature: Signature) -> bytes:
    """Return a message with a record behind it."""
    count = int.from_bytes(message[10:12], "big") + 1
    return message[:10] + count.to_bytes(2, "big") + message[_HEADER:] + signature.record()
