"""Address ranges that overlap, turned into runs that do not, for look-ups by one bisection.

Pure: no I/O, no clock.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from itertools import islice
from typing import NamedTuple


class Range(NamedTuple):
    """A run of addresses, both ends included, and what stands for it in a snapshot."""

    first: int
    last: int
    ref: int


class Run(NamedTuple):
    """From `start` up to the start of the next run, these refs hold; none of them in gaps."""

    start: int
    refs: tuple[int, ...]


def flatten(ranges: Iterable[Range], owner: Callable[[int], int]) -> Iterator[Run]:
    """Yield disjoint runs in order of their starts.

    Of the ranges of one owner (a list, and apart from it the exceptions of that list) that hold the same address, a
    run names only the one that starts last. A list of ten thousand nested ranges would otherwise give runs of ten
    thousand refs each.
    """
    items = sorted(set(ranges), key=lambda item: (item.first, -item.last, item.ref))
    ends = sorted({item.last + 1 for item in items})
    open_ranges: defaultdict[int, list[Range]] = defaultdict(list)
    position = 0
    before: tuple[int, ...] = ()
    for edge in sorted({item.first for item in items}.union(ends)):
        while position < len(items) and items[position].first == edge:
            open_ranges[owner(items[position].ref)].append(items[position])
            position += 1
        refs = []
        for key in list(open_ranges):
            stack = open_ranges[key]
            # A range that ended under one still open is dropped when it comes to the top.
            while stack and stack[-1].last < edge:
                stack.pop()
            if stack:
                refs.append(stack[-1].ref)
            else:
                del open_ranges[key]
        found = tuple(sorted(refs))
        if found != before:
            yield Run(edge, found)
            before = found


def broken(ranges: Iterable[Range], runs: Iterable[Run], top: int) -> list[Range]:
    """Return the ranges that are not exactly one run, in the order of their refs; `top` is one past the last address.

    The ends of all others can be read off the runs, which keeps a list of single addresses at 16 octets each.
    """
    whole: set[Range] = set()
    start = 0
    refs: tuple[int, ...] = ()
    for run in runs:
        whole.update(Range(start, run.start - 1, ref) for ref in refs)
        start, refs = run
    whole.update(Range(start, top - 1, ref) for ref in refs)
    return sorted(set(ranges) - whole, key=lambda item: (item.ref, item.first))


def range_text(first: int, last: int, version: int) -> str:
    """Write a range as people do.

    >>> range_text(0xC0000200, 0xC00002FF, 4), range_text(1, 1, 6), range_text(1, 3, 4)
    ('192.0.2.0/24', '::1', '0.0.0.1-0.0.0.3')
    """
    make = IPv4Address if version == 4 else IPv6Address
    if first == last:
        return str(make(first))
    networks = list(islice(summarize_address_range(make(first), make(last)), 2))
    return str(networks[0]) if len(networks) == 1 else f"{make(first)}-{make(last)}"
