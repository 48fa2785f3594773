"""Questions to the ledger: which events, and how many of what.

Pure: no I/O, no clock (`now` is an argument).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Literal

from gateway.addresses import IPNetwork
from gateway.domainset import parse_pattern
from gateway.ledger.event import Event
from gateway.ledger.text import timestamp
from gateway.units import parse_duration

type Grouping = Literal["reason", "rule", "client", "name", "technique", "list", "role", "verdict"]
"""What events can be counted by."""

_NAMES = ("dns.question.name", "destination.domain", "url.domain", "tls.client.server_name")
_KEYS: dict[str, str] = {
    "verdict": "gateway.verdict",
    "reason": "event.reason",
    "rule": "rule.name",
    "role": "gateway.role",
    "list": "gateway.list.name",
    "user": "user.name",
    "stage": "gateway.stage",
    "action": "event.action",
}


def parse_time(text: str, now: float) -> float:
    """Read a moment: RFC 3339, a date, or a duration before now. Without an offset it is UTC.

    Raises:
        ValueError: it is none of these.

    >>> parse_time("1h", 7200), parse_time("1970-01-01T00:00:10Z", 0), parse_time("1970-01-02", 0)
    (3600, 10.0, 86400.0)
    """
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"expected a duration such as 1h, or a time such as 2026-01-31T12:00:00Z, not {text!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events are wanted: those for which every condition given holds. Made by `parse`."""

    equal: tuple[tuple[str, str], ...] = ()
    """Key of the event and its value."""
    client: IPNetwork | None = None
    name: str = ""
    """A name, or a literal address."""
    exact: bool = True
    """`name` itself is wanted."""
    below: bool = False
    """Names below `name` are wanted."""
    technique: str = ""
    id: str = ""
    enforced: bool | None = None
    since: str = ""
    until: str = ""

    def matches(self, event: Event) -> bool:
        """Say whether an event is wanted. Any mapping will do: what is missing or odd does not match."""
        for key, value in self.equal:
            if event.get(key) != value:
                return False
        time = event.get("@timestamp")
        if self.since and not (isinstance(time, str) and time >= self.since):
            return False
        if self.until and not (isinstance(time, str) and time < self.until):
            return False
        if self.id and self.id not in (event.get("event.id"), event.get("gateway.rollup")):
            return False
        if self.enforced is not None and event.get("gateway.enforced") is not self.enforced:
            return False
        if self.client is not None and not self._is_client(event.get("source.ip")):
            return False
        if self.technique and not any(
            found == self.technique or found.startswith(self.technique + ".") for found in values(event, "technique")
        ):
            return False
        return not self.name or self._is_named(event)

    def _is_client(self, address: object) -> bool:
        assert self.client is not None
        try:
            return isinstance(address, str) and ip_address(address) in self.client
        except ValueError:
            return False

    def _is_named(self, event: Event) -> bool:
        ending = "." + self.name
        for key in (*_NAMES, "destination.ip"):
            found = event.get(key)
            if isinstance(found, str) and (
                (self.exact and found == self.name) or (self.below and found.endswith(ending))
            ):
                return True
        return False


def parse(
    *,
    now: float,
    verdict: str = "",
    reason: str = "",
    rule: str = "",
    client: str = "",
    name: str = "",
    role: str = "",
    technique: str = "",
    list: str = "",
    user: str = "",
    stage: str = "",
    action: str = "",
    id: str = "",
    enforced: bool | None = None,
    since: str = "",
    until: str = "",
) -> Filter:
    """Read conditions as people write them; an empty one is none.

    `client` is an address or a network; `name` is `a.b` (itself), `*.a.b` (below it), `.a.b` (both) or an address;
    `technique` covers its sub-techniques; `since` and `until` are as in `parse_time`.

    Raises:
        ValueError: a condition cannot be read; the message says which.
    """
    texts = {
        "verdict": verdict,
        "reason": reason,
        "rule": rule,
        "role": role,
        "list": list,
        "user": user,
        "stage": stage,
        "action": action,
    }
    network: IPNetwork | None = None
    if client:
        try:
            network = ip_network(client, strict=False)
        except ValueError:
            raise ValueError(f"client: expected an address or a network, not {client!r}") from None
    wanted, exact, below = _pattern(name) if name else ("", True, False)
    return Filter(
        equal=tuple((_KEYS[key], value) for key, value in texts.items() if value),
        client=network,
        name=wanted,
        exact=exact,
        below=below,
        technique=technique.upper(),
        id=id,
        enforced=enforced,
        since=_moment("since", since, now),
        until=_moment("until", until, now),
    )


def _pattern(text: str) -> tuple[str, bool, bool]:
    try:
        return parse_pattern(text)
    except ValueError:
        # A literal address, or a name as only the DNS allows: it is looked for as it is written in the ledger.
        for prefix, exact in (("*.", False), (".", True)):
            if text.startswith(prefix) and len(text) > len(prefix):
                return text[len(prefix) :], exact, True
        return text, True, False


def _moment(option: str, text: str, now: float) -> str:
    if not text:
        return ""
    try:
        return timestamp(parse_time(text, now))
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{option}: {error}") from None


def count_of(event: Event) -> int:
    """Return how many decisions an event stands for."""
    number = event.get("gateway.count", 1)
    return number if isinstance(number, int) and number > 0 else 1


def values(event: Event, by: Grouping) -> tuple[str, ...]:
    """Return what an event counts under: several techniques, or nothing."""
    if by == "technique":
        found = event.get("threat.technique.id")
        return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else ()
    if by == "client":
        keys: tuple[str, ...] = ("source.ip",)
    elif by == "name":
        keys = (*_NAMES[:2], "destination.ip")
    else:
        keys = (_KEYS[by],)
    return next(((value,) for key in keys if isinstance(value := event.get(key), str) and value), ())


def summarize(events: Iterable[Event], by: Grouping) -> list[tuple[str, int]]:
    """Count decisions, roll-ups and gaps included; largest first, then by name. What has no value is not counted."""
    counts: Counter[str] = Counter()
    for event in events:
        for value in values(event, by):
            counts[value] += count_of(event)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
