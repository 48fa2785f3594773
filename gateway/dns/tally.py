"""What the resolver of one process has counted since it began: plain numbers that somebody reads now and then.

Pure: no I/O, no clock. Nothing here is asked for a decision.
"""

from bisect import bisect_left
from enum import IntEnum


class Transport(IntEnum):
    """How a query came."""

    UDP = 0
    TCP = 1
    TLS = 2
    HTTPS = 3


class Source(IntEnum):
    """Where an answer came from. Every query is counted once, when it is answered, or left without an answer."""

    HOT = 0
    """The table of answers given before."""
    CACHE = 1
    STALE = 2
    """The cache, expired: no upstream answered."""
    LOCAL = 3
    """Records, special names and zones of lists."""
    UPSTREAM = 4
    BLOCKED = 5
    """Denied by the policy or a protection."""
    REFUSED = 6
    """Malformed, not for resolvers, or over the rate: not even decided."""
    FAILED = 7
    """No upstream gave an answer, or something broke."""


BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper ends of what the times of upstreams are sorted into, in seconds; longer than the last is one more."""
FAILURES = ("timeout", "network", "malformed", "rcode", "none-left")
"""As `gateway.dns.exchange.Failure`."""


class UpstreamTally:
    """One upstream."""

    __slots__ = ("asked", "failures", "took", "within")

    def __init__(self) -> None:
        self.asked = 0
        self.failures = dict.fromkeys(FAILURES, 0)
        self.took = 0
        """Microseconds that usable answers took, all together."""
        self.within = [0] * (len(BOUNDS) + 1)
        """Usable answers by the bound they were within, each counted once."""

    def answered(self, seconds: float) -> None:
        """Count a usable answer."""
        self.within[bisect_left(BOUNDS, seconds)] += 1
        self.took += round(seconds * 1e6)

    def failed(self, failure: str) -> None:
        """Count a failure."""
        self.failures[failure] += 1


class Tally:
    """All of it."""

    __slots__ = ("answers", "queries", "upstreams")

    def __init__(self) -> None:
        self.queries = [0] * len(Transport)
        self.answers = [0] * len(Source)
        self.upstreams: dict[str, UpstreamTally] = {}
        """By the endpoint as it is configured; they stay when the configuration changes."""

    def upstream(self, name: str) -> UpstreamTally:
        """Return the numbers of an upstream."""
        found = self.upstreams.get(name)
        if found is None:
            found = self.upstreams[name] = UpstreamTally()
        return found
