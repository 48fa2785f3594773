"""The ClientHello, read before anything else of a tunnel: however it is cut into records and segments.

Pure: no I/O, no clock. RFC 8446 sections 4.1.2, 4.2 and 5.1, RFC 6066, RFC 7301. Only what a client says in the clear
is read; nothing is repaired. An extension that comes twice is refused (RFC 8446 section 4.2), except server_name,
whose names are collected for the policy to judge.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.memo import Memo

MAX_HELLO = 16 * 1024
"""Longest handshake message. The largest seen (post-quantum key shares, tickets) are under 4 KB; TLS allows 16 MB."""
MAX_RECORDS = 2048
"""Most records that one message may be cut into: five octets of header a piece are memory too."""
MAX_ENTRIES = 512
"""Longest list in it. Real ones have up to 60 ciphers, 20 extensions, 3 protocols; what is read is kept by tunnels
and memos, where a number of two octets takes forty."""
_MAX_FRAGMENT = 16 * 1024  # RFC 8446 section 5.1

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_BEGINS = bytes((_HANDSHAKE, 3))
_SERVER_NAME = 0x0000
_SIGNATURE_ALGORITHMS = 0x000D
_ALPN = 0x0010
_SUPPORTED_VERSIONS = 0x002B
_KEY_SHARE = 0x0033
_ECH = 0xFE0D
_EARLY_DATA = 0x002A
_READ = frozenset((_SERVER_NAME, _SIGNATURE_ALGORITHMS, _ALPN, _SUPPORTED_VERSIONS, _KEY_SHARE))
_HEADER = struct.Struct(">HH").unpack_from  # type and length of an extension
_KEPT = 512  # hellos remembered
REMEMBERED_HELLO = 1024
"""Octets of the longest of them, without what is random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a ClientHello says. Numbers as sent and in order, GREASE (RFC 8701) included."""

    version: int
    """The legacy_version field."""
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    server_names: tuple[str, ...]
    """As sent; octets that are not ASCII as `\\xNN`, which no host name matches."""
    alpn: tuple[bytes, ...]
    versions: tuple[int, ...]
    """The supported_versions extension."""
    signature_algorithms: tuple[int, ...]
    ech: bool
    """Encrypted ClientHello, real or GREASE: they are made to look alike (RFC 9849)."""
    keys: tuple[int, int] = field(default=(0, 0), compare=False)
    """Where in the message the key_share extension's octets begin and end."""
    octets: int = field(default=0, compare=False)
    """Length of the message without them: what it takes to remember what it says."""

    @property
    def early_data(self) -> bool:
        """Whether it says that data follow before the server has answered (RFC 8446 section 4.2.10)."""
        return _EARLY_DATA in self.extensions


@dataclass(frozen=True, slots=True)
class NotTls:
    """The client speaks something else."""

    detail: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """It looks like TLS, and is not a ClientHello that the gateway accepts."""

    detail: str


class _Broken(Exception):
    """The octets began as TLS, and went wrong."""


class _Foreign(Exception):
    """The octets do not begin a TLS handshake."""


class HelloReader:
    """Collects the octets that a client sends until its ClientHello is complete.

    Keep feeding until `feed` returns something. `received` holds all octets, for passing them on.
    """

    __slots__ = ("_at", "_message", "_records", "received")

    def __init__(self) -> None:
        self.received = bytearray()
        self._message = bytearray()
        self._at = 0
        self._records = 0

    @property
    def length(self) -> int:
        """Octets of the records that a complete ClientHello came in; what follows is not its own."""
        return self._at

    def feed(self, data: bytes) -> Hello | NotTls | Malformed | None:
        """Add octets. Returns None while more are needed."""
        first = not self.received
        self.received += data
        try:
            if first and _is_whole(data):
                self._at = len(data)
                return _read(data[5:])
            return self._advance()
        except _Foreign as error:
            return NotTls(str(error))
        except _Broken as error:
            return Malformed(str(error))

    def _advance(self) -> Hello | None:
        received = self.received
        while True:
            at, have = self._at, len(received)
            if have > at:
                _check_header(received, at, first=not self._records)
            if have < at + 5:
                return None
            length = received[at + 3] << 8 | received[at + 4]
            if not 0 < length <= _MAX_FRAGMENT:
                raise _Broken(f"record of {length} octets")
            # Look into a record before it is whole: an announced 16 MB hello is refused at its first octets.
            if not self._records and length >= 4 and have >= at + 9:
                _check_message(received[at + 5 : at + 9])
            if have < at + 5 + length:
                return None
            self._records += 1
            if self._records > MAX_RECORDS:
                raise _Broken(f"ClientHello in more than {MAX_RECORDS} records")
            self._message += received[at + 5 : at + 5 + length]
            self._at = at + 5 + length
            if len(self._message) < 4:
                continue
            end = 4 + _check_message(self._message)
            if len(self._message) > end:
                raise _Broken("another handshake message in the record of the ClientHello")
            if len(self._message) == end:
                return _read(bytes(self._message))


def _is_whole(data: bytes) -> bool:
    """Say whether octets are one record with one ClientHello in it, and nothing else: nearly all come like that."""
    size = len(data)
    return (
        9 < size <= 5 + _MAX_FRAGMENT
        and data[:2] == _BEGINS
        and data[5] == _CLIENT_HELLO
        and data[3] << 8 | data[4] == size - 5
        and data[6] << 16 | data[7] << 8 | data[8] == size - 9
    )


def _check_header(received: bytearray, at: int, *, first: bool) -> None:
    """Judge as much of a record header as there is."""
    if received[at] != _HANDSHAKE:
        if first:
            raise _Foreign(f"begins with {bytes(received[:16])!r}, not with a TLS handshake")
        raise _Broken(f"record of type {received[at]} inside the ClientHello")
    if len(received) > at + 1 and received[at + 1] != 3:
        if first:
            raise _Foreign(f"begins with {bytes(received[:16])!r}, not with a TLS handshake")
        raise _Broken("record of another protocol version inside the ClientHello")


def _check_message(header: bytearray) -> int:
    """Return the length that a handshake header announces."""
    if header[0] != _CLIENT_HELLO:
        raise _Broken(f"handshake message of type {header[0]}, expected a ClientHello")
    length = header[1] << 16 | header[2] << 8 | header[3]
    if length > MAX_HELLO:
        raise _Broken(f"ClientHello of {length} octets, more than {MAX_HELLO}")
    return length


def _remembering(parse: Callable[[bytes], Hello]) -> Callable[[bytes], Hello]:
    """Return a parser that remembers what a hello said that differs in nothing but random octets.

    A program that connects again says the same, but for random, session id and keys; reading it costs ten times a
    look-up. What differs is cut out, where a hello of the same length and ciphers had it: with the rest the same, all
    types and lengths in it, this one has it there as well.
    """
    places = Memo[tuple[int, bytes], tuple[int, int]](_KEPT)
    kept = Memo[tuple[int, bytes], Hello](_KEPT)

    def read(message: bytes) -> Hello:
        if len(message) <= 39:
            return parse(message)
        session = 39 + message[38]
        shape = len(message), message[38:39] + message[session : session + 2]
        place = places.get(shape)
        if place is not None and (hello := kept.get(_outline(message, session, place))) is not None:
            return hello
        hello = parse(message)
        if hello.octets <= REMEMBERED_HELLO:
            places.keep(shape, hello.keys)
            kept.keep(_outline(message, session, hello.keys), hello)
        return hello

    return read


def _outline(message: bytes, session: int, keys: tuple[int, int]) -> tuple[int, bytes]:
    """Return what is not random in a hello, and where what is stands."""
    start, end = keys
    return start, b"%b%b%b%b" % (message[:6], message[38:39], message[session:start], message[end:])


def _parse(message: bytes) -> Hello:
    """Read a whole handshake message."""
    try:
        version = message[4] << 8 | message[5]
        at = 38 + 1 + message[38]  # header 4, version 2, random 32, session id
        if message[38] > 32:
            raise _Broken("session id longer than 32 octets")
        length = message[at] << 8 | message[at + 1]
        ciphers = _numbers(message, at + 2, length)
        at += 2 + length
        at += 1 + message[at]  # compression methods
        if at == len(message):  # a hello without extensions, as before TLS 1.0's
            return _hello(version, ciphers, message, at)
        if message[at] << 8 | message[at + 1] != len(message) - at - 2:
            raise _Broken("extensions do not end where the ClientHello does")
        return _hello(version, ciphers, message, at + 2)
    except IndexError:
        raise _Broken("ClientHello ends too early") from None


def _numbers(data: bytes, start: int, length: int) -> tuple[int, ...]:
    if length % 2 or start + length > len(data):
        raise _Broken("list of numbers with a wrong length")
    if length > 2 * MAX_ENTRIES:
        raise _Broken(f"list of more than {MAX_ENTRIES} numbers")
    return struct.unpack_from(f">{length // 2}H", data, start)


def _hello(version: int, ciphers: tuple[int, ...], message: bytes, at: int) -> Hello:
    """Read the extensions, from `at` to the end of the message, and put everything together."""
    names: tuple[str, ...] = ()
    alpn: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = ()
    algorithms: tuple[int, ...] = ()
    kinds: list[int] = []
    end = len(message)
    keys = end, end
    while at < end:
        if at + 4 > end:
            raise _Broken("extension without a header")
        kind, length = _HEADER(message, at)
        at += 4
        after = at + length
        if after > end:
            raise _Broken(f"extension {kind} is longer than the ClientHello")
        kinds.append(kind)
        if len(kinds) > MAX_ENTRIES:
            raise _Broken(f"more than {MAX_ENTRIES} extensions")
        if kind in _READ:
            body = message[at:after]
            if kind == _SERVER_NAME:
                names += _server_names(body)
            elif kind == _ALPN:
                alpn = _protocols(body)
            elif kind == _SUPPORTED_VERSIONS:
                if not body or body[0] != len(body) - 1:
                    raise _Broken("supported_versions with a wrong length")
                versions = _numbers(body, 1, body[0])
            elif kind == _KEY_SHARE:
                keys = at, after
            else:
                if length < 2 or body[0] << 8 | body[1] != length - 2:
                    raise _Broken("signature_algorithms with a wrong length")
                algorithms = _numbers(body, 2, length - 2)
        at = after
    if len(set(kinds)) != len(kinds):
        for kind in kinds:
            if kind != _SERVER_NAME and kinds.count(kind) > 1:
                raise _Broken(f"extension {kind} twice")
    return Hello(
        version=version,
        ciphers=ciphers,
        extensions=tuple(kinds),
        server_names=names,
        alpn=alpn,
        versions=versions,
        signature_algorithms=algorithms,
        ech=_ECH in kinds,
        keys=keys,
        octets=end - (keys[1] - keys[0]),
    )


def _server_names(body: bytes) -> tuple[str, ...]:
    """Read RFC 6066 section 3: a list of typed names, of which only host names were ever defined."""
    if len(body) < 2 or body[0] << 8 | body[1] != len(body) - 2:
        raise _Broken("server_name with a wrong length")
    names: list[str] = []
    at = 2
    while at < len(body):
        if at + 3 > len(body):
            raise _Broken("server_name ends too early")
        if body[at]:
            raise _Broken(f"server name of type {body[at]}")
        length = body[at + 1] << 8 | body[at + 2]
        at += 3
        if at + length > len(body):
            raise _Broken("server name is longer than its extension")
        if len(names) >= MAX_ENTRIES:
            raise _Broken(f"more than {MAX_ENTRIES} server names")
        names.append(body[at : at + length].decode("ascii", "backslashreplace"))
        at += length
    return tuple(names)


def _protocols(body: bytes) -> tuple[bytes, ...]:
    """Read RFC 7301 section 3.1: a list of non-empty names."""
    if len(body) < 2 or body[0] << 8 | body[1] != len(body) - 2:
        raise _Broken("ALPN with a wrong length")
    found: list[bytes] = []
    at = 2
    while at < len(body):
        length = body[at]
        if not length or at + 1 + length > len(body):
            raise _Broken("ALPN name with a wrong length")
        if len(found) >= MAX_ENTRIES:
            raise _Broken(f"more than {MAX_ENTRIES} protocols")
        found.append(body[at + 1 : at + 1 + length])
        at += 1 + length
    return tuple(found)


_read = _remembering(_parse)
