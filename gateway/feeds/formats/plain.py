"""Formats of one bare value a line: hosts, domains, wildcard, urls, addresses.

Pure: no I/O, no clock.
"""

import re
from collections.abc import Buffer, Iterator
from ipaddress import IPv4Address, IPv6Address

from gateway.feeds.entry import Entry, ParseReport, PathEntry, RangeEntry, Scope, Unsupported
from gateway.feeds.formats.lines import Found, account, blocks, read_lines, read_names
from gateway.feeds.formats.values import (
    IPV4,
    PLAIN_NAME,
    each,
    is_sink,
    is_url,
    make_range,
    read_name,
    read_pattern,
    read_range,
    read_url,
    strip_port,
    uncomment,
)
from gateway.names import MAX_LENGTH

_FAST_HOSTS = re.compile(rf"(?:0\.0\.0\.0|127\.0\.0\.1)[ \t]+(?!localhost)({PLAIN_NAME})[ \t]*").fullmatch
_FAST_NAME = re.compile(rf"({PLAIN_NAME})").fullmatch
_FAST_URL = re.compile(rf"(?:https?://)?({PLAIN_NAME})(/[A-Za-z0-9\-._~!$&'()*+,;=:@/?]+)").fullmatch
_FAST_ADDRESS = re.compile(r"[0-9.]+(?:/[0-9]+)?").fullmatch
_FAST_STAR = re.compile(rf"\*\.({PLAIN_NAME})").fullmatch
_LONGEST_IPV4 = 15
_LOCAL = frozenset(
    [
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "local",
        "loopback",
        "broadcasthost",
    ]
)
_URL_COMMENT = re.compile(r"(?:^|\s)[#!;].*")  # `//` in front is no comment here, and `#` in a word is a fragment


def hosts(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the names of a hosts file that it sends nowhere. A name covers itself only, as in a hosts file."""
    return read_names(data, report, read_hosts_line, _FAST_HOSTS, Scope.EXACT)


def read_hosts_line(number: int, text: str) -> list[Found]:
    """Read `address name [name ...] [# comment]`."""
    address, *names = uncomment(text).partition("#")[0].split() or [""]  # `#` needs no space here
    if not address:
        return []
    if not names:
        raise ValueError("no address in front of the name" if not _is_address(address) else "no name")
    foreign = [name for name in names if not _is_local(name)]
    if not foreign:
        raise Unsupported("local name")
    if not is_sink(address):
        raise ValueError("points somewhere else" if _is_address(address) else "no address in front of the name")
    return each(foreign, lambda name: read_name(number, name, Scope.EXACT))


def _is_local(name: str) -> bool:
    """Say whether this is what every hosts file begins with, names and sinks alike."""
    name = name.lower()
    return name in _LOCAL or name.startswith("ip6-") or is_sink(name)


def _is_address(text: str) -> bool:
    text = text.partition("%")[0]  # `fe80::1%lo0 localhost`
    try:
        _ = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return is_sink(text)
    return True


def domains(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the names of a list of bare names. Each covers its tree: that is what such lists mean.

    `.name` and `*.name` mean the same. An address gives a range. `http://name/` is taken for the name.
    """
    return read_names(data, report, _read_domain, _FAST_NAME, Scope.TREE)


def _read_domain(number: int, text: str) -> list[Found]:
    text = uncomment(text)
    if not text:
        return []
    if text.startswith(("||", "@@")):
        raise ValueError("is a filter rule, so the format is adblock")
    if len(text.split()) > 1:
        raise ValueError("more than one word")
    if not is_url(text):
        return [read_pattern(number, text, Scope.TREE)]
    entry = read_url(number, text, Scope.TREE)
    if isinstance(entry, PathEntry):
        raise ValueError("is a URL, so the format is urls")
    return [entry]


def wildcard(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the names of a list of `*.name`.

    Strictly, the star would leave out the name itself; the lists that are published in this form mean it as well
    (they are the same lists that say `||name^` elsewhere), so the whole tree is covered. A bare name covers itself.
    """
    return read_names(data, report, _read_wildcard, _FAST_STAR, Scope.TREE)


def _read_wildcard(number: int, text: str) -> list[Found]:
    text = uncomment(text)
    if not text:
        return []
    if len(text.split()) > 1:
        raise ValueError("more than one word")
    return [read_pattern(number, text, Scope.EXACT)]


def urls(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the URLs of a list of them, `http://host/path` or `host/path`; a bare host covers that host exactly.

    `192.0.2.1/24` is a path here, not a prefix: such lists do hold short numeric paths.
    """
    return read_lines(data, report, _read_url)


def _read_url(number: int, text: str) -> list[Found]:
    match = _FAST_URL(text)
    if match is not None and "/." not in match[2] and len(match[1]) <= MAX_LENGTH:
        return [PathEntry(number, match[1], match[2])]  # nothing in it to normalise
    text = _URL_COMMENT.sub("", text).rstrip()
    return [read_url(number, text)] if text else []


def addresses(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the addresses of a list of addresses, `address:port`, CIDR prefixes and ranges `first-last`."""
    for lines in blocks(data):
        first = report.lines + 1
        report.lines += len(lines)
        for number, line in enumerate(lines, first):
            # As in `read_names`: a short cut for the line that nearly every line is.
            if len(line) <= _LONGEST_IPV4 and (match := IPV4(line)) is not None and match[2] is None:
                value = int.from_bytes(bytes(map(int, match[1].split("."))))
                report.accepted += 1
                report.entries += 1
                yield RangeEntry(number, value, value, 4)
            else:
                yield from account(number, line, _read_addresses, report)


def _read_addresses(number: int, text: str) -> list[Found]:
    if _FAST_ADDRESS(text) and (single := read_range(number, text)):
        return [single]
    text = uncomment(text)
    if not text:
        return []
    low, dash, high = text.partition("-")
    if dash:
        first, last = (read_range(number, part.strip()) for part in (low, high))
        if first is None or last is None or first.version != last.version:
            raise ValueError("not an address")
        return [make_range(number, first.first, last.last, first.version)]
    entry = read_range(number, strip_port(text))
    if entry is None:
        raise ValueError("not an address")
    return [entry]
