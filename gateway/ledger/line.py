"""One event as one readable line for people.

Pure: no I/O, no clock. Lines are read back from files, so everything in them is made visible again: no control
character, terminal escape or bidirectional override passes, whoever wrote the file.
"""

from gateway.ledger.event import Event
from gateway.ledger.notice import CHANGE, GAP
from gateway.ledger.query import count_of
from gateway.ledger.text import visible

_SHORT = {"dns-query": "dns", "dns-answer": "dns", "tls-hello": "tls", "http-request": "http"}


def render(event: Event, *, date: bool = False) -> str:
    """Return an event as a line without its newline; the time is UTC, with the day if `date`.

    >>> render({"@timestamp": "2026-01-31T12:30:01.250Z", "gateway.verdict": "deny", "gateway.enforced": True,
    ...     "gateway.stage": "dns-query", "source.ip": "10.2.0.7", "dns.question.name": "evil.example",
    ...     "dns.question.type": "A", "event.reason": "listed", "rule.name": "feeds", "event.id": "7x"})
    '12:30:01  deny    dns     10.2.0.7  evil.example A  listed  rule=feeds id=7x'
    """
    parts = [_time(event, date=date)]
    if event.get("event.category") == [CHANGE]:
        parts += ["change", f"{_text(event, 'gateway.role'):<6}", _text(event, "event.action")]
        parts.append(_text(event, "message"))
    else:
        parts += [f"{_verdict(event):<6}", f"{_stage(event):<6}"]
        parts += [_client(event), _target(event), _text(event, "event.reason")]
    return "  ".join(part for part in (*parts, _extras(event), _why(event)) if part)


def _time(event: Event, *, date: bool) -> str:
    time = _text(event, "@timestamp")
    return f"{time[:10]} {time[11:19]}" if date else time[11:19]


def _verdict(event: Event) -> str:
    verdict = _text(event, "gateway.verdict")
    return "would" if verdict == "deny" and event.get("gateway.enforced") is False else verdict


def _stage(event: Event) -> str:
    if event.get("event.action") == GAP:
        return "gap"
    stage = _text(event, "gateway.stage")
    return _SHORT.get(stage, stage)


def _client(event: Event) -> str:
    address, user = _text(event, "source.ip"), _text(event, "user.name")
    return f"{user}@{address}" if user else address


def _target(event: Event) -> str:
    if name := _text(event, "dns.question.name"):
        answers = event.get("dns.resolved_ip")
        found = f" -> {_listing(answers)}" if isinstance(answers, list) else ""
        return f"{name} {_text(event, 'dns.question.type')}{found}"
    host, address, port = (_text(event, f"destination.{key}") for key in ("domain", "ip", "port"))
    if method := _text(event, "http.request.method"):
        query = _text(event, "url.query")
        scheme, path = _text(event, "url.scheme"), _text(event, "url.path")
        url = f"{scheme}://{host or address}:{port}{path}{'?' if query else ''}{query}"
        return f"{method} {url}"
    where = host or (f"[{address}]" if ":" in address else address)
    if host and address:
        return f"{where}:{port} ({address})"
    if not where:
        return "-" if port else ""  # what could not be read names no destination
    return f"{where}:{port}" if port else where


def _extras(event: Event) -> str:
    found: list[tuple[str, str]] = [("rule", _text(event, "rule.name"))]
    if name := _text(event, "gateway.list.name"):
        found.append(("list", f"{name}:{_text(event, 'gateway.list.line')}"))
    found += [
        ("technique", _listing(event.get("threat.technique.id"))),
        ("tools", _listing(event.get("gateway.tools"))),
        ("tls", _text(event, "gateway.tls")),
        ("would-deny", _listing(event.get("gateway.reported"))),
        ("out", _text(event, "source.bytes")),
        ("in", _text(event, "destination.bytes")),
        ("status", _text(event, "http.response.status_code")),
        ("seconds", _seconds(event.get("event.duration"))),
    ]
    if "gateway.count" in event:
        first, last = (_text(event, f"gateway.{key}")[11:19] for key in ("first", "last"))
        found.append(("count", f"{count_of(event)} ({first} to {last})"))
    found.append(("id", _text(event, "event.id")))
    return " ".join(f"{key}={value}" for key, value in found if value)


def _why(event: Event) -> str:
    """Return what a denial says beyond its reason; of a list, the place in it says more.

    The figures of a tunnel are left to JSON and `gateway tunnels`: they would fill three lines.
    """
    listed = "gateway.list.name" in event
    if listed or event.get("gateway.verdict") != "deny":
        return ""
    return _text(event, "gateway.detail").partition("; told ")[0]


def _text(event: Event, key: str) -> str:
    value = event.get(key)
    return "" if value is None else visible(str(value))


def _listing(value: object) -> str:
    return ",".join(visible(str(item)) for item in value) if isinstance(value, list) else ""


def _seconds(value: object) -> str:
    return f"{value / 1e9:.3f}" if isinstance(value, int | float) else ""
