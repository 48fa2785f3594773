"""The values that all formats hold: names, addresses, ranges, URLs, as strangers write them.

Pure: no I/O, no clock. Every `read_*` raises ValueError with a reason that is the same for all values with that flaw;
what follows a colon in it is about the one value.
"""

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

from gateway.feeds.entry import Entry, NameEntry, PathEntry, RangeEntry, Scope, Unsupported
from gateway.feeds.formats.lines import Found
from gateway.names import normalize
from gateway.urlpaths import normalize_path

PLAIN_NAME = r"(?:[a-z0-9_-]{1,63}+\.)+[a-z][a-z0-9_-]{0,62}+"
"""Pattern for names that `names.normalize` returns unchanged, with two labels or more: most names in most lists.

Its user sees to it that they have no more than 253 characters. Labels are possessive: no line can make it backtrack
but by whole labels.
"""

_COMMENT = re.compile(r"(?:^|\s)(?:[#!;]|//).*")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = re.compile(rf"({_OCTET}(?:\.{_OCTET}){{3}})(?:/([0-9]{{1,2}}))?").fullmatch
"""Matches an IPv4 address (group 1), with a prefix length behind it or not (group 2)."""
_IPV6 = re.compile(r"([0-9A-Fa-f:.]{2,45})(?:/([0-9]{1,3}))?").fullmatch
_NUMBERS = re.compile(r"[0-9.]+(?:/[0-9.]*)?").fullmatch
_URL = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*)://|(?![A-Za-z][A-Za-z0-9+.-]*://))"  # scheme
    r"(?:[^/?#\\\s]*@)?"  # user information, which a list has no business telling
    r"(\[[^/?#\\\s]*|[^/?#\\\s]*)"  # host and port
    r"([/?][^#]*)?(?:#.*)?",  # path and query; the fragment never leaves the client
    re.DOTALL,
).fullmatch
_HASH = re.compile(r"[0-9A-Fa-f]{32}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}|[0-9A-Fa-f]{96}|[0-9A-Fa-f]{128}").fullmatch
_PORT = re.compile(r"[0-9]{0,5}").fullmatch
_SINKS = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1", "0"})


def uncomment(text: str) -> str:
    """Return the text without a comment: `#`, `!`, `;` or `//`, in front or after a space.

    >>> uncomment("a.example # why"), uncomment("; nothing")
    ('a.example', '')
    """
    return _COMMENT.sub("", text).rstrip()


def is_sink(text: str) -> bool:
    """Say whether an address is where blocked names are sent: unspecified or loopback."""
    if text in _SINKS:
        return True
    try:
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return False
    return address.is_unspecified or address.is_loopback


def read_name(number: int, text: str, scope: Scope) -> NameEntry:
    """Read a name. One label is refused: nobody lists a top-level domain, but many lists have such slips."""
    name = normalize(text)
    if "." not in name:
        raise ValueError("single label")
    return NameEntry(number, name, scope)


def read_range(number: int, text: str) -> RangeEntry | None:
    """Read an address or CIDR prefix; None for what is not written like one. Host bits are masked.

    >>> read_range(1, "192.0.2.77/24")
    RangeEntry(line=1, first=3221225984, last=3221226239, version=4, exception=False)
    """
    if match := IPV4(text):
        first = int.from_bytes(bytes(map(int, match[1].split("."))))
        if match[2] is None:
            return RangeEntry(number, first, first, 4)
        return _prefix(number, first, int(match[2]), 4)
    if text.count(":") >= 2:
        match = _IPV6(text)
        if match is None:
            raise ValueError("malformed address")
        try:
            first = int(IPv6Address(match[1]))
        except ValueError:
            raise ValueError("malformed address") from None
        return _prefix(number, first, 128 if match[2] is None else int(match[2]), 6)
    if _NUMBERS(text):
        # Leading zeros are octal to some programs and decimal to others: better no entry than the wrong one.
        raise ValueError("malformed address")
    return None


def _prefix(number: int, address: int, length: int, version: int) -> RangeEntry:
    bits = 32 if version == 4 else 128
    if length > bits:
        raise ValueError("malformed address")
    size = 1 << (bits - length)
    first = address & -size
    return make_range(number, first, first + size - 1, version)


def make_range(number: int, first: int, last: int, version: int) -> RangeEntry:
    """Return the entry for a run of addresses, IPv4-mapped ones as IPv4."""
    if last < first:
        raise ValueError("range ends before it begins")
    if version == 6 and first >> 32 == last >> 32 == 0xFFFF:
        first, last, version = first & 0xFFFFFFFF, last & 0xFFFFFFFF, 4
    if last - first + 1 == 1 << (32 if version == 4 else 128):
        raise ValueError("covers every address")
    return RangeEntry(number, first, last, version)


def strip_port(text: str) -> str:
    """Return the host of `host:port`, `[address]:port` or plain `host`; brackets are removed.

    >>> strip_port("a.example:8080"), strip_port("[2001:db8::1]:53"), strip_port("2001:db8::1")
    ('a.example', '2001:db8::1', '2001:db8::1')
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or host.count(":") < 2 or rest[:1] not in ("", ":"):
            raise ValueError("malformed address")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        return text
    if not _PORT(port) or int(port or 0) > 65535:
        raise ValueError("port is not a number up to 65535")
    return host


def read_host(number: int, text: str, scope: Scope) -> NameEntry | RangeEntry:
    """Read a name (covered with `scope`) or an address or prefix, either with a port, which is dropped."""
    host = strip_port(text)
    return read_range(number, host) or read_name(number, host, scope)


def read_pattern(number: int, text: str, scope: Scope) -> NameEntry | RangeEntry:
    """Read a name, `.name` or `*.name` (both the whole tree), or an address."""
    if text.startswith((".", "*.")):
        scope, text = Scope.TREE, text.removeprefix("*").removeprefix(".")
    if "*" in text:
        raise Unsupported("wildcard inside the name")
    return read_host(number, text, scope)


def read_url(number: int, text: str, scope: Scope = Scope.EXACT) -> Entry:
    """Read a URL, or `host/path` without a scheme; without a path it is an entry for the host.

    The gateway judges paths of http and https alike, and on all ports alike: scheme, port, user information and
    fragment are dropped. A backslash before the path is refused, because programs differ on where the host ends then.
    """
    match = _URL(text)
    if match is None:
        raise ValueError("malformed URL")
    scheme, authority, path = match.groups()
    if scheme is not None and scheme.lower() not in ("http", "https"):
        raise Unsupported("scheme other than http and https")
    host = read_host(number, authority, scope)
    if path is None or path == "/":
        return host
    if isinstance(host, NameEntry):
        return PathEntry(number, host.name, normalize_path(path))
    if host.first != host.last:
        raise ValueError("malformed URL")
    address = IPv4Address(host.first) if host.version == 4 else IPv6Address(host.first)
    return PathEntry(number, str(address), normalize_path(path))


def is_url(text: str) -> bool:
    """Say whether a value is written like a URL or `host/path`, and not like an address prefix.

    >>> is_url("a.example/"), is_url("192.0.2.0/24"), is_url("2001:db8::/32"), is_url("[2001:db8::1]/x")
    (True, False, False, True)
    """
    if "/" not in text:
        return False
    return "://" in text or text[0] == "[" or not (_NUMBERS(text) or text.count(":") > 1)


def read_value(number: int, text: str, scope: Scope) -> Entry:
    """Read what stands in a column or item, whatever kind it is: name, address, prefix, `host:port` or URL."""
    if not text:
        raise Unsupported("no value")
    if _HASH(text):
        raise Unsupported("file hash")
    if is_url(text):
        return read_url(number, text, scope)
    return read_pattern(number, text, scope)


def each[Item](items: Iterable[Item], read: Callable[[Item], Entry]) -> list[Found]:
    """Read several parts of one line, and keep the flaw of each that is wrong in its place."""
    found: list[Found] = []
    for item in items:
        try:
            found.append(read(item))
        except ValueError as flaw:
            found.append(flaw)
    return found
