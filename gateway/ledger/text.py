"""Text from the network, made fit for a record: visible, bounded, without secrets.

Pure: no I/O, no clock. A name, a path or a User-Agent is whatever a client sent: terminal escapes, bidirectional
overrides, lone surrogates, a megabyte. What passes through here is one printable line of bounded length.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from math import floor

LONGEST = 1024
"""Characters kept of one value: bounds a line of the ledger, whatever a client sends."""

_MARK = "..."
_PARAMETERS = 32  # of a query; more tell nobody anything
_QUOTE = re.compile("['\"]")


def visible(value: str) -> str:
    """Return a value with every character that does not print as a backslash escape, cut at `LONGEST`.

    Not printing is what `str.isprintable` says: controls, format characters such as bidirectional overrides,
    surrogates, line and paragraph separators, unassigned code points. The result never holds any of them.

    >>> visible("evil\\x1b[2J.example")
    'evil\\\\x1b[2J.example'
    """
    if len(value) <= LONGEST and value.isprintable():
        return value
    kept = value[: LONGEST + 1]
    if not kept.isprintable():
        kept = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in kept)
    return kept if len(kept) <= LONGEST else kept[: LONGEST - len(_MARK)] + _MARK


def without_userinfo(value: str) -> str:
    """Return text about a request with what stands before an `@` struck out, because it may be a password.

    Details quote what a client sent (`Host 'me:secret@host' ...`); from the first quote up to the last `@` it goes.

    >>> without_userinfo("Host 'me:secret@host.example' has userinfo")
    "Host '*@host.example' has userinfo"
    """
    end = value.rfind("@")
    if end < 0:
        return value
    quote = _QUOTE.search(value, 0, end)
    start = quote.end() if quote else 0
    return f"{value[:start]}*{value[end:]}"


def redact_query(query: str) -> str:
    """Return the query of a URL with its parameters' names alone: values are where tokens and passwords are.

    >>> redact_query("page=2&token=s3cret&s3cret")
    'page=*&token=*&*'
    """
    parts = query[: 4 * LONGEST].split("&", _PARAMETERS)
    kept = [f"{part[:at]}=*" if (at := part.find("=")) >= 0 else "*" for part in parts[:_PARAMETERS]]
    if len(parts) > _PARAMETERS:
        kept.append(_MARK)
    return "&".join(kept)


def timestamp(now: float) -> str:
    """Return seconds since the epoch in RFC 3339, UTC, with milliseconds: as text, such times sort by time.

    >>> timestamp(0.25)
    '1970-01-01T00:00:00.250Z'
    """
    second = floor(now)
    return f"{_whole(second)}.{int((now - second) * 1000):03d}Z"


@lru_cache(maxsize=64)
def _whole(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]
