"""Retro-hunt: which clients have already been where a list says that nobody should go.

Pure: no I/O, no clock. Events are lines of the ledger; what cannot be read is passed over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gateway.addresses import IPAddress, parse_address
from gateway.decision import Match
from gateway.domainset import Lists
from gateway.feeds.impact import Record, text, texts, was_allowed

MOST_SIGHTINGS = 10_000
"""Different findings of a hunt that are kept one by one."""
_NAMES = ("dns.question.name", "destination.domain", "url.domain", "tls.client.server_name")


class ListLookup:
    """What a hunt asks of compiled lists, by the names of the lists: bits differ from snapshot to snapshot."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    def name(self, name: str) -> dict[str, Match]:
        """Return the entries for a name, by list."""
        return self._matches(self._lists.lookup_name(name)[0], lambda bit: self._lists.match_name(name, bit))

    def address(self, address: IPAddress) -> dict[str, Match]:
        """Return the entries for an address, by list."""
        mask = self._lists.lookup_address(address)
        return self._matches(mask, lambda bit: self._lists.match_address(address, bit))

    def path(self, host: str, path: str) -> dict[str, Match]:
        """Return the entries for a URL, by list."""
        return self._matches(self._lists.lookup_path(host, path), lambda bit: self._lists.match_path(host, path, bit))

    def _matches(self, mask: int, match: Callable[[int], Match | None]) -> dict[str, Match]:
        found = {}
        while mask:
            bit = mask & -mask
            mask ^= bit
            if (entry := match(bit)) is not None:
                found[entry.list] = entry
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One client that has reached or resolved what a list names."""

    client: str
    user: str = ""
    indicator: str
    """The name, address or URL that was reached."""
    how: str
    """`resolved`, `reached` or `requested`."""
    match: Match
    first: str
    last: str
    """Times of the ledger."""
    count: int = 1
    id: str = ""
    """Id of the first event."""

    def __str__(self) -> str:
        who = f"{self.user}@{self.client}" if self.user else self.client
        return f"{who} {self.how} {self.indicator}, which feed {self.match.list} now lists ({self.match.entry})"

    def fields(self) -> dict[str, object]:
        """Return it as fields, for the ledger and for JSON."""
        return {
            "client": self.client,
            "user": self.user or None,
            "indicator": self.indicator,
            "how": self.how,
            "feed": self.match.list,
            "version": self.match.version,
            "line": self.match.line,
            "entry": self.match.entry,
            "first": self.first,
            "last": self.last,
            "count": self.count,
            "event": self.id,
        }


@dataclass(slots=True)
class Hunt:
    """Searches the ledger for what lists name; of an `old` snapshot, what was not on the same list there."""

    new: ListLookup
    old: ListLookup | None = None
    lists: frozenset[str] = frozenset()
    """Lists that count; none means all."""
    dropped: int = 0
    """Sightings beyond those that are kept one by one."""
    _found: dict[tuple[str, str, str, str], Sighting] = field(default_factory=dict)

    def look(self, event: Record) -> None:
        """Look at one event."""
        if not was_allowed(event):
            return
        how = "resolved" if text(event, "dns.question.name") else "reached"
        names = [name for key in _NAMES for name in text(event, key).split()]
        for name in dict.fromkeys((*names, *texts(event, "gateway.chain"))):
            known = self.old.name(name) if (found := self.new.name(name)) and self.old is not None else {}
            self._note(event, name, how, found, known)
        for each in (*texts(event, "dns.resolved_ip"), text(event, "destination.ip")):
            if (address := parse_address(each)) is not None:
                known = self.old.address(address) if (found := self.new.address(address)) and self.old else {}
                self._note(event, each, how, found, known)
        if host := text(event, "url.domain"):
            path = text(event, "url.path") or "/"
            known = self.old.path(host, path) if (found := self.new.path(host, path)) and self.old else {}
            self._note(event, host + path, "requested", found, known)

    def _note(
        self, event: Record, indicator: str, how: str, found: Mapping[str, Match], known: Mapping[str, Match]
    ) -> None:
        if not found:
            return
        client, user, time = text(event, "source.ip"), text(event, "user.name"), text(event, "@timestamp")
        number = event.get("gateway.count")
        count = number if isinstance(number, int) and number > 0 else 1
        for name, match in found.items():
            if name in known or (self.lists and name not in self.lists):
                continue
            key = (client, user, indicator, name)
            before = self._found.get(key)
            if before is not None:
                self._found[key] = replace(before, last=max(before.last, time), count=before.count + count)
            elif len(self._found) >= MOST_SIGHTINGS:
                self.dropped += 1
            else:
                self._found[key] = Sighting(
                    client=client, user=user, indicator=indicator, how=how, match=match,
                    first=time, last=time, count=count, id=text(event, "event.id"),
                )  # fmt: skip

    def sightings(self) -> list[Sighting]:
        """Return what was found: by list, then client, then time."""
        return sorted(self._found.values(), key=lambda each: (each.match.list, each.client, each.first))
