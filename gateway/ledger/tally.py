"""What the ledger of one process was told: how many denials for which reason, and what allowed flows moved.

Pure: no I/O, no clock. Counted is what happened, whether or not a line of it could be written.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from gateway.decision import Decision, Verdict
from gateway.ledger.event import Outcome
from gateway.request import HttpRequest, Request


class Denial(NamedTuple):
    """What denials are counted by."""

    reason: str
    enforced: bool


class Passed(NamedTuple):
    """Requests that were passed on and have ended, with what they moved."""

    requests: int = 0
    octets_out: int = 0
    octets_in: int = 0


def denials_of(decision: Decision) -> Iterator[Denial]:
    """Yield what a decision counts as: the denial itself, else what rules on trial would have denied."""
    if decision.verdict is Verdict.DENY:
        yield Denial(decision.reason.value, decision.enforced)
    else:
        for report in decision.reported:
            yield Denial(report.reason.value, False)


class Tally:
    """All of it. One thread notes; `put_aside` may be called by any that holds the lock of the roll-up."""

    __slots__ = ("_noted", "_repeated", "passed")

    def __init__(self) -> None:
        self._noted: Counter[Denial] = Counter()
        self._repeated: Counter[Denial] = Counter()
        self.passed: dict[str, Passed] = {"http": Passed(), "https": Passed()}
        """By the scheme of the request; `https` was inspected."""

    def note(self, request: Request, decision: Decision, outcome: Outcome | None) -> None:
        """Count what is recorded."""
        # What was only reported was counted when it was decided; a denial at the end of a flow is news.
        if outcome is None or decision.denied:
            self.count(denials_of(decision), outcome.count if outcome is not None else 1)
        if outcome is not None and isinstance(request, HttpRequest) and (before := self.passed.get(request.scheme)):
            self.passed[request.scheme] = Passed(
                before.requests + 1, before.octets_out + outcome.octets_out, before.octets_in + outcome.octets_in
            )

    def count(self, denials: Iterable[Denial], times: int = 1) -> None:
        """Count what is denied, or would be."""
        for denial in denials:
            self._noted[denial] += times

    def put_aside(self, denials: Iterable[Denial], times: int) -> None:
        """Count repeats whose window is over."""
        for denial in denials:
            self._repeated[denial] += times

    def denials(self, repeats: Mapping[tuple[Denial, ...], int]) -> Counter[Denial]:
        """Return all denials, with the repeats that are still being counted elsewhere."""
        total = self._noted + self._repeated
        for denials, times in repeats.items():
            for denial in denials:
                total[denial] += times
        return total
