"""What an answer tells a client that its zone has not told before.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable
from hashlib import blake2b

from gateway.tunnelling.news import Reader
from gateway.tunnelling.state import Zone
from gateway.tunnelling.window import Limit

ANSWER_BUDGET = Limit(4096, 3600)
"""Octets of answers that can carry data."""
_ANSWER_WEIGHTS = {1: 0.0, 2: 0.0, 6: 0.0, 12: 0.0, 43: 0.5, 46: 0.5, 48: 0.5}
"""By the type of the question, where nothing but the size of the answer is known."""
_BINDING_TYPES, _BINDING, _BINDING_WEIGHT = frozenset([64, 65]), 90, 0.25
"""SVCB and HTTPS: an answer of so many octets is what browsers always get (protocols, hints, or the SOA that says
there is none), and counts less."""
_RECORD = 12
"""Octets of a record beside its data and name."""
_RECORD_WEIGHTS = {1: 0.25, 43: 0.25, 46: 0.25, 47: 0.25, 48: 0.25, 50: 0.25}
"""Of new records: 4 of the 16 octets of an A record are data. Signatures differ for each name by nature."""


class AnswerReader:
    """Reads answers, against what is known to have come."""

    def __init__(self, reader: Reader, key: bytes) -> None:
        self._reader = reader
        self._key = key

    def news(
        self,
        zone: Zone,
        name: str,
        qtype: int,
        octets: int,
        rcode: int,
        contents: Iterable[tuple[int, bytes]] | None,
    ) -> tuple[float, dict[int, int]]:
        """Return the octets of an answer that are new, weighted, and what to remember of it, and where.

        `contents`, types and data of its records, say what of it is new: a record that came before, under whatever
        name, tells nothing. Without them, an answer of the same size is taken for the same one.
        """
        if contents is not None and zone.strict:
            return self._new_records(contents)
        value = self._reader.hash_of(f"{name}/{qtype}/{octets}")
        if rcode or (place := self._reader.table.place(value)) < 0:
            return 0.0, {}
        if qtype in _BINDING_TYPES and octets <= _BINDING:
            return octets * _BINDING_WEIGHT, {value: place}
        return octets * _ANSWER_WEIGHTS.get(qtype, 1.0), {value: place}

    def _new_records(self, contents: Iterable[tuple[int, bytes]]) -> tuple[float, dict[int, int]]:
        counted, places = 0.0, dict[int, int]()
        for rtype, data in contents:
            value = int.from_bytes(blake2b(data, digest_size=8, key=self._key).digest(), "big")
            if value not in places and (place := self._reader.table.place(value)) >= 0:
                places[value] = place
                counted += (len(data) + _RECORD) * _RECORD_WEIGHTS.get(rtype, 1.0)
        return counted, places
