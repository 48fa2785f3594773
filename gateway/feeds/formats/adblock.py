"""The adblock format: filter lists for browsers, and their subset for DNS filters.

Pure: no I/O, no clock. Only rules that name a whole host are of use here. Anything that narrows a rule to what a
gateway cannot see (which page asked, which kind of element) makes it unsupported: applied without its condition, it
would deny what the list never meant to.
"""

import re
from collections.abc import Buffer, Iterator

from gateway.feeds.entry import Entry, NameEntry, ParseReport, Scope, Unsupported
from gateway.feeds.formats.lines import Found, read_names
from gateway.feeds.formats.plain import read_hosts_line
from gateway.feeds.formats.values import PLAIN_NAME, read_host

_FAST = re.compile(rf"\|\|({PLAIN_NAME})\^").fullmatch
_COSMETIC = re.compile(r"#@?[?$%]{0,2}#|\$@?\$").search
_HEADER = re.compile(r"\[[^\]]*\]").fullmatch  # `[Adblock Plus 2.0]`
_REGEX = re.compile(r"/.+/(?:\$[^/]*)?").fullmatch
_BARE = re.compile(r"[^\s/|^*?&=,@$]+\.[^\s/|^*?&=,@$]+").fullmatch
# `||name^`, `|name^`, with whatever follows a whole host: nothing, the end of the address, or a star.
_ANCHORED = re.compile(r"(\|\|?)(\*\.)?([^/|^?&=%*]*|\[[^\]]*\])(?:\^?\|?|\^\*)").fullmatch
_WHOLE = frozenset(("", "important", "all", "doc", "document", "network"))
"""Options that leave a rule about everything from that host."""


def adblock(data: Buffer, report: ParseReport) -> Iterator[Entry]:
    """Yield the hosts that the rules of a filter list deny, and (`exception`) those that they let through.

    `||name^` covers the tree, `||*.name^` what is below, `|name^`, a bare `name` and a hosts line the name itself.
    """
    return read_names(data, report, _read, _FAST, Scope.TREE)


def _read(number: int, text: str) -> list[Found]:
    if text[0] == "!":
        if text.startswith(("!#", "!+")):
            raise Unsupported("preprocessor directive")
        return []
    if _HEADER(text):
        return []
    if _COSMETIC(text):
        raise Unsupported("cosmetic rule")
    if text[0] == "#":
        return []
    if text[0].isalnum() or text[0] == ":":
        words = text.split()
        if len(words) > 1 and not words[1].startswith("#"):
            return read_hosts_line(number, text)
        if _BARE(words[0]):  # in a browser's list it would be a part of URLs; in a DNS filter's, a name
            return [read_host(number, words[0], Scope.EXACT)]
    return [_read_rule(number, text)]


def _read_rule(number: int, text: str) -> Entry:
    exception = text.startswith("@@")
    body = text[2:] if exception else text
    if _REGEX(body):
        raise Unsupported("regular expression")
    pattern, _, options = body.partition("$")
    match = _ANCHORED(pattern)
    if match is None:
        if "*" in pattern.removesuffix("*") and "/" not in pattern:
            raise Unsupported("wildcard inside the name")
        raise Unsupported("path or part of a URL")
    anchor, star, host = match.groups()
    if host.startswith(("http:", "https:", "ws:", "wss:")) or host.endswith((".", "-")):
        raise Unsupported("path or part of a URL")
    if ":" in host and not host.startswith("["):
        raise Unsupported("port")
    for option in options.lower().split(","):
        name = option.partition("=")[0].strip().strip("_")
        if name == "badfilter":
            raise Unsupported("switches off another rule")
        if name == "dnsrewrite":
            raise Unsupported("rewrites the answer")
        if name not in _WHOLE:
            raise Unsupported("narrowed by an option")
    scope = Scope.BELOW if star else Scope.TREE if anchor == "||" else Scope.EXACT
    entry = read_host(number, host, scope)
    if star and not isinstance(entry, NameEntry):
        raise Unsupported("wildcard inside the name")
    return entry._replace(exception=exception)
