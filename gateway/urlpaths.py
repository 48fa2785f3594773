"""Paths of URLs: one spelling for every path that a server would treat alike.

Pure: no I/O, no clock. Lists and requests both go through `normalize_path`, so that `/%61/./b` cannot slip past an
entry for `/a/b`. What servers do not agree on (case, double slashes, backslashes, `%2F`) is left alone.
"""

import re
from string import hexdigits
from urllib.parse import unquote

# Only what RFC 3986 allows unescaped: already normal, unless a segment begins with a dot.
_PLAIN = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/?]*\Z")
_TOKEN = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/]")
# Servlet containers cut parameters off before they look for dot segments: `/public/..;/admin` is `/admin` to them.
_PARAMETERS = re.compile(r"(?<=/\.);[^/]*|(?<=/\.\.);[^/]*")
_EVERY_PARAMETER = re.compile(r"(?:;|%3[Bb])[^/]*")
_SLASHES = re.compile(r"/{2,}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Every escape, and every ASCII character that has to be one, to what it is in normal form.
_NORMAL = {
    f"%{high}{low}": chr(code) if (code := int(high + low, 16)) in _UNRESERVED else f"%{high}{low}".upper()
    for high in hexdigits
    for low in hexdigits
} | {chr(code): f"%{code:02X}" for code in range(128)}


def normalize_path(path: str) -> str:
    """Return a path, with its query if it has one, in normal form (RFC 3986 sections 6.2.2 and 6.2.3).

    Escapes of unreserved characters are decoded, once; other escapes get upper-case digits; characters that a URL
    cannot hold are escaped, a `%` that begins no escape too; dot segments are removed. There is no fragment here: `#`
    is a character like others. Total and idempotent; an empty path is `/`, and one without its slash gets it.

    >>> normalize_path("/%7euser/./a/../b?q=%2f")
    '/~user/b?q=%2F'
    >>> normalize_path("/%2e%2E/etc/passwd")
    '/etc/passwd'
    """
    if _PLAIN.match(path) and "/." not in path:
        return path
    path, mark, query = path.partition("?")
    path = _remove_dot_segments(_TOKEN.sub(_token, path))
    if not mark:
        return path
    # A second question mark is data (RFC 3986 section 3.4).
    return f"{path}?{'?'.join(_TOKEN.sub(_token, part) for part in query.split('?'))}"


def _token(match: re.Match[str]) -> str:
    token = match[0]
    known = _NORMAL.get(token)
    if known is not None:
        return known
    try:
        # Bytes of a request that were not UTF-8 come as lone surrogates (PEP 383) and go back to what they were.
        octets = token.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        octets = token.encode("utf-8", "surrogatepass")
    return "".join(f"%{octet:02X}" for octet in octets)


def _remove_dot_segments(path: str) -> str:
    """Apply RFC 3986 section 5.2.4 to an absolute path."""
    segments = path.removeprefix("/").split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")  # `/a/..` is the directory `/`, not a name
    return "/" + "/".join(kept)


def readings(path: str) -> tuple[str, ...]:
    """Return the ways in which servers may read a path, without its query: as sent, normal, and wholly decoded.

    A rule that allows a path demands that every reading is covered, and one that denies it is content with any:
    `/public/..%2Fadmin` is not under `/public` for a server that decodes first.

    >>> readings("/public/..%2Fadmin?x=1")
    ('/public/..%2Fadmin', '/admin')
    """
    sent = path.partition("?")[0] or "/"
    if _is_plain(sent):
        return (sent,)
    return tuple(dict.fromkeys((sent, normalize_path(sent), *decoded(sent))))


def possible_readings(path: str) -> tuple[str, ...]:
    """Return the ways in which servers may read a path, and also what is left to those that cut parameters off every
    segment, as servlet containers do: for rules that deny. Few servers do so, and a rule that allows `/a;v=1` need
    not allow `/a` too.

    >>> possible_readings("/admin;v=1/users")
    ('/admin;v=1/users', '/admin/users')
    """
    found = readings(path)
    if ";" not in path and "%3" not in path:
        return found
    cut = _EVERY_PARAMETER.sub("", path.partition("?")[0])
    return tuple(dict.fromkeys((*found, *decoded(cut))))


def decoded(path: str) -> tuple[str, ...]:
    """Return what servers may make of a path, without its query, that decode every escape in it.

    They do so before they remove dot segments, or after; and some take double slashes for one, nginx before that:
    `/public/x//../../admin` is `/public/admin` by RFC 3986, and `/admin` to it.

    >>> decoded("/public/x//../../admin")
    ('/public/admin', '/admin')
    """
    sent = path.partition("?")[0] or "/"
    if _is_plain(sent):
        return (sent,)
    found: list[str] = []
    for each in (normalize_path(sent), sent):
        path = _PARAMETERS.sub("", unquote(each).replace("\\", "/"))
        found += _remove_dot_segments(_SLASHES.sub("/", path)), _SLASHES.sub("/", _remove_dot_segments(path))
    return tuple(dict.fromkeys(found))


def _is_plain(path: str) -> bool:
    """Say whether there is but one way to read a path."""
    return "//" not in path and "/." not in path and _PLAIN.match(path) is not None
