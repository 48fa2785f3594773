"""What is known of a zone before anything was asked: whose it is, and how much news it may be told.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from gateway.domainset import DomainMap, parse_pattern
from gateway.tunnelling.zones import classify, is_hosted


class Prior(StrEnum):
    """What a zone is."""

    EXEMPT = "exempt"
    """Named by `tunnelling.exempt`, a forward zone or local records."""
    SERVICE = "service"
    """Of the shipped list: names there carry data because that is what the service is for."""
    PRIVATE = "private"
    """A top-level domain of private networks, with hosts right below it."""
    SITE = "site"
    """A domain of a private network: all names of that network may be below it."""
    REVERSE = "reverse"
    """Addresses as names."""
    LEADING = "leading"
    """Among the most popular."""
    POPULAR = "popular"
    ESTABLISHED = "established"
    """Several clients have used it on several days."""
    UNKNOWN = "unknown"
    NOWHERE = "nowhere"
    """Under no existing top-level domain."""


FACTORS: dict[Prior, float] = {
    Prior.REVERSE: 8,
    Prior.LEADING: 128,
    Prior.POPULAR: 24,
    Prior.ESTABLISHED: 4,
    Prior.PRIVATE: 16,
    Prior.SITE: 16,
    Prior.UNKNOWN: 1,
    Prior.NOWHERE: 1,
}
"""How many times the budget a zone has; what is not named has no budget at all, it is exempt."""


class Popular(NamedTuple):
    """Popular domains."""

    leading: frozenset[str]
    others: frozenset[str]
    operated: frozenset[str] = frozenset()
    """Domains whose operator answers for all names below them, those of customers too."""

    @classmethod
    def of(cls, leading: Iterable[str], others: Iterable[str], operated: Iterable[str] = ()) -> "Popular":
        """Take three sets of domains."""
        return cls(frozenset(leading), frozenset(others), frozenset(operated))

    def prior(self, domain: str) -> Prior:
        """Return LEADING, POPULAR or UNKNOWN.

        A customer's name under somebody's service is unknown however popular: whoever has it may have its name
        servers, too. Not so where the operator answers for all names, and nobody else sees a question.

        >>> str(Popular.of(["example.com"], []).prior("example.com"))
        'leading'
        """
        if self._is_operated(domain):
            return Prior.POPULAR
        if is_hosted(domain):
            return Prior.UNKNOWN
        if domain in self.leading:
            return Prior.LEADING
        return Prior.POPULAR if domain in self.others else Prior.UNKNOWN

    def prior_of_plain(self, domain: str) -> Prior:
        """Return the same for a domain of two labels that is nobody's customer's, sooner."""
        if domain in self.leading and domain not in self.operated:
            return Prior.LEADING
        return Prior.POPULAR if domain in self.others or domain in self.operated else Prior.UNKNOWN

    def _is_operated(self, domain: str) -> bool:
        if domain.count(".") < 2:
            return domain in self.operated
        labels = domain.split(".")
        return ".".join(labels[-2:]) in self.operated or ".".join(labels[-3:]) in self.operated


class Service(NamedTuple):
    """A service whose protocol is data in names."""

    suffix: str
    """A pattern: `*.avqs.example`, `.example`."""
    vendor: str
    carries: str
    """What the names carry."""
    reason: str
    """Why it is let pass."""


class Priors:
    """All that is known beforehand."""

    def __init__(self, popular: Popular, services: Iterable[str] = (), exempt: Iterable[str] = ()) -> None:
        """Take patterns (`gateway.domainset`) of services, and those that the configuration exempts."""
        self.popular = popular
        self._patterns = DomainMap()
        self._zones: set[str] = set()
        self._wide: set[str] = set()
        """Top-level domains below which a pattern covers everything."""
        for patterns, mask in ((services, 1), (exempt, 2)):
            for pattern in patterns:
                self._patterns.add(pattern, mask)
                named = parse_pattern(pattern)[0]
                self._zones.add(classify(named).zone)
                if "." not in named:
                    self._wide.add(named)

    def divides(self, zone: str) -> bool:
        """Say whether a pattern may cover some names of a zone and not others."""
        return zone in self._zones

    def of_plain(self, zone: str) -> Prior | None:
        """Return what `of_name` does for a domain of two labels, sooner where no pattern is near."""
        return self.of_name(zone) if zone in self._zones or self._wide else None

    def of_name(self, name: str) -> Prior | None:
        """Return EXEMPT or SERVICE where patterns cover a name."""
        found = self._patterns.lookup(name)
        if not found:
            return None
        return Prior.EXEMPT if found & 2 else Prior.SERVICE
