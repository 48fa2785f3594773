"""What new lists would deny of the traffic that was recorded.

Pure: no I/O, no clock. Events are lines of the ledger, which anybody may have written: what cannot be read is passed
over.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dnslib import QTYPE

from gateway.addresses import parse_address
from gateway.decision import Decision, Match
from gateway.policy import Policy
from gateway.request import Client, Dial, DnsAnswer, DnsQuery, Host, HttpRequest, Request, Tunnel

type Record = Mapping[str, object]
"""One line of the ledger."""

MOST_DESTINATIONS = 200_000
"""Different destinations of clients that are replayed: bounds the memory; those of a busy day."""


class Denial(NamedTuple):
    """A destination of one client that would newly be denied."""

    client: str
    target: str
    """Name or address, as recorded."""
    feed: str
    entry: str
    line: int
    rule: str


@dataclass(frozen=True, slots=True)
class Impact:
    """What new lists would change."""

    destinations: int = 0
    """Different names and addresses that were allowed."""
    denials: tuple[Denial, ...] = ()
    """What would newly be denied, by feed, then client."""
    complete: bool = True
    """False when there was more than could be looked at."""

    def by_feed(self) -> dict[str, set[str]]:
        """Return the destinations that each feed would newly deny."""
        found: dict[str, set[str]] = {}
        for denial in self.denials:
            found.setdefault(denial.feed, set()).add(denial.target)
        return found


def newly_denied(events: Iterable[Record], old: Policy, new: Policy) -> Impact:
    """Ask a policy with old and with new lists about everything that was allowed."""
    seen: set[tuple[str, ...]] = set()
    targets: set[str] = set()
    denials: dict[Denial, None] = {}
    for event in events:
        if not was_allowed(event):
            continue
        target = target_of(event)
        key = (
            text(event, "source.ip"),
            target,
            str(event.get("destination.port")),
            text(event, "destination.ip"),
            text(event, "url.path"),
            text(event, "dns.question.type"),
        )
        if not target or key in seen:
            continue
        if len(seen) >= MOST_DESTINATIONS:
            return Impact(len(targets), _sorted(denials), complete=False)
        seen.add(key)
        targets.add(target)
        for request in requests_of(event):
            after = new.decide(request)
            if after.denied and after.matched is not None and not old.decide(request).denied:
                denials[_denial(event, target, after, after.matched)] = None
                break
    return Impact(len(targets), _sorted(denials))


def _sorted(denials: Iterable[Denial]) -> tuple[Denial, ...]:
    return tuple(sorted(denials, key=lambda denial: (denial.feed, denial.client, denial.target)))


def _denial(event: Record, target: str, decision: Decision, matched: Match) -> Denial:
    client = str(event.get("source.ip", ""))
    return Denial(client, target, matched.list, matched.entry, matched.line, decision.rule)


def was_allowed(event: Record) -> bool:
    """Say whether traffic went on: allowed, or denied in report mode alone."""
    if event.get("event.category") != ["network"]:
        return False
    return event.get("gateway.verdict") == "allow" or event.get("gateway.enforced") is False


def target_of(event: Record) -> str:
    """Return the name or address that an event is about; nothing when there is none."""
    for key in ("dns.question.name", "destination.domain", "destination.ip"):
        if (found := text(event, key)) and found != ".":
            return found
    return ""


def requests_of(event: Record) -> Iterator[Request]:
    """Yield the decisions that an event stood for, as far as they can be told from it, in their order."""
    address = parse_address(text(event, "source.ip"))
    if address is None:
        return
    client = Client(address=address, user=text(event, "user.name") or None)
    if name := text(event, "dns.question.name"):
        qtype = _qtype(text(event, "dns.question.type"))
        yield DnsQuery(client=client, name=name, qtype=qtype)
        found = tuple(item for each in texts(event, "dns.resolved_ip") if (item := parse_address(each)) is not None)
        chain = tuple(texts(event, "gateway.chain"))
        if found or chain:
            yield DnsAnswer(client=client, name=name, qtype=qtype, chain=chain, addresses=found)
        return
    reached = parse_address(text(event, "destination.ip"))
    host: Host | None = text(event, "destination.domain") or reached
    port = event.get("destination.port")
    if host is None or not isinstance(port, int):
        return
    agent = text(event, "user_agent.original")
    tunnel = Tunnel(client=client, host=host, port=port, user_agent=agent)
    origin: Tunnel | HttpRequest = tunnel
    if method := text(event, "http.request.method"):
        origin = _http_request(event, tunnel, method)
    yield origin
    if reached is not None:
        yield Dial(origin=origin, address=reached, chain=tuple(texts(event, "gateway.chain")))


def _http_request(event: Record, tunnel: Tunnel, method: str) -> HttpRequest:
    host = tunnel.host
    shown = host if isinstance(host, str) else f"[{host}]" if host.version == 6 else str(host)
    scheme = text(event, "url.scheme") or "http"
    return HttpRequest(
        client=tunnel.client,
        host=host,
        port=tunnel.port,
        scheme=scheme,
        method=method,
        path=text(event, "url.path") or "/",
        authorities=(f"{shown}:{tunnel.port}",),
        user_agent=tunnel.user_agent,
    )


def _qtype(word: str) -> int:
    if word.startswith("TYPE") and word[4:].isdecimal():
        return int(word[4:]) & 0xFFFF
    return int(QTYPE.reverse.get(word, 1))


def text(event: Record, key: str) -> str:
    """Return a value that is a text; nothing when it is missing or something else."""
    found = event.get(key)
    return found if isinstance(found, str) else ""


def texts(event: Record, key: str) -> list[str]:
    """Return the texts of a value that is a list."""
    found = event.get(key)
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []
