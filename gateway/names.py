"""Domain names and hosts: one normal form, and every other spelling refused.

Pure: no I/O, no clock. A name in this product is a `str` in *normal form*: lower case, A-labels (RFC 5890), no
trailing dot, at most 253 octets, labels of 1 to 63 letters, digits, hyphens and underscores. Names read off the
DNS wire may hold any octet; there, what is not a visible ASCII character, and a dot or backslash inside a label, is
written `\\DDD` (RFC 1035 section 5.1), so that a dot always separates labels.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv6Address

import idna

from gateway.addresses import IPAddress, parse_address
from gateway.suffixlist import read_rules

MAX_LENGTH = 253
"""Longest name in text form (RFC 1035: 255 octets on the wire)."""

_NORMAL = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")


def normalize(text: str) -> str:
    """Return a host name in normal form.

    Raises:
        ValueError: it is not a host name; the message says what is wrong with it.

    >>> normalize("Bücher.Example.")
    'xn--bcher-kva.example'
    """
    name = text.lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True, transitional=False).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError) as error:
            raise ValueError(f"not a valid international name: {error}") from None
    name = name.removesuffix(".")
    if not _NORMAL.match(name):
        raise ValueError(_flaw(name))
    if _NUMBER.match(name.rpartition(".")[2]):
        # WHATWG URL "ends in a number": C libraries read `127.1`, `0x7f.1` and `2130706433` as addresses.
        raise ValueError("ends in a number, so it is an address or nothing")
    return name


def _flaw(name: str) -> str:
    if not name:
        return "empty name"
    if len(name) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    for label in name.split("."):
        if not label:
            return "empty label (two dots, or a dot in front)"
        if len(label) > 63:
            return "label longer than 63 characters"
    return "has a character that host names do not have"


def parse_host(text: str) -> str | IPAddress:
    """Read the host of a request: a name in normal form, or an address (IPv6 in brackets).

    One trailing dot and upper case are accepted, because they name the same host; nothing else is repaired.

    Raises:
        ValueError: it is neither; `[name]`, zones, numbers in odd spellings and non-ASCII text are not.
    """
    if text.startswith("["):
        address = parse_address(text[1:-1]) if text.endswith("]") else None
        if address is None or address.version != 6:
            raise ValueError("brackets hold an IPv6 address without zone, nothing else")
        return address
    if not text.isascii():
        raise ValueError("a host in a request is ASCII (RFC 3986); international names are A-labels")
    if ":" in text:
        raise ValueError("an IPv6 address stands in brackets")
    return parse_address(text) or normalize(text)


def suffixes(name: str) -> Iterator[str]:
    """Yield the name and each parent, longest first.

    >>> list(suffixes("a.b.c"))
    ['a.b.c', 'b.c', 'c']
    """
    yield name
    at = name.find(".")
    while at >= 0:
        yield name[at + 1 :]
        at = name.find(".", at + 1)


@lru_cache(maxsize=65536)
def registered_domain(name: str) -> str:
    """Return the domain somebody registered: one label below the public suffix, private suffixes included.

    Empty when the name is itself a public suffix. A name under no known suffix counts its last label as the suffix.

    >>> registered_domain("a.b.github.io"), registered_domain("www.example.co.uk"), registered_domain("co.uk")
    ('b.github.io', 'example.co.uk', '')
    """
    labels = name.split(".")
    taken = (_suffix_length(labels) or 1) + 1
    return ".".join(labels[-taken:]) if len(labels) >= taken else ""


@cache
def _suffix_rules() -> dict[str, bool]:
    """Return where rules lie on the way down from the root, and whether one ends there."""
    rules: dict[str, bool] = {}
    for rule in read_rules().everything:
        for place in suffixes(rule):
            rules[place] = place == rule or rules.get(place, False)
    return rules


def _suffix_length(labels: list[str]) -> int:
    """Return how many of a name's last labels are its public suffix; none, when no rule speaks of it."""
    rules, place, length = _suffix_rules(), "", 0
    for depth, label in enumerate(reversed(labels)):
        here = f"{label}.{place}" if place else label
        ending = rules.get(here)
        if ending is None:
            if place and "*." + place in rules:
                length = depth if f"!{here}" in rules else depth + 1
            break
        place = here
        if ending:
            length = depth + 1
    return length


# Services whose names carry the address that they answer with; and names that always answer with loopback.
_ADDRESS_ZONES = ("nip.io", "sslip.io", "xip.io", "traefik.me", "local-ip.co", "rbndr.us", "1u.ms")
_LOOPBACK_ZONES = ("localhost", "localhost.localdomain", "localtest.me", "lvh.me", "vcap.me", "lacolhost.com")
_ZONE_ENDINGS = _ADDRESS_ZONES + _LOOPBACK_ZONES
# Looks ahead only, so that of `1.2.3.127.0.0.1` every quad is found, whichever the service would choose.
_QUAD = re.compile(r"(?:^|(?<=[.-]))(?=(\d{1,3})[.-](\d{1,3})[.-](\d{1,3})[.-](\d{1,3})(?:[.-]|$))")
_HEX = re.compile(r"(?:^|[.-])([0-9a-f]{8})(?=[.-]|$)")
_DASHED_6 = re.compile(r"(?:^|\.)([0-9a-f-]*--[0-9a-f-]*|(?:[0-9a-f]{1,4}-){7}[0-9a-f]{1,4})$")


def embedded_addresses(name: str) -> tuple[IPAddress, ...]:
    """Return the addresses that a name under a name-your-address service stands for; empty for other names.

    >>> embedded_addresses("www.127-0-0-1.nip.io")
    (IPv4Address('127.0.0.1'),)
    """
    if not name.endswith(_ZONE_ENDINGS):
        return ()
    for zone in _ADDRESS_ZONES:
        if name.endswith("." + zone):
            return tuple(_addresses_in(name[: -len(zone) - 1]))
    for zone in _LOOPBACK_ZONES:
        if name == zone or name.endswith("." + zone):
            return (IPv4Address("127.0.0.1"),)
    return ()


def is_localhost(name: str) -> bool:
    """Say whether a name is `localhost` or below it.

    >>> is_localhost("a.localhost"), is_localhost("notlocalhost"), is_localhost("localhost.localdomain")
    (True, False, False)
    """
    return name.endswith("localhost") and (name == "localhost" or name.endswith(".localhost"))


def names_addresses(name: str) -> bool:
    """Say whether names that only stand for an address are under a name, or the name is under such a zone.

    >>> names_addresses("nip.io"), names_addresses("io"), names_addresses("a.nip.io"), names_addresses("example.com")
    (True, True, True, False)
    """
    return any(zone == name or zone.endswith("." + name) or name.endswith("." + zone) for zone in _ZONE_ENDINGS)


def _addresses_in(prefix: str) -> Iterator[IPAddress]:
    for match in _QUAD.finditer(prefix):
        address = parse_address(".".join(str(int(part)) for part in match.groups()))
        if address is not None:
            yield address
    for match in _HEX.finditer(prefix):
        yield IPv4Address(int(match[1], 16))
    if dashed := _DASHED_6.search(prefix):
        try:
            yield IPv6Address(dashed[1].replace("-", ":"))
        except ValueError:
            return  # dashes that are not an address: an ordinary label
