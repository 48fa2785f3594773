"""The public suffix list: its rules, out of the copy that comes with tldextract.

Pure: no clock and no network; a decision must not depend on either. The library itself is not imported: it brings an
HTTP client, to fetch newer lists with, into every process (40 ms, and megabytes), and keeps the list several times
over.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_COPY = ".tld_set_snapshot"
"""The copy's name in the library's folder: in every release for more than ten years."""
_RULE = re.compile(r"^(?!//)\S+", re.MULTILINE)
_PRIVATE = "// ===BEGIN PRIVATE DOMAINS==="


class SuffixRules(NamedTuple):
    """Rules as they are written in the list (`co.uk`, `*.ck`, `!www.ck`), in A-labels."""

    everything: frozenset[str]
    """All of them."""
    registries: frozenset[str]
    """Those of the first section: what registries run, without the services of companies."""


def read_rules() -> SuffixRules:
    """Read the list. It takes megabytes, so what is asked often keeps what it needs of it, in its own form.

    Raises:
        ValueError: the copy is not there, or is no such list.
    """
    library = find_spec("tldextract")
    places = library.submodule_search_locations if library else None
    if not places:
        raise ValueError("the public suffix list is missing: tldextract is not installed as a package")
    return parse((Path(places[0]) / _COPY).read_text(encoding="utf-8"))


def parse(text: str) -> SuffixRules:
    """Read rules out of the list's text.

    Raises:
        ValueError: it has not both sections.

    >>> parse("// ICANN\\ncom\\n*.ck\\nрф\\n// ===BEGIN PRIVATE DOMAINS===\\ngithub.io\\n").registries == {
    ...     "com", "*.ck", "xn--p1ai"}
    True
    """
    first, _, second = text.partition(_PRIVATE)
    registries, private = (frozenset(map(_in_a_labels, _RULE.findall(part))) for part in (first, second))
    if not registries or not private:
        raise ValueError("no public suffix list: a section is missing or empty")
    return SuffixRules(registries | private, registries)


def _in_a_labels(rule: str) -> str:
    # The list has its rules in the form that IDNA prescribes, so there is nothing left to map or to check.
    if rule.isascii():
        return rule
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in rule.split(".")
    )
