"""The rpz format: response policy zones (draft-vixie-dnsop-dns-rpz), as zone files (RFC 1035 section 5).

Pure: no I/O, no clock. A response policy zone holds triggers as owner names and actions as records.
"""

import re
from collections.abc import Buffer, Iterator

from gateway.feeds.entry import Entry, NameEntry, ParseReport, RangeEntry, Scope, Unsupported
from gateway.feeds.formats.lines import MAX_LINE, Found, numbered, settle
from gateway.feeds.formats.values import PLAIN_NAME, is_sink, read_name, read_range
from gateway.names import MAX_LENGTH

MAX_RECORD_LINES = 64
"""Lines that a record in parentheses may span, so that one that is never closed does not swallow the list."""

_FAST = re.compile(rf"(\*\.)?({PLAIN_NAME})[ \t]+(?:IN[ \t]+)?CNAME[ \t]+\*?\.").fullmatch
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|;.*|[()]|[^\s;()"]+')
_TTL = re.compile(r"(?:[0-9]{1,10}[smhdwSMHDW]?)+").fullmatch
_CLASSES = frozenset(("IN", "CH", "HS"))
_BOILERPLATE = frozenset(("SOA", "NS"))
# The action is in the target of the CNAME.
_DENY = frozenset((".", "*.", "rpz-drop."))


def split_record(fields: list[str]) -> tuple[str, list[str]]:
    """Return type and data of a record without its owner: TTL and class, in either order, may be in front.

    >>> split_record(["300", "IN", "CNAME", "."])
    ('CNAME', ['.'])
    """
    for at, word in enumerate(fields[:3]):
        if word.upper() not in _CLASSES and not _TTL(word):
            return word.upper(), fields[at + 1 :]
    raise ValueError("no record type")


def rpz(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the names and addresses that a response policy zone denies, or (`exception`) lets through.

    A name covers itself, `*.name` what is below it. Redirections to a host (walled gardens) are unsupported.
    """
    zone = _Zone()
    pending: list[str] = []  # tokens of a record whose parentheses are open
    begun, begin = 0, ""  # the line where it began
    for number, line in numbered(data, report):
        simple = not pending and zone.at_apex and len(line) <= MAX_LENGTH and "rpz-" not in line
        if simple and (match := _FAST(line)) is not None:
            zone.last = line
            report.accepted += 1
            report.entries += 1
            yield NameEntry(number, match[2], Scope.BELOW if match[1] else Scope.EXACT)
            continue
        text = line.strip("\ufeff")
        if len(line) > MAX_LINE:
            report.leave_out(number, text, ValueError(f"longer than {MAX_LINE} characters"))
            continue
        tokens = [token for token in _TOKEN.findall(text) if token[0] != ";"]
        if not pending:
            if not tokens:
                report.blank += 1
                continue
            begun, begin = number, text
            if text[0].isspace():
                tokens.insert(0, zone.last.split()[0] if zone.last else "@")
            elif tokens[0][0] != "$":
                zone.last = tokens[0]
        pending += tokens
        if pending.count("(") > pending.count(")"):
            if number - begun < MAX_RECORD_LINES:
                report.blank += 1  # the line that closes the record is the one that counts
            else:
                report.leave_out(begun, begin, ValueError("parenthesis is never closed"))
                pending = []
            continue
        record, pending = [token for token in pending if token not in "()"], []
        try:
            found = zone.read(begun, record)
        except ValueError as flaw:
            report.leave_out(begun, begin, flaw)
            continue
        yield from settle(begun, begin, found, report)
    if pending:
        report.blank -= 1  # its last line, which was expected to be followed by another
        report.leave_out(begun, begin, ValueError("parenthesis is never closed"))


class _Zone:
    """What the lines of a zone file mean depends on the lines before."""

    def __init__(self) -> None:
        self.last = ""
        """The owner (or the line it begins) that a line without one goes on with."""
        self.apex: str | None = None
        """The zone's own name, once it is known; owners are below it."""
        self.origin: str | None = None
        """What is appended to relative owners; None until said, when they are relative to the apex."""

    @property
    def at_apex(self) -> bool:
        return self.origin is None or self.origin == self.apex

    def read(self, number: int, record: list[str]) -> list[Found]:
        """Return what a record denies or lets through; nothing for the records that every zone has."""
        if not record:
            return []
        owner = record[0]
        if owner.startswith("$"):
            return self._direct(record)
        kind, rdata = split_record(record[1:])
        if kind == "SOA" and self.apex is None:
            self.apex = self.origin if owner == "@" else owner.lower().removesuffix(".")
        if kind in _BOILERPLATE or owner == "@":
            return []
        trigger = self._trigger(owner.lower())
        return [_act(_read_trigger(number, trigger), kind, rdata, trigger)] if trigger else []

    def _direct(self, record: list[str]) -> list[Found]:
        directive = record[0].upper()
        if directive == "$ORIGIN" and len(record) > 1:
            origin = record[1].lower()
            if origin.endswith("."):
                self.origin = origin[:-1]
            elif origin != "@":
                self.origin = f"{origin}.{self.origin}" if self.origin else origin
            if self.apex is None:
                self.apex = self.origin
        elif directive != "$TTL":
            raise Unsupported("directive")
        return []

    def _trigger(self, owner: str) -> str:
        """Return an owner relative to the apex; empty for the apex."""
        if owner.endswith("."):
            name = owner[:-1]
            if self.apex is None:
                return name
        elif self.origin is None:
            return owner
        else:
            name = f"{owner}.{self.origin}"
        if name == self.apex:
            return ""
        if not name.endswith(f".{self.apex}"):
            raise ValueError("outside the zone")
        return name.removesuffix(f".{self.apex}")


def _read_trigger(number: int, trigger: str) -> NameEntry | RangeEntry:
    rest, _, last = trigger.rpartition(".")
    if last == "rpz-ip":
        return _read_rpz_ip(number, rest)
    if last in ("rpz-client-ip", "rpz-nsip", "rpz-nsdname"):
        raise Unsupported("trigger on the client or name server")
    if trigger.startswith("*."):
        return read_name(number, trigger[2:], Scope.BELOW)
    return read_name(number, trigger, Scope.EXACT)


def _read_rpz_ip(number: int, labels: str) -> RangeEntry:
    """Read `24.0.2.0.192` (192.0.2.0/24) or `32.zz.db8.2001` (2001:db8::/32): prefix length, then back to front."""
    length, *parts = labels.split(".")
    parts.reverse()
    if len(parts) == 4 and "zz" not in parts:
        text = ".".join(parts)
    else:
        text = ":".join("" if part == "zz" else part for part in parts)
        text = f"{':' * text.startswith(':')}{text}{':' * text.endswith(':')}" if text else "::"
    entry = read_range(number, f"{text}/{length}")
    if entry is None:
        raise ValueError("malformed address")
    return entry


def _act(entry: NameEntry | RangeEntry, kind: str, rdata: list[str], trigger: str) -> Entry:
    if kind in ("A", "AAAA"):
        if rdata and is_sink(rdata[0]):
            return entry
        raise Unsupported("points somewhere else")
    if kind != "CNAME":
        raise Unsupported("record type")
    target = rdata[0].lower() if rdata else ""
    if target in _DENY:
        return entry
    if target == "rpz-passthru." or target.removesuffix(".") == trigger:  # itself: the old way to say passthru
        return entry._replace(exception=True)
    if target == "rpz-tcp-only.":
        raise Unsupported("answers over TCP only")
    raise Unsupported("points somewhere else")
