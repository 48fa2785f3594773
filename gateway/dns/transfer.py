"""Response policy zones for other resolvers: SOA, AXFR (RFC 5936) and IXFR (RFC 1995), with TSIG (RFC 8945).

A zone is what `gateway refresh` has written (`gateway.feeds.zones`); nothing is held in memory but the message at
hand. Who may have a zone is said by its `allow` and `key`; all others are refused, and whoever asks here
records that.
"""

import itertools
import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.addresses import IPAddress, IPNetwork
from gateway.decision import Reason
from gateway.dns.message import encode_name
from gateway.dns.tsig import BADTIME, NOTAUTH, Signature, Signer, append, split, verify
from gateway.dns.wire import AA, IN, QR, RD, Type
from gateway.feeds.zones import PASSES, ZoneIndex, difference, read_index, read_owners, zone_folder
from gateway.request import Flaw
from gateway.tsigkey import Key

_LOG = logging.getLogger(__name__)

IXFR, AXFR = 251, 252
TTL = 60
_SOA, _CNAME, _NS = int(Type.SOA), 5, 2
_HEADER = 12
_FORMERR, _SERVFAIL, _REFUSED = 1, 2, 5
_MESSAGE = 16 * 1024
"""Octets of one message of a transfer: half of the offsets that compression reaches."""
_APEX = b"\xc0\x0c"  # a pointer to the name in the question
_NAMES = encode_name("localhost") + encode_name("hostmaster.localhost")
_TIMERS = struct.pack("!4I", 300, 60, 604800, TTL)
_IN = IN.to_bytes(2, "big")
_DENY = b"\0"
_PASS = encode_name("rpz-passthru")


@dataclass(frozen=True, slots=True, kw_only=True)
class RpzZone:
    """One zone that is served."""

    name: str
    folder: Path
    allow: tuple[IPNetwork, ...] = ()
    """Who may have it; empty for anybody who has the key."""
    keys: Mapping[str, Key] = field(default_factory=dict, repr=False)
    """Keys one of which has to sign the query; empty for none."""

    @classmethod
    def of(cls, state_dir: Path, name: str, allow: tuple[IPNetwork, ...], keys: Mapping[str, Key]) -> "RpzZone":
        """Return the zone of a state directory."""
        return cls(name=name, folder=zone_folder(state_dir, name), allow=allow, keys=keys)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query for a zone."""

    zone: RpzZone
    qtype: int
    ident: int
    flags: int
    question: bytes
    signature: Signature | None
    data: bytes

    def message(self, records: bytes = b"", count: int = 0, *, rcode: int = 0) -> bytes:
        """Return an answer."""
        flags = QR | (0 if rcode else AA) | self.flags & RD | rcode
        return struct.pack("!6H", self.ident, flags, 1, count, 0, 0) + self.question + records


class Given(NamedTuple):
    """The answer to a query for a zone."""

    zone: str
    qtype: int
    messages: Iterator[bytes]
    """Reads files as it goes: an event loop has many of them taken in a thread."""
    flaw: Flaw | None = None
    """Why it is a refusal."""


class Transfers:
    """Answers what concerns the zones; everything else is somebody else's."""

    def __init__(self, zones: Callable[[], Mapping[str, RpzZone]], clock: Callable[[], float]) -> None:
        self._zones = zones
        self._clock = clock
        self._missed: set[str] = set()
        """Zones that were asked for before a refresh had written them."""

    @property
    def has_zones(self) -> bool:
        """Say whether there is any zone now; after a reload that may be otherwise."""
        return bool(self._zones())

    def concerns(self, data: bytes) -> bool:
        """Say, quickly, whether a message asks for the SOA or for all of one of the zones."""
        return self._zone(data) is not None

    def answer(self, peer: IPAddress, data: bytes, *, whole: bool) -> Given:
        """Answer what concerns a zone: over TCP with the `whole` of it, elsewhere with one message: the SOA, and who
        asks for more is told to come over TCP.
        """
        zone = self._zone(data)
        assert zone is not None
        qtype = int.from_bytes(data[(end := data.index(0, _HEADER) + 1) : end + 2], "big")
        try:
            asked = _read(zone, data)
        except ValueError as error:
            malformed = data[:2] + struct.pack("!5H", QR | _FORMERR, 0, 0, 0, 0)
            return Given(zone.name, qtype, iter((malformed,)), Flaw(Reason.MALFORMED, str(error)))
        signer, flaw, refusal = self._admit(asked, peer)
        if flaw is not None:
            return Given(zone.name, qtype, iter((refusal,)), flaw)
        messages = self._messages(asked, peer, whole=whole)
        if signer is not None:
            messages = (signer.sign(message, self._clock()) for message in messages)
        return Given(zone.name, qtype, messages)

    def _zone(self, data: bytes) -> RpzZone | None:
        end = data.find(0, _HEADER)
        if end < 0 or data[2] & 0xF8 or data[4:6] != b"\0\1":  # a query, of one question
            return None
        if data[end + 3 : end + 5] != _IN or int.from_bytes(data[end + 1 : end + 3], "big") not in (_SOA, AXFR, IXFR):
            return None
        zones = self._zones()
        name = data[_HEADER : end + 1].lower()
        return next((zone for zone in zones.values() if encode_name(zone.name) == name), None)

    def _admit(self, asked: _Asked, peer: IPAddress) -> tuple[Signer | None, Flaw | None, bytes]:
        """Return who signs the answer; or why there is none, and the refusal."""
        zone, signature = asked.zone, asked.signature
        if zone.allow and not any(_is_in(peer, network) for network in zone.allow):
            flaw = Flaw(Reason.CLIENT_UNKNOWN, "the client is not among those who may have the zone (allow)")
            return None, flaw, asked.message(rcode=_REFUSED)
        if signature is None:
            unsigned = Flaw(Reason.AUTH_REQUIRED, "the query is not signed")
            return None, unsigned if zone.keys else None, asked.message(rcode=_REFUSED)
        key, error = verify(signature, dict(zone.keys), self._clock())
        if key is not None and not error:
            return Signer(key, signature), None, b""
        flaw, answer = Flaw(Reason.AUTH_FAILED, f"TSIG error {error}"), asked.message(rcode=NOTAUTH)
        if key is not None and error == BADTIME:
            return None, flaw, Signer(key, signature).sign(answer, self._clock(), error=error)
        # A signature that nobody could check anyway (section 5.2.1).
        bare = Signature(answer, signature.name, signature.algorithm, signature.time, signature.fudge, b"",
                         signature.original_id, error)  # fmt: skip
        return None, flaw, append(answer, bare)

    def _messages(self, asked: _Asked, peer: IPAddress, *, whole: bool) -> Iterator[bytes]:
        zone = asked.zone
        index = read_index(zone.folder)
        if index is None:
            if zone.name not in self._missed:  # said once, however often it is asked for
                self._missed.add(zone.name)
                _LOG.warning("zone %s: there is nothing yet for %s; run `gateway refresh`", zone.name, peer)
            yield asked.message(rcode=_SERVFAIL)
            return
        self._missed.discard(zone.name)
        soa = _soa(index.serial)
        if asked.qtype == _SOA or (asked.qtype == IXFR and not whole):
            yield asked.message(soa, 1)
        elif not whole:
            yield asked.message(rcode=_REFUSED)  # AXFR is for TCP alone (RFC 5936 section 4.2)
        else:
            yield from _packed(asked, self._records(asked, index, soa, peer))

    def _records(self, asked: _Asked, index: ZoneIndex, soa: bytes, peer: IPAddress) -> Iterator[bytes]:
        folder, serial = asked.zone.folder, index.serial
        known = _serial(asked) if asked.qtype == IXFR else None
        if known == serial:
            _LOG.info("zone %s: %s has serial %s already", asked.zone.name, peer, serial)
            yield soa
        elif known is not None and known in index.serials:
            _LOG.info("zone %s: sending %s what changed from serial %s to %s", asked.zone.name, peer, known, serial)
            yield soa
            yield _soa(known)
            yield from map(_record, difference(folder, known, serial))
            yield soa
            yield from map(_record, difference(folder, serial, known))
            yield soa
        else:
            _LOG.info("zone %s: sending %s serial %s", asked.zone.name, peer, serial)
            yield soa
            yield _APEX + struct.pack("!HHIH", _NS, IN, TTL, 11) + encode_name("localhost")
            yield from map(_record, read_owners(folder, serial))
            yield soa


def _is_in(address: object, network: IPNetwork) -> bool:
    return address in network


def _read(zone: RpzZone, data: bytes) -> _Asked:
    end = data.index(0, _HEADER) + 5
    ident, flags = struct.unpack_from("!HH", data)
    return _Asked(
        zone, int.from_bytes(data[end - 4 : end - 2], "big"), ident, flags, data[_HEADER:end], split(data), data
    )


def _serial(asked: _Asked) -> int | None:
    """Return the serial that the client has: of the SOA in the authority section (RFC 1995 section 3)."""
    data, at = asked.data, _HEADER + len(asked.question)
    if data[6:10] != b"\0\0\0\1":
        return None
    for _ in range(3):  # owner, then the two names in the data
        while at < len(data) and 0 < data[at] < 0xC0:
            at += data[at] + 1
        at += 2 if at < len(data) and data[at] else 1
        if _ == 0:
            if data[at : at + 2] != _SOA.to_bytes(2, "big"):
                return None
            at += 10
    return int.from_bytes(data[at : at + 4], "big") if at + 4 <= len(data) else None


def _soa(serial: int) -> bytes:
    data = _NAMES + struct.pack("!I", serial) + _TIMERS
    return _APEX + struct.pack("!HHIH", _SOA, IN, TTL, len(data)) + data


def _record(line: bytes) -> bytes:
    passes = line.endswith(PASSES)
    owner = line.removesuffix(PASSES) if passes else line
    target = _PASS if passes else _DENY
    labels = b"".join(bytes((len(label),)) + label for label in owner.split(b"."))
    return labels + _APEX + struct.pack("!HHIH", _CNAME, IN, TTL, len(target)) + target


def _packed(asked: _Asked, records: Iterator[bytes]) -> Iterator[bytes]:
    """Put as many records into a message as there is room for. Each has the question, for its name."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        if batch and size + len(record) > _MESSAGE:
            yield asked.message(b"".join(batch), len(batch))
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield asked.message(b"".join(batch), len(batch))


def batches(messages: Iterator[bytes], size: int = 16) -> Callable[[], list[bytes]]:
    """Return a function that takes the next few messages; nothing when there are no more."""
    return lambda: list(itertools.islice(messages, size))
