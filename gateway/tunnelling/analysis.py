"""What the detector would have done with recorded queries.

Pure: no I/O, no clock. A recording knows no cache: a name asked again is no news, so that makes no difference.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.tunnelling.assessment import Assessment
from gateway.tunnelling.detector import Detector

_SAMPLES = 5
_QUESTION = 12 + 2 + 4
"""Octets of a message beside its records and the letters of the name: header, length and end of it, type, class."""


class Recorded(NamedTuple):
    """One query of a recording, with what is known of its answer."""

    at: float
    """Seconds since the epoch."""
    client: str
    name: str
    """In normal form."""
    qtype: int
    rcode: int = 0
    answer: int = 0
    """Octets of the answer, as a message; 0: not recorded."""


@dataclass
class Finding:
    """A client and a zone that would have been denied something."""

    client: str
    zone: str
    prior: str = ""
    queries: int = 0
    """All of them."""
    denied: int = 0
    passed: int = 0
    """Before the first denial."""
    told: float = 0.0
    """Octets of news that would have left, by the detector's account."""
    characters: int = 0
    """In the names that would have left and were new, below the zone: no payload is larger."""
    got: float = 0.0
    """Octets of answers that may carry data and would have come in."""
    first: float = 0.0
    """When the first one would have been denied."""
    last: float = 0.0
    reason: str = ""
    why: str = ""
    score: float = 0.0
    samples: list[str] = field(default_factory=list)
    """Names that would have been denied."""


@dataclass
class Report:
    """All of a recording."""

    findings: list[Finding]
    """Those with denials, the first one first."""
    queries: int
    clients: int
    zones: int
    pairs: int
    """Clients with zones."""
    nearest: Finding | None
    """Who came nearest to a denial and was not denied."""


def analyse(detector: Detector, recording: Iterable[Recorded]) -> Report:
    """Assess every query of a recording in turn. Times that go back count as the latest so far."""
    pairs: dict[tuple[str, str], Finding] = {}
    now, queries = 0.0, 0
    for query in recording:
        now = max(now, query.at)
        queries += 1
        found = detector.query(now, query.client, query.name, query.qtype)
        pair = pairs.setdefault((query.client, found.zone), Finding(query.client, found.zone, str(found.prior)))
        pair.queries += 1
        pair.last = now
        pair.score = max(pair.score, found.score)
        if found.denied:
            _denied(pair, query, found, now)
            continue
        if not pair.denied:
            pair.passed += 1
        if found.octets > 0:
            pair.told += found.octets
            pair.characters += len(query.name.removesuffix(found.zone).replace(".", ""))
        if query.answer:
            records = max(0, query.answer - _QUESTION - len(query.name))
            came = detector.response(now, query.client, query.name, query.qtype, records, rcode=query.rcode)
            if came.denied:
                _denied(pair, query, came, now)
            else:
                pair.got += came.octets
    findings = sorted((pair for pair in pairs.values() if pair.denied), key=lambda pair: pair.first)
    quiet = [pair for pair in pairs.values() if not pair.denied and pair.score > 0]
    return Report(
        findings,
        queries,
        len({client for client, _ in pairs}),
        len({zone for _, zone in pairs}),
        len(pairs),
        max(quiet, key=lambda pair: pair.score, default=None),
    )


def _denied(pair: Finding, query: Recorded, found: Assessment, now: float) -> None:
    if not pair.denied:
        pair.first, pair.why = now, found.why
        pair.reason = found.reason.value if found.reason is not None else ""
    pair.denied += 1
    if len(pair.samples) < _SAMPLES:
        pair.samples.append(query.name)
