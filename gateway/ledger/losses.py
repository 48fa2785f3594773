"""Exact counts of records that cannot be written now, in bounded memory.

Pure: no I/O, no clock. When the disk is full or stalls, detail is given up and numbers are not.
"""

from dataclasses import dataclass

LIMIT = 1024
"""Kinds held apart; beyond, only verdict and reason are (both closed sets), so memory and lines stay bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Several decisions on one line: how many, and when the first and the last was."""

    count: int
    first: float
    last: float

    @classmethod
    def one(cls, now: float) -> "Span":
        """Return the span of a single decision."""
        return cls(count=1, first=now, last=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Decisions that could not be written one by one, by what they had in common. Empty: several values, or none."""

    verdict: str
    enforced: bool
    reason: str
    rule: str
    client: str
    span: Span


@dataclass(slots=True)
class _Count:
    number: int
    first: float
    last: float


class Losses:
    """Counts by verdict, reason, rule and client."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._counts: dict[tuple[str, bool, str, str, str], _Count] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, loss: Loss) -> None:
        """Count what a loss stands for."""
        key = (loss.verdict, loss.enforced, loss.reason, loss.rule, loss.client)
        if key not in self._counts and len(self._counts) >= self._limit:
            key = (loss.verdict, loss.enforced, loss.reason, "", "")
        span = loss.span
        count = self._counts.get(key)
        if count is None:
            self._counts[key] = _Count(span.count, span.first, span.last)
        else:
            count.number += span.count
            count.first = min(count.first, span.first)
            count.last = max(count.last, span.last)

    def drain(self) -> list[Loss]:
        """Return one loss for each kind, and start anew."""
        counts, self._counts = self._counts, {}
        return [
            Loss(
                verdict=verdict,
                enforced=enforced,
                reason=reason,
                rule=rule,
                client=client,
                span=Span(count=count.number, first=count.first, last=count.last),
            )
            for (verdict, enforced, reason, rule, client), count in counts.items()
        ]
