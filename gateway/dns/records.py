"""Records that the configuration gives: from their texts to what is sent.

Pure: no I/O, no clock. `gateway.dnssection` has checked the texts already.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.addresses import IPAddress
from gateway.dns.message import address_record, encode_name
from gateway.dns.wire import IN, Record, Type, name_text

TTL = 60
"""Of local records, in seconds: a change of the configuration is seen within a minute."""
MAX_ALIASES = 16
"""Local CNAMEs followed."""


class LocalData(NamedTuple):
    """A record of a configured name that is not an address."""

    rtype: int
    rdata: bytes


type LocalRecords = Mapping[str, Sequence[IPAddress | LocalData]]


def parse_data(kind: str, text: str) -> LocalData:
    """Return the record that `{kind: text}` stands for; `kind` is one of `cname txt ptr srv mx`.

    Raises:
        ValueError: the text does not fit the kind.

    >>> parse_data("mx", "10 mail.example").rdata[:2].hex()
    '000a'
    """
    if kind == "txt":
        octets = text.encode()
        pieces = [octets[at : at + 255] for at in range(0, len(octets), 255)] or [b""]
        return LocalData(_TXT, b"".join(bytes((len(piece),)) + piece for piece in pieces))
    *numbers, target = text.split()
    rtype, count = _KINDS[kind]
    if len(numbers) != count:
        raise ValueError(f"expected {count} numbers and a name, not {text!r}")
    front = b"".join(int(number).to_bytes(2, "big") for number in numbers)
    return LocalData(rtype, front + encode_name(target.removesuffix(".")))


_TXT = 16
_KINDS: dict[str, tuple[int, int]] = {
    "cname": (Type.CNAME, 0),
    "ptr": (Type.PTR, 0),
    "mx": (Type.MX, 1),
    "srv": (Type.SRV, 3),
}
"""Types, and how many numbers stand before the name."""


def aliases(name: str, qtype: int, records: LocalRecords) -> tuple[list[Record], str]:
    """Follow local CNAMEs. Returns them, and the name at their end."""
    found: list[Record] = []
    while qtype != Type.CNAME and name in records and len(found) < MAX_ALIASES:
        target = next((_target(entry) for entry in records[name] if _target(entry)), None)
        if target is None:
            break
        found.append(Record(encode_name(name), Type.CNAME, IN, TTL, target))
        name = name_text(target)
    return found, name


def targets(chain: Iterable[Record]) -> tuple[str, ...]:
    """Return the names that the CNAME records among these lead to."""
    return tuple(name_text(record.rdata) for record in chain if record.rtype == Type.CNAME)


def _target(entry: IPAddress | LocalData) -> bytes | None:
    return entry.rdata if isinstance(entry, LocalData) and entry.rtype == Type.CNAME else None


def of_type(owner: bytes, qtype: int, entries: Iterable[IPAddress | LocalData]) -> list[Record]:
    """Return the records of one type that a name (wire form) has."""
    found: list[Record] = []
    for entry in entries:
        record = (
            Record(owner, entry.rtype, IN, TTL, entry.rdata)
            if isinstance(entry, LocalData)
            else address_record(owner, entry, TTL)
        )
        if record.rtype == qtype:
            found.append(record)
    return found
