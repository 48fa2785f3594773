"""Formats that are one JSON document: misp, stix. What is a line elsewhere is an item or object here.

Pure: no I/O, and no clock: the time that decides what has expired is an argument.
"""

import json
import re
from collections.abc import Buffer, Iterator
from datetime import UTC, datetime

from gateway.feeds.entry import Entry, NameEntry, ParseReport, Scope, Unsupported
from gateway.feeds.formats.lines import MAX_LINE, Found, settle
from gateway.feeds.formats.values import PLAIN_NAME, each, read_host, read_url, read_value
from gateway.names import MAX_LENGTH

_PLAIN = re.compile(PLAIN_NAME).fullmatch


def _load(data: Buffer, report: ParseReport, key: str) -> tuple[dict[str, object], list[object]]:
    """Return a document and the list in it; a document without one counts as one line that is rejected."""
    try:
        document = json.loads(bytes(data).decode("utf-8-sig"))
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise ValueError(f"JSON without a list named {key}")
    except (ValueError, RecursionError) as error:
        report.lines += 1
        reason = str(error) if str(error).startswith("JSON without") else "not a JSON document"
        report.leave_out(1, "", ValueError(reason))
        return {}, []
    items: list[object] = document[key]
    report.lines += len(items)
    return document, items


def misp(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the values of a MISP warning list.

    The type of the list says how MISP compares: `hostname` covers the tree, `string` the value exactly, `cidr` is
    for addresses. `.name` covers the tree in all of them. `substring` and `regex` are unsupported.
    """
    document, items = _load(data, report, "list")
    kind = document.get("type", "string")
    scope = Scope.TREE if kind == "hostname" else Scope.EXACT
    plain = kind in ("hostname", "string")
    for number, item in enumerate(items, 1):
        if plain and isinstance(item, str) and len(item) <= MAX_LENGTH and _PLAIN(item) is not None:
            report.accepted += 1
            report.entries += 1
            yield NameEntry(number, item, scope)
            continue
        text = item.strip() if isinstance(item, str) else f"({type(item).__name__})"
        try:
            if kind not in ("hostname", "string", "cidr"):
                raise Unsupported("kind of list that no address or name is in")
            if not isinstance(item, str) or len(text) > MAX_LINE:
                raise ValueError("not a text, or a very long one")
            found: list[Found] = [read_value(number, text, scope)]
        except ValueError as flaw:
            report.leave_out(number, text, flaw)
        else:
            yield from settle(number, text, found, report)


def stix(data: Buffer, report: ParseReport, now: datetime | None = None) -> Iterator[Entry]:
    """Yield the names, addresses and URLs that the indicators of a STIX 2 bundle look for. A name covers itself only.

    A pattern may join several by OR or IN. With AND, FOLLOWEDBY, a qualifier or an observable of another kind it says
    more than "this address is bad", and is unsupported. Revoked indicators are too, and, when `now` is given, those
    that are not valid yet or no longer.
    """
    _, items = _load(data, report, "objects")
    for number, item in enumerate(items, 1):
        shown = item.get("pattern", item.get("id")) if isinstance(item, dict) else None
        text = shown if isinstance(shown, str) else f"({type(item).__name__})"
        try:
            found = _read_indicator(number, item, now)
        except ValueError as flaw:
            report.leave_out(number, text, flaw)
        else:
            yield from settle(number, text, found, report)


def _read_indicator(number: int, item: object, now: datetime | None) -> list[Found]:
    if not isinstance(item, dict):
        raise ValueError("not an object")
    if item.get("type") != "indicator":
        raise Unsupported("not an indicator")
    if item.get("pattern_type", "stix") != "stix":
        raise Unsupported("other pattern language")
    if item.get("revoked") is True:
        raise Unsupported("revoked")
    if now is not None:
        start, end = (_read_time(item.get(key)) for key in ("valid_from", "valid_until"))
        if start is not None and start > now:
            raise Unsupported("not valid yet")
        if end is not None and end <= now:
            raise Unsupported("expired")
    pattern = item.get("pattern")
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_LINE:
        raise ValueError("no pattern, or a very long one")
    return each(_read_pattern(pattern), lambda pair: _read_observable(number, *pair))


def _read_time(value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("malformed time")
    try:
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("malformed time") from None


_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<path>[a-zA-Z0-9_-]+:(?:[^\s=!<>\[\]()',]|'[^']*')+)"
    r"|(?P<word>[A-Za-z]+)|(?P<mark>!=|<=|>=|[=<>\[\](),]))",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_HOSTS = frozenset(("domain-name:value", "ipv4-addr:value", "ipv6-addr:value"))


def _read_observable(number: int, path: str, value: str) -> Entry:
    if path == "url:value":
        return read_url(number, value)
    if path in _HOSTS:
        return read_host(number, value, Scope.EXACT)
    raise Unsupported("observable other than name, address and URL")


def _read_pattern(pattern: str) -> list[tuple[str, str]]:
    """Return the comparisons of a pattern that is an OR of equalities, as pairs of object path and value.

    Grammar: STIX 2.1 section 9. Brackets and parentheses do not matter where everything is joined by OR.
    """
    tokens: list[tuple[str, str]] = []
    at, end = 0, len(pattern.rstrip())
    while at < end:
        match = _TOKEN.match(pattern, at)
        if match is None:
            raise Unsupported("pattern that is not understood")
        kind = match.lastgroup or ""
        tokens.append((kind, match[kind]))
        at = match.end()
    words = {text.upper() for kind, text in tokens if kind == "word"}
    if words & {"AND", "FOLLOWEDBY"}:
        raise Unsupported("joined by AND or FOLLOWEDBY")
    if not words <= {"OR", "IN", "ISSUBSET"}:
        raise Unsupported("operator or qualifier")
    return list(_read_comparisons([token for token in tokens if token[1] not in ("[", "]", "(", ")")]))


def _read_comparisons(tokens: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield each pair of `path = 'value' OR path IN 'value', 'value' OR ...` (without parentheses)."""
    path, want = "", "path"
    for kind, text in tokens:
        if want == "path" and kind == "path":
            path, want = text, "operator"
        elif want == "operator" and text.upper() in ("=", "IN", "ISSUBSET"):
            want = "value"
        elif want == "value" and kind == "text":
            yield path, _ESCAPE.sub(r"\1", text[1:-1])
            want = "or"
        elif want == "or" and text == ",":
            want = "value"
        elif want == "or" and text.upper() == "OR":
            want = "path"
        else:
            raise Unsupported("pattern that is not understood")
    if want != "or":
        raise Unsupported("pattern that is not understood")
