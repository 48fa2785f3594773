"""Sets of domain patterns, and what the policy needs to know of compiled lists.

Pure: no I/O, no clock. A pattern is `a.b` (that name), `*.a.b` (any depth below it, not itself) or `.a.b` (both).
"""

from dataclasses import dataclass
from typing import Protocol

from gateway.addresses import IPAddress
from gateway.decision import Match
from gateway.memo import Memo
from gateway.names import normalize

_PARENTS_KEPT = 1024


def parse_pattern(text: str) -> tuple[str, bool, bool]:
    """Read a pattern: the name, whether it covers the name itself, whether it covers what is below.

    Raises:
        ValueError: it is no pattern; the message says which form was meant.

    >>> parse_pattern("*.example.com")
    ('example.com', False, True)
    """
    if text.startswith("*."):
        exact, below, rest = False, True, text[2:]
    elif text.startswith("."):
        exact, below, rest = True, True, text[1:]
    else:
        exact, below, rest = True, False, text
    if "*" in rest:
        raise ValueError("a star stands only in front, as in '*.example.com'")
    return normalize(rest), exact, below


class DomainMap:
    """Maps patterns to bit masks; a look-up ORs the masks of every pattern that covers a name.

    The policy keeps one bit per rule, so one walk over a name's suffixes finds all rules that name it.
    """

    def __init__(self) -> None:
        self._exact: dict[str, int] = {}
        self._below: dict[str, int] = {}
        self._parents = Memo[str, int](_PARENTS_KEPT)

    def add(self, pattern: str, mask: int) -> None:
        """Add a pattern."""
        name, exact, below = parse_pattern(pattern)
        self._parents.clear()
        if exact:
            self._exact[name] = self._exact.get(name, 0) | mask
        if below:
            self._below[name] = self._below.get(name, 0) | mask

    def __bool__(self) -> bool:
        return bool(self._exact or self._below)

    def lookup(self, name: str) -> int:
        """Return the masks of all patterns that cover the name, ORed."""
        found = self._exact.get(name, 0)
        if self._below:
            parent = name.partition(".")[2]
            covering = self._parents.get(parent)
            found |= self._covering(parent) if covering is None else covering
        return found

    def _covering(self, parent: str) -> int:
        """Return the masks of the patterns that cover whatever is right below a name: new names are most often below
        one that was asked about before.
        """
        found, below, rest = 0, self._below, parent
        while rest:
            found |= below.get(rest, 0)
            rest = rest.partition(".")[2]
        return self._parents.keep(parent, found)


@dataclass(frozen=True, slots=True)
class ListInfo:
    """One list in a snapshot. Its position is its bit in every mask."""

    name: str
    version: str
    categories: tuple[str, ...]


class Lists(Protocol):
    """Compiled lists, as the policy sees them: bit i of a mask stands for `lists[i]`."""

    @property
    def lists(self) -> tuple[ListInfo, ...]:
        """The lists, in the order of their bits."""

    def lookup_name(self, name: str) -> tuple[int, int]:
        """Return the lists that hold the name or a parent, and those that hold some URLs on that host.

        For URLs on an address, the name is the address as text.
        """

    def lookup_address(self, address: IPAddress) -> int:
        """Return the lists that hold the address."""

    def lookup_path(self, host: str, path: str, *, wholly: bool = False) -> int:
        """Return the lists that hold a URL which covers this path on this host: in any way in which a server may read
        the path, or (`wholly`) in each.
        """

    def match_name(self, name: str, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask."""

    def match_address(self, address: IPAddress, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask."""

    def match_path(self, host: str, path: str, mask: int) -> Match | None:
        """Return the entry behind a hit in one of the lists of the mask."""


class NoLists:
    """Lists of nothing, for a policy that names none."""

    lists: tuple[ListInfo, ...] = ()

    def lookup_name(self, name: str) -> tuple[int, int]:
        """Nothing is listed."""
        return 0, 0

    def lookup_address(self, address: IPAddress) -> int:
        """Nothing is listed."""
        return 0

    def lookup_path(self, host: str, path: str, *, wholly: bool = False) -> int:
        """Nothing is listed."""
        return 0

    def match_name(self, name: str, mask: int) -> Match | None:
        """Nothing is listed."""
        return None

    def match_address(self, address: IPAddress, mask: int) -> Match | None:
        """Nothing is listed."""
        return None

    def match_path(self, host: str, path: str, mask: int) -> Match | None:
        """Nothing is listed."""
        return None
