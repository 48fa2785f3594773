"""Queries in text: our own ledger, JSON lines, and the dns.log of Zeek as JSON or tab-separated.

Pure: no I/O, no clock.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from dnslib import QTYPE

from gateway.tunnelling.analysis import Recorded

_RCODES = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}
_TYPES: dict[str, int] = {name: code for code, name in QTYPE.forward.items()}
_RECORD = 12
"""Octets of a record beside its data: a pointer, type, class, TTL, length. Zeek's log has the data alone."""


class Lines:
    """Reads lines, each by itself: a log may have been put together from several."""

    def __init__(self) -> None:
        self.unreadable = 0
        """Lines passed over so far, because they are torn or speak of no query."""
        self.flaw = ""
        """Where the first of them is, and what is wrong with it."""
        self._fields: list[str] = []
        self._separator = "\t"

    def read(self, lines: Iterable[str]) -> Iterator[Recorded]:
        """Yield the queries."""
        for number, line in enumerate(lines, 1):
            text = line.rstrip("\r\n")
            if text.startswith("#"):
                self._heading(text)
            elif text:
                try:
                    yield self._query(text)
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                    self.unreadable += 1
                    self.flaw = self.flaw or f"line {number}: {_flaw(error)}"

    def _heading(self, text: str) -> None:
        if text.startswith("#separator \\x"):
            self._separator = chr(int(text.removeprefix("#separator \\x")[:2], 16))
        elif text.startswith("#fields"):
            self._fields = text.split(self._separator)[1:]

    def _query(self, text: str) -> Recorded:
        if text.startswith("{"):
            found = json.loads(text)
            if "qname" in found:
                return _plain(found)
            return _ledger(found) if "@timestamp" in found else _zeek(found)
        if not self._fields:
            raise ValueError("neither JSON nor under a heading")
        columns = text.split(self._separator)
        if len(columns) != len(self._fields):
            raise ValueError(f"{len(columns)} columns under a heading of {len(self._fields)}")
        values = dict(zip(self._fields, columns, strict=True))
        return _zeek({key: value for key, value in values.items() if value not in ("-", "(empty)")})


def _flaw(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing or unknown"
    return "no JSON" if isinstance(error, json.JSONDecodeError) else str(error)


def name_of(text: object) -> str:
    """Return a name in the form that the resolver gives it: lower case, odd octets as `\\\\DDD`, no final dot.

    >>> name_of("wWw.Example.com."), len(name_of("a\\u00e9.example"))
    ('www.example.com', 17)
    """
    if not isinstance(text, str) or not text:
        raise ValueError("no name")
    return "".join(
        character if " " < character < "\x7f" else "".join(f"\\{octet:03d}" for octet in character.encode())
        for character in text.lower().removesuffix(".")
    )


def _type_of(text: object) -> int:
    if isinstance(text, int):
        return text
    name = str(text).upper()
    if name.isdecimal():
        return int(name)
    return int(name[4:]) if name.startswith("TYPE") else _TYPES[name]


def _time(value: object) -> float:
    if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    seconds = float(str(value))
    if not isfinite(seconds):
        raise ValueError("no time")
    return seconds


def _plain(found: Mapping[str, Any]) -> Recorded:
    """`t`, `client`, `qname`, `qtype`, and if known `rcode` and `answer_bytes`."""
    rcode = found.get("rcode", 0)
    return Recorded(
        _time(found["t"]),
        str(found["client"]),
        name_of(found["qname"]),
        _type_of(found["qtype"]),
        rcode if isinstance(rcode, int) else _RCODES.get(str(rcode), 0),
        int(found.get("answer_bytes") or 0),
    )


def _ledger(found: Mapping[str, Any]) -> Recorded:
    return Recorded(
        _time(found["@timestamp"]),
        str(found["source.ip"]),
        name_of(found["dns.question.name"]),
        _type_of(found["dns.question.type"]),
    )


def _zeek(found: Mapping[str, Any]) -> Recorded:
    """Zeek shows answers as text, so their size is an estimate."""
    name = name_of(found["query"])
    answers = found.get("answers", [])
    texts = answers.split(",") if isinstance(answers, str) else answers
    octets = sum(_RECORD + len(str(text)) for text in texts)
    return Recorded(
        _time(found["ts"]),
        str(found["id.orig_h"]),
        name,
        _type_of(found["qtype"] if "qtype" in found else found["qtype_name"]),
        int(found.get("rcode", 0)),
        octets + 18 + len(name) if octets else 0,
    )
