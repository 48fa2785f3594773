"""Whom a name tells something: the registered domain that gets to see it.

Pure: no I/O, no clock. The public suffix list is the one bundled with tldextract, private section included. Its
entries of one label are also the list of top-level domains: everything delegated in the root is among them.
"""

import re
from functools import cache
from typing import NamedTuple

from gateway.names import registered_domain
from gateway.suffixlist import read_rules

NO_TLD = "."
"""The zone of names under no existing top-level domain: all of them together."""
PRIVATE = frozenset(
    [
        "local",
        "localdomain",
        "localhost",
        "internal",
        "intranet",
        "private",
        "lan",
        "home",
        "corp",
        "test",
        "example",
        "invalid",
        "onion",
        "alt",
    ]
)
"""Top-level domains that exist inside networks only (RFC 6761, RFC 6762, ICANN on `internal`, `home` and `corp`)."""
STAYING = frozenset(["local", "localhost", "onion", "invalid", "alt", "home.arpa"])
"""Those of them that never leave, unless a forward zone covers them: `gateway.dns.local` answers for them. The others
go to upstreams, and whoever runs those may hand them on.
"""

_REVERSE_4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){1,4}in-addr\.arpa\Z")
_REVERSE_6 = re.compile(r"(?:[0-9a-f]\.){1,32}ip6\.arpa\Z")
_PREFIX_6 = 2 * 12  # twelve nibbles and their dots: the /48 that one holder has


class Kind(NamedTuple):
    """What a name is under."""

    zone: str
    """The registered domain, a stand-in for it, or `.`."""
    reverse: bool = False
    """An address written as RFC 1035 section 3.5 or RFC 3596 say."""
    private: bool = False
    """Under a top-level domain that exists in private networks only."""
    plain: bool = False
    """The last two labels, whatever is in front of them."""


class _Suffixes(NamedTuple):
    known: frozenset[str]
    """All top-level domains."""
    plain: frozenset[str]
    """Those of them that take registrations right below."""
    deep: frozenset[str]
    """Last two labels below or at which there is a rule of the list: those names need a proper look."""
    hosted: frozenset[str]
    """Suffixes of the private section: their operators give names below them to anybody."""


@cache
def _suffixes() -> _Suffixes:
    everything, public = read_rules()
    tlds = frozenset(rule for rule in public if "." not in rule)
    wild = {rule[2:] for rule in everything if rule.startswith("*.") and "." not in rule[2:]}
    deep = {".".join(rule.lstrip("!").rsplit(".", 2)[-2:]) for rule in everything if "." in rule}
    known = frozenset(rule.rpartition(".")[2] for rule in public)
    return _Suffixes(known, tlds - wild, frozenset(deep), frozenset(everything - public))


def exists(tld: str) -> bool:
    """Say whether a top-level domain is delegated.

    >>> exists("com"), exists("xn--p1ai"), exists("local"), exists("d0ae7c")
    (True, True, False, False)
    """
    return tld in _suffixes().known


def is_hosted(domain: str) -> bool:
    """Say whether a registered domain is a customer's name under somebody's service, as in `me.github.io`.

    >>> is_hosted("me.github.io"), is_hosted("example.co.uk"), is_hosted("example.com")
    (True, False, False)
    """
    parent = domain.partition(".")[2]
    if "." not in parent:
        return False  # a top-level domain is no customer's
    if parent in _suffixes().hosted:
        return True
    return "*." + parent.partition(".")[2] in _suffixes().hosted


def classify(name: str) -> Kind:
    """Return what a name in normal form is under.

    >>> classify("a.b.example.co.uk").zone, classify("dnscat.00d0ae7c").zone, classify("db.svc.cluster.local").zone
    ('example.co.uk', '.', 'local')
    >>> classify("4.3.2.1.in-addr.arpa")
    Kind(zone='arpa', reverse=True, private=False, plain=False)
    """
    suffixes, dot = _suffixes(), name.rfind(".")
    tld = name[dot + 1 :]
    if tld in suffixes.plain and dot > 0:
        pair = name[name.rfind(".", 0, dot) + 1 :]
        if pair not in suffixes.deep:
            if tld == "arpa":
                return _arpa(name, pair)
            return Kind(pair, False, False, True)  # by position: by name it takes twice as long
    rest = name[: max(0, dot)]
    if tld in PRIVATE:
        # Hosts may be right below; what is deeper has a zone of its own like everywhere.
        if tld in STAYING or "." not in rest:
            return Kind(tld, private=True)
        return Kind(f"{rest.rpartition('.')[2]}.{tld}", private=True)
    if tld not in suffixes.known:
        return Kind(NO_TLD)
    if tld == "arpa":
        return _arpa(name, ".".join(name.rsplit(".", 2)[-2:]))
    # A public suffix has no owner to tell things to: it stands for itself.
    return Kind(registered_domain(name) or name)


def _arpa(name: str, pair: str) -> Kind:
    if pair == "home.arpa":
        return Kind(pair, private=True)  # RFC 8375
    if _REVERSE_4.match(name):
        return Kind("arpa", reverse=True)
    if _REVERSE_6.match(name):
        # Whoever holds a /48 sees the queries for it, and could make of the other 80 bits what they like.
        return Kind(name[-_PREFIX_6 - len("ip6.arpa") :], reverse=True)
    return Kind(pair)
