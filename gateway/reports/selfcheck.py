"""What is told of the battery of bypasses: its score."""

from collections.abc import Sequence
from typing import Any

from gateway.console import Rows
from gateway.selfcheck.battery import Score


def table(scores: Sequence[Score]) -> Rows:
    """Return the battery's score, a row for each number."""
    rows: list[Sequence[object]] = []
    for score in scores:
        resisted = score.tried - len(score.failures)
        first = score.failures[0] if score.failures else ""
        rows.append(
            (score.number, score.title, f"{resisted}/{score.tried}", "pass" if score.passed else "FAIL", first)
        )
    passed = sum(score.passed for score in scores)
    rows.append(("", "all", f"{passed}/{len(scores)}", "pass" if passed == len(scores) else "FAIL", ""))
    return ("number", "bypass", "resisted", "verdict", "first that got through"), rows


def as_json(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the battery's score with every failure."""
    return [
        {"number": s.number, "title": s.title, "tried": s.tried, "passed": s.passed, "failures": s.failures}
        for s in scores
    ]
