"""Which of several media types a client wants most, by its Accept field (RFC 9110 section 12.5.1).

Pure: no I/O, no clock.
"""

from collections.abc import Sequence

_MOST = 50
"""Members of the field that are read: a client that needs more wants none of them much."""


def preferred(accept: str, offered: Sequence[str]) -> str:
    """Return the offered type with the greatest weight. The first one if none is wanted, or all are equally.

    Between equals, a type that is named comes before a range, and an earlier one before a later one.

    >>> preferred("text/html,*/*;q=0.8", ["text/plain", "text/html"]), preferred("*/*", ["text/plain", "text/html"])
    ('text/html', 'text/plain')
    """
    ranges = [_range(member) for member in accept.lower().split(",")[:_MOST]]
    best, chosen = (0.0, 0, 0), offered[0]
    for kind in offered:
        # Of several ranges that match a type, the most specific one has the word.
        matching = [
            (specific, weight, -at)
            for at, (name, weight) in enumerate(ranges)
            if (specific := _specific(name, kind)) is not None
        ]
        if not matching:
            continue
        specific, weight, at = max(matching)
        rank = (weight, specific, at if specific else 0)
        if weight and rank > best:
            best, chosen = rank, kind
    return chosen


def _range(member: str) -> tuple[str, float]:
    """Return a member's media range and its weight; a weight that cannot be read is none."""
    name, *parameters = (part.strip() for part in member.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value.strip())
            except ValueError:
                return name, 0.0
            return name, weight if 0 <= weight <= 1 else 0.0
    return name, 1.0


def _specific(name: str, kind: str) -> int | None:
    """Return how closely a range names a type; None when it does not."""
    if name == kind:
        return 2
    if name == f"{kind.partition('/')[0]}/*":
        return 1
    return 0 if name == "*/*" else None
