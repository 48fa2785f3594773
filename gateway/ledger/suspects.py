"""Who was denied for telling a zone too much, gathered from the ledger.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address, ip_network

from gateway.ledger.event import Event
from gateway.ledger.query import count_of
from gateway.tunnelling.evidence import Evidence, parse

REASONS = ("dns-tunnel", "leak-budget")
_SAMPLES = 5
_MOST = 10_000
"""Suspects: a flood of forged clients is not to fill the memory."""


@dataclass
class Suspect:
    """A client and a zone."""

    client: str
    zone: str
    prior: str = ""
    reason: str = ""
    why: str = ""
    enforced: bool = False
    """Denied; otherwise only reported."""
    score: float = 0.0
    """How far beyond the budget its worst query was; 1 is the least that is denied."""
    told: float = 0.0
    """Octets that had left before the denial."""
    got: float = 0.0
    """Octets of answers."""
    budget: float = 0.0
    seconds: float = 0.0
    first: float = 0.0
    """When the first query was denied, seconds since the epoch."""
    last: float = 0.0
    denials: int = 0
    samples: list[str] = field(default_factory=list)
    techniques: list[str] = field(default_factory=list)
    curve: tuple[tuple[float, float], ...] = ()
    """The leak before the denial: seconds since it began, octets."""
    until: float = 0.0
    """Until when the zone is closed to the client; 0: it never was."""

    closed: float = 0.0
    """When it was closed the last time."""

    def state(self, now: float, released: Mapping[tuple[str, str], float]) -> str:
        """Return `closed` while nothing passes, `released`, `reported`, or `past`."""
        if not self.enforced:
            return "reported"
        if released.get((self.client, self.zone), 0.0) >= int(self.closed or self.first):
            return "released"
        return "closed" if now < self.until else "past"


def gather(events: Iterable[Event]) -> list[Suspect]:
    """Return everybody that the events speak of, the latest first."""
    found: dict[tuple[str, str], Suspect] = {}
    for event in events:
        if event.get("event.reason") not in REASONS:
            continue
        client, evidence = event.get("source.ip"), parse(str(event.get("gateway.detail", "")))
        if not isinstance(client, str) or evidence is None:
            continue
        key = (owner_of(client), evidence.zone)
        if key not in found:
            if len(found) >= _MOST:
                del found[next(iter(found))]
            found[key] = Suspect(*key)
        _add(found[key], event, evidence)
    return sorted(found.values(), key=lambda suspect: (-suspect.last, suspect.client, suspect.zone))


def owner_of(client: str) -> str:
    """Return whose account a client's is: an IPv6 client may use all addresses of its network.

    >>> owner_of("10.0.0.7"), owner_of("2001:db8::1")
    ('10.0.0.7', '2001:db8::/64')
    """
    try:
        address = ip_address(client)
    except ValueError:
        return client
    return client if address.version == 4 else str(ip_network((address, 64), strict=False))


def _add(suspect: Suspect, event: Event, evidence: Evidence) -> None:
    begun, ended = _times(event)
    first = not suspect.denials
    suspect.denials += count_of(event)
    suspect.first = begun if first else min(suspect.first, begun)
    suspect.last = max(suspect.last, ended)
    suspect.enforced = suspect.enforced or event.get("gateway.enforced") is True
    suspect.until = max(suspect.until, begun + evidence.closed if evidence.closed else 0.0)
    if evidence.closed and not evidence.why.startswith("denied before"):
        suspect.closed = max(suspect.closed, begun)
    suspect.told, suspect.got = max(suspect.told, evidence.told), max(suspect.got, evidence.got)
    if first or (evidence.closed and not suspect.curve and evidence.curve):
        suspect.prior, suspect.why = evidence.prior, evidence.why.removeprefix("denied before: ")
        suspect.reason = str(event.get("event.reason"))
        suspect.budget, suspect.seconds = evidence.budget, evidence.seconds
        techniques = event.get("threat.technique.id")
        suspect.techniques = [str(each) for each in techniques] if isinstance(techniques, list) else []
    suspect.score = max(suspect.score, evidence.score)
    if len(evidence.curve) > len(suspect.curve):
        suspect.curve = evidence.curve
    name = event.get("dns.question.name")
    if isinstance(name, str) and name not in suspect.samples and len(suspect.samples) < _SAMPLES:
        suspect.samples.append(name)


def _times(event: Event) -> tuple[float, float]:
    """Return when the first and the last of the decisions that a line stands for were made."""
    written = event.get("@timestamp")
    return _seconds(event.get("gateway.first", written)), _seconds(event.get("gateway.last", written))


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
