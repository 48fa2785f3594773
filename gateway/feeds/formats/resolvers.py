"""Formats that are configuration of a resolver: dnsmasq, unbound.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Buffer, Iterator

from gateway.feeds.entry import Entry, NameEntry, ParseReport, Scope, Unsupported
from gateway.feeds.formats.lines import Found, read_names
from gateway.feeds.formats.values import PLAIN_NAME, each, is_sink, read_name
from gateway.feeds.formats.zones import split_record

_COMMENT = re.compile(r"(?:^|\s)#.*")  # in dnsmasq `#` is also a value: `address=/name/#`

_FAST_DNSMASQ = re.compile(
    r"(?:address=(?=/[^/]*/(?:#|0\.0\.0\.0|::)?\Z)|(?:local|server)=(?=/[^/]*/\Z))"
    rf"/({PLAIN_NAME})/.*"
).fullmatch
_SETTING = re.compile(r"[a-z0-9-]+(?:=.*)?").fullmatch


def dnsmasq(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the names that dnsmasq is told to answer with nothing; each covers its tree, as dnsmasq has it.

    `server=/name/#` (resolve as usual) is an exception; forwarding and real answers are unsupported.
    """
    return read_names(data, report, _read_dnsmasq, _FAST_DNSMASQ, Scope.TREE)


def _read_dnsmasq(number: int, text: str) -> list[Found]:
    text = _COMMENT.sub("", text)
    if not text:
        return []
    key, _, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if key not in ("address", "server", "local"):
        if not _SETTING(text):
            raise ValueError("not a dnsmasq setting")
        raise Unsupported("other setting")
    if not value.startswith("/") or value.count("/") < 2:
        raise Unsupported("forwards every name" if key != "address" else "other setting")
    *names, target = value[1:].split("/")
    exception = False
    if key == "address":
        if target not in ("", "#") and not is_sink(target):
            raise Unsupported("points somewhere else")
    elif target == "#":
        exception = True
    elif target:
        raise Unsupported("forwards the name")

    def read(text: str) -> NameEntry:
        if not text or text == "#":
            raise Unsupported("covers every name")
        if "*" in text:
            raise Unsupported("wildcard inside the name")
        return read_name(number, text.removeprefix("."), Scope.TREE)._replace(exception=exception)

    return each(names, read)


_ZONE = re.compile(r"""local-zone:\s*(?:"([^"]*)"|'([^']*)'|(\S+))\s+"?([a-z_]+)"?""").fullmatch
_DATA = re.compile(r"""local-data:\s*(?:"(.*)"|'(.*)')""").fullmatch
_CLAUSE = re.compile(r"(?:server|remote-control|forward-zone|stub-zone|auth-zone|view|python|rpz):").fullmatch
_OPTION = re.compile(r"[a-z0-9-]+:\s*\S.*").fullmatch
_DENYING = frozenset(
    (
        "deny",
        "refuse",
        "static",
        "redirect",
        "inform_deny",
        "inform_redirect",
        "always_refuse",
        "always_nxdomain",
        "always_nodata",
        "always_deny",
        "always_null",
    )
)
_PASSING = frozenset(
    ("transparent", "typetransparent", "nodefault", "inform", "block_a", "noview", "ipset", "truncate")
)
_FAST_UNBOUND = re.compile(rf'local-zone: "({PLAIN_NAME})\.?" (?:{"|".join(sorted(_DENYING))})').fullmatch


def unbound(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the names that Unbound is told to deny: zones with their tree, records (`local-data`) exactly.

    `always_transparent` is an exception. Zones that still resolve, and records with real data, are unsupported.
    """
    return read_names(data, report, _read_unbound, _FAST_UNBOUND, Scope.TREE)


def _read_unbound(number: int, text: str) -> list[Found]:
    text = _COMMENT.sub("", text).rstrip()
    if not text or _CLAUSE(text):
        return []
    if match := _ZONE(text):
        name = match[1] or match[2] or match[3] or ""
        return [_read_zone(number, name, match[4])]
    if match := _DATA(text):
        return [_read_data(number, (match[1] or match[2] or "").split())]
    if not _OPTION(text):
        raise ValueError("not an unbound setting")
    if text.startswith(("local-zone:", "local-data:")):
        raise ValueError("malformed local zone or data")
    raise Unsupported("other setting")


def _read_zone(number: int, name: str, kind: str) -> NameEntry:
    if kind in _PASSING:
        raise Unsupported("zone that still resolves")
    if kind not in _DENYING and kind != "always_transparent":
        raise ValueError("unknown zone type")
    if name == ".":
        raise Unsupported("covers every name")
    return read_name(number, name, Scope.TREE)._replace(exception=kind == "always_transparent")


def _read_data(number: int, record: list[str]) -> NameEntry:
    kind, rdata = split_record(record[1:])
    if kind not in ("A", "AAAA"):
        raise Unsupported("record type")
    if not rdata or not is_sink(rdata[0]):
        raise Unsupported("points somewhere else")
    return read_name(number, record[0], Scope.EXACT)
