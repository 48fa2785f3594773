"""DNS cookies (RFC 7873): a client that shows ours has an address that it really receives at.

The server cookie has the layout of RFC 9018: version, three reserved octets, time, hash. The hash is BLAKE2s with a
key, cut to 8 octets, where RFC 9018 has SipHash-2-4, which Python does not offer; the version is one for private use,
so that nobody mistakes one for the other. Workers that share a port share a secret, or a cookie would be worth
nothing at the next packet; each day has a key of its own, made from the secret, and a cookie says by its time which.
The time is the system's monotonic clock, which all processes of a machine see alike. A query without a valid cookie
is answered all the same, with a new one; a cookie helps a client over its rate limit (`Resolver`).
"""

import hashlib
import hmac
import struct

from gateway.addresses import IPAddress
from gateway.dns.wire import Query, Rcode, WireError

OPTION = 10
_VERSION = b"\xf0\0\0\0"
_CLIENT, _SERVER = 8, 16
_LENGTHS = frozenset((_CLIENT, *range(_CLIENT + 8, _CLIENT + 33)))
_ROTATION = 86400
_PAST, _FUTURE, _RENEW = 3600, 300, 1800
"""RFC 9018 section 4.3: how old a cookie may be, how far ahead, and when it is replaced."""

_pair = struct.Struct("!HH").unpack_from


class Cookies:
    """Makes and checks the cookies of all processes that have the same secret."""

    def __init__(self, secret: bytes) -> None:
        """Take the secret: 32 octets that nobody can guess."""
        self._secret = secret
        self._keys: dict[int, bytes] = {}

    def reply(self, sent: bytes, address: IPAddress, now: float) -> bytes:
        """Return the option to answer a COOKIE option with."""
        mine, server = sent[:_CLIENT], sent[_CLIENT:]
        age = self._age(mine, server, address, now)
        if age is None or age > _RENEW:
            head = _VERSION + (int(now) & 0xFFFFFFFF).to_bytes(4, "big")
            server = head + self._hash(int(now), mine, head, address)
        return struct.pack("!HH", OPTION, _CLIENT + _SERVER) + mine + server

    def is_valid(self, sent: bytes, address: IPAddress, now: float) -> bool:
        """Say whether a COOKIE option proves the address."""
        return self._age(sent[:_CLIENT], sent[_CLIENT:], address, now) is not None

    def _age(self, mine: bytes, server: bytes, address: IPAddress, now: float) -> int | None:
        """Return the age of a cookie that is ours, for this client, and not too old."""
        if len(server) != _SERVER or not server.startswith(_VERSION):
            return None
        # Serial number arithmetic (RFC 1982): the time may wrap round.
        age = (int(now) - int.from_bytes(server[4:8], "big") + (1 << 31)) % (1 << 32) - (1 << 31)
        if not -_FUTURE <= age <= _PAST:
            return None
        good = self._hash(int(now) - age, mine, server[:8], address)
        return age if hmac.compare_digest(server[8:], good) else None

    def _hash(self, made: int, mine: bytes, head: bytes, address: IPAddress) -> bytes:
        day = made // _ROTATION
        key = self._keys.get(day)
        if key is None:
            if len(self._keys) > 2:  # days beside today's come only from cookies within their hour
                self._keys.clear()
            key = hashlib.blake2s(day.to_bytes(8, "big", signed=True), key=self._secret).digest()
            self._keys[day] = key
        return hashlib.blake2s(mine + head + address.packed, digest_size=8, key=key).digest()


def cookie_in(data: bytes, query: Query) -> bytes:
    """Return what the COOKIE option of a query holds; nothing if there is none. Of several, the first counts.

    Raises:
        WireError: its length is none that a cookie has (RFC 7873 section 5.2.2).
    """
    if query.edns is None or not query.edns.options or data[10:12] != b"\0\1":
        return b""  # with other records beside it, OPT may be anywhere: such queries do without cookies
    at = len(data) - query.edns.options
    while at < len(data):
        code, length = _pair(data, at)
        at += 4
        if code == OPTION:
            if length not in _LENGTHS:
                raise WireError(f"a cookie of {length} octets", Rcode.FORMERR, query)
            return data[at : at + length]
        at += length
    return b""
