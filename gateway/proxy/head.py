"""Request heads, read one way only: whatever two programs could read differently is refused.

Pure: no I/O, no clock. RFC 9112 less its tolerance: a proxy that repairs what it reads forwards something else than
what it judged. The same reader serves the listener and, behind it, every further request that mitmproxy is given.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NoReturn

from gateway.authority import split_authority
from gateway.request import Host

_UNCLEAN = re.compile(rb"[^\x20-\x7e\t\r\n]|\r(?=[^\n])|(?<!\r)\n")
_REQUEST_LINE = re.compile(r"([A-Z][A-Z-]{0,31}) (\S+) HTTP/1\.([01])\Z")
_BREAK = re.compile(rb"[\r\n]")
_FIELD = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*\Z")
_LENGTH = re.compile(r"[0-9]{1,18}\Z")
_ABSOLUTE = re.compile(r"http://([^/?#]*)(/[^#]*|\?[^#]*|)\Z")
# Fields that decide where a message ends or goes. Some servers take an underscore for a hyphen, so
# `Transfer_Encoding` would be framing for them and nothing for us.
_FRAMING = frozenset(("host", "content-length", "transfer-encoding"))
REMEMBERED_HEAD = 512
"""Octets of the longest heads that are not read again, but come again as the same object."""
_ONCE = ("host", "content-length", "transfer-encoding")
_FRAMES = ("content-length", "transfer-encoding")


class Form(StrEnum):
    """The forms of a request target that the gateway accepts (RFC 9112 section 3.2)."""

    AUTHORITY = "authority-form"
    """`CONNECT host:port`."""
    ABSOLUTE = "absolute-form"
    """`GET http://host/path`, sent to a proxy."""
    ORIGIN = "origin-form"
    """`GET /path`, inside an inspected tunnel."""


TO_PROXY = frozenset((Form.AUTHORITY, Form.ABSOLUTE))
PLAIN = frozenset((Form.ABSOLUTE,))
INSIDE = frozenset((Form.ORIGIN,))


class HeadError(ValueError):
    """A head that is refused: says what is wrong with it, and with which status to answer."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a head may be: it is kept in memory before anything is known about its sender."""

    octets: int = 32 * 1024
    fields: int = 100


@lru_cache(maxsize=8)
def limits_of(octets: int, fields: int) -> Limits:
    """Return limits: the same ones for every connection, as long as the configuration is the same."""
    return Limits(octets=octets, fields=fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A clean request head."""

    method: str
    form: Form
    host: Host | None
    """Where the target points to; None in origin-form, which does not say."""
    port: int
    authority: str
    """The authority of the target as sent."""
    path: str
    """Path and query."""
    minor: int
    """HTTP/1.*minor*."""
    fields: tuple[tuple[str, str], ...]
    """In order; names in lower case."""
    body_length: int | None
    """Octets; None for a chunked body."""
    length: int
    """Octets of the head itself, with the empty line."""
    target: str
    """The request target as sent."""
    sent: tuple[tuple[bytes, bytes], ...]
    """The fields with their names as sent, of a request that goes on."""

    @property
    def framed(self) -> bool:
        """Whether a field says how long the body is."""
        return any(name in _FRAMES for name, _ in self.fields)

    def values(self, name: str) -> list[str]:
        """Return the values of a field, in order."""
        return [value for field, value in self.fields if field == name]

    @property
    def user_agent(self) -> str:
        """All User-Agent values: one that is sent twice is evidence twice."""
        return " ".join(self.values("user-agent"))


def read_head(
    data: bytes | bytearray, limits: Limits, *, forms: frozenset[Form] = TO_PROXY, seen: int = 0
) -> Head | None:
    """Read the head at the start of `data`; None when more is needed. What follows the head is not looked at.

    `seen` is how many octets an earlier call has looked at already, so that a head that trickles in costs no more
    than one that comes at once.

    Raises:
        HeadError: it is not a head that the gateway accepts, or will not become one.
    """
    end = data.find(b"\r\n\r\n", max(0, seen - 3))
    if end < 0 or end + 4 > limits.octets:
        if len(data) > limits.octets:
            raise HeadError(f"request head of more than {limits.octets} octets", 431)
        _require_clean(data, max(0, seen - 1), len(data))
        return None
    if end + 4 > REMEMBERED_HEAD:
        return _parse(bytes(data[:end]), limits.fields, forms)
    return _parse_cached(bytes(data[:end]), limits.fields, forms)


def check_fields(given: Iterable[tuple[bytes, bytes]], *, ended: bool) -> None:
    """Refuse the fields of an HTTP/2 request that HTTP/1 could not say, or would say something else with.

    The request goes on as HTTP/1 to most origins: a space in the method or the path would be another request line,
    a length that its frames do not have would take the next request for a body (RFC 9113 section 8.2.1 and 10.3).
    `ended`: no body follows.

    Raises:
        HeadError: it is not a request that the gateway accepts.
    """
    fields: list[tuple[str, str]] = []
    pseudo: dict[str, str] = {}
    for name, value in given:
        _require_clean(value, 0, len(value))
        if _BREAK.search(value):
            raise HeadError("line break in a header field")
        text = value.decode("ascii")
        if name.startswith(b":"):
            pseudo[name.decode("ascii", "backslashreplace")] = text
        else:
            _require_clean(name, 0, len(name))
            fields.append(_field(f"{name.decode('ascii')}: {text}"))
    method, path = pseudo.get(":method", ""), pseudo.get(":path", "")
    if _REQUEST_LINE.match(f"{method} {path} HTTP/1.1") is None:
        raise HeadError(f"request for {path[:80]!r} with method {method[:40]!r}")
    _target(method, path, INSIDE)
    if pseudo.get(":scheme") != "https":
        raise HeadError(f"scheme {pseudo.get(':scheme', '')[:40]!r} inside TLS")
    if ended and _body_length(tuple(fields), 1) != 0:
        raise HeadError("a length, and no body")


def _parse(head: bytes, most_fields: int, forms: frozenset[Form]) -> Head:
    """Read a whole head, without the empty line that ends it."""
    _require_clean(head, 0, len(head))
    lines = head.decode("ascii").split("\r\n")
    if len(lines) - 1 > most_fields:
        raise HeadError(f"more than {most_fields} header fields", 431)
    method, target, minor = _request_line(lines[0])
    fields = tuple([_field(line) for line in lines[1:]])
    body_length = _body_length(fields, minor)
    form, host, port, authority, path = _target(method, target, forms)
    if form is Form.AUTHORITY and body_length != 0:
        raise HeadError("CONNECT with a body")
    if minor and form is not Form.AUTHORITY and not any(name == "host" for name, _ in fields):
        raise HeadError("HTTP/1.1 request without Host")
    return Head(
        method=method,
        form=form,
        host=host,
        port=port,
        authority=authority,
        path=path,
        minor=minor,
        fields=fields,
        body_length=body_length,
        length=len(head) + 4,
        target=target,
        sent=() if form is Form.AUTHORITY else tuple(map(_sent, lines[1:], fields)),
    )


def _sent(line: str, field: tuple[str, str]) -> tuple[bytes, bytes]:
    return line[: len(field[0])].encode("ascii"), field[1].encode("ascii")


# A program that connects again and again sends the same head; reading it costs twenty look-ups.
_parse_cached = lru_cache(maxsize=1024)(_parse)


def _require_clean(data: bytes | bytearray, start: int, end: int) -> None:
    found = _UNCLEAN.search(data, start, end)
    if found is None:
        return
    octet = found[0][0]
    if octet == 0x0D:
        raise HeadError("bare CR in the request head")
    if octet == 0x0A:
        raise HeadError("bare LF in the request head")
    raise HeadError(f"octet 0x{octet:02x} in the request head")


def _request_line(line: str) -> tuple[str, str, int]:
    found = _REQUEST_LINE.match(line)
    if found:
        return found[1], found[2], int(found[3])
    if not line:
        raise HeadError("empty line instead of a request")
    parts = line.split(" ")
    if len(parts) == 3 and re.match(r"HTTP/[0-9]", parts[2]):
        if parts[2] not in ("HTTP/1.0", "HTTP/1.1"):
            raise HeadError(f"version {parts[2][:16]!r}, expected HTTP/1.0 or HTTP/1.1", 505)
        raise HeadError(f"method {parts[0][:40]!r}: methods are upper case")
    raise HeadError(f"request line {line[:80]!r}, expected method, target and version with one space between")


def _field(line: str) -> tuple[str, str]:
    found = _FIELD.match(line)
    if found is None:
        if line[:1] in (" ", "\t"):
            raise HeadError("folded header field (RFC 9112 section 5.2)")
        raise HeadError(f"header field {line[:80]!r}, expected name, colon, value")
    name = found[1].lower()
    if "_" in name and name.replace("_", "-") in _FRAMING:
        raise HeadError(f"header field {name!r}: an underscore for a hyphen in a framing field")
    return name, found[2]


def _body_length(fields: tuple[tuple[str, str], ...], minor: int) -> int | None:
    """Apply RFC 9112 section 6.3, refusing every message that it gives two readings for."""
    framing: dict[str, str] = {}
    for name, value in fields:
        if name in _ONCE:
            if name in framing:
                raise HeadError(f"{name} twice")
            framing[name] = value
    length = framing.get("content-length")
    coding = framing.get("transfer-encoding")
    if length is not None and not _LENGTH.match(length):
        raise HeadError(f"content-length {length[:40]!r} is no number")
    if coding is None:
        return int(length) if length else 0
    if length is not None:
        raise HeadError("both content-length and transfer-encoding")
    if coding.lower() != "chunked":
        raise HeadError(f"transfer-encoding {coding[:40]!r}, expected chunked", 501)
    if not minor:
        raise HeadError("transfer-encoding in HTTP/1.0")
    return None


def _target(method: str, target: str, forms: frozenset[Form]) -> tuple[Form, Host | None, int, str, str]:
    if "#" in target:
        raise HeadError("fragment in the request target")
    if "\\" in target:
        raise HeadError("backslash in the request target")
    if method == "CONNECT":
        if Form.AUTHORITY not in forms:
            raise HeadError("CONNECT inside a connection that carries requests")
        host, port = _split(target, None)
        return Form.AUTHORITY, host, port, target, ""
    if Form.ORIGIN in forms:
        if not target.startswith("/") and (method, target) != ("OPTIONS", "*"):
            raise HeadError(f"request target {target[:80]!r}, expected a path")
        return Form.ORIGIN, None, 0, "", target
    found = _ABSOLUTE.match(target)
    if found is None:
        _refuse_target(target)
    host, port = _split(found[1], 80)
    path = found[2]
    return Form.ABSOLUTE, host, port, found[1], path if path.startswith("/") else "/" + path


def _split(authority: str, default_port: int | None) -> tuple[Host, int]:
    try:
        return split_authority(authority, default_port)
    except ValueError as error:
        raise HeadError(f"target {authority[:300]!r} {error}") from None


def _refuse_target(target: str) -> NoReturn:
    if target.lower().startswith("https://"):
        raise HeadError("https:// in a request to a proxy: use CONNECT")
    if target.startswith("/"):
        raise HeadError("a path alone: this is a proxy, and needs http://host/path")
    raise HeadError(f"request target {target[:80]!r}, expected http://host/path")
