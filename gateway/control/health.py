"""Whether a gateway does what it is there for, and if not, why.

Pure: no I/O, no clock. A reason makes the gateway unfit: send clients to another one. A note is for people: nothing
that another gateway would do better.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.control.board import Board, Post
from gateway.control.cells import Cell
from gateway.control.slots import Reading

if TYPE_CHECKING:
    from gateway.feeds.status import FeedStatus

SILENCE = 10.0
"""Seconds without a word of a worker, which reports every second, after which it counts as stuck."""
CATCH_UP = 60.0
"""Seconds that workers have to put new lists in force: they look every other second, and load for some more."""


class Lists(NamedTuple):
    """What is known of lists on the disk."""

    needed: bool
    """The policy has lists."""
    stamp: tuple[int, int] | None = None
    """Identity of the snapshot on the disk."""
    age: float = 0.0
    """Seconds since it was put there."""


class Health(NamedTuple):
    """The verdict."""

    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the gateway is fit for use."""
        return not self.reasons

    def text(self) -> str:
        """Return it for people and scripts: the first line says all, the others why."""
        lines = ["ok" if self.ok else "unhealthy", *self.reasons, *(f"note: {note}" for note in self.notes)]
        return "".join(f"{line}\n" for line in lines)


def assess(
    board: Board, readings: Sequence[Reading], lists: Lists, feeds: "Iterable[FeedStatus]", beat: int, now: float
) -> Health:
    """Judge a gateway. `beat` is the monotonic clock in nanoseconds, `now` the time of day."""
    reasons: list[str] = ["the gateway is being stopped"] if board.draining else []
    for post, reading in zip(board.posts, readings, strict=True):
        reasons += _of_worker(post, reading, beat)
        if _is_behind(post, reading, lists):
            reasons.append(f"{post.name} still filters with older lists than are on the disk")
    if lists.needed and lists.stamp is None:
        reasons.append("there are no compiled lists: run gateway refresh")
    watched = [feed for feed in feeds if feed.max_age is not None]
    stale = [feed for feed in watched if not feed.version or feed.is_stale(now)]
    notes = []
    if lists.needed and stale and len(stale) == len(watched):
        reasons.append("every list is older than it may be: is gateway refresh run at all?")
    else:
        notes += [f"list {feed.name} is {'older than it may be' if feed.version else 'missing'}" for feed in stale]
    if board.last_refused:
        notes.append("the policy file was refused at the last reload; the one before is in force")
    return Health(tuple(reasons), tuple(notes))


def _of_worker(post: Post, reading: Reading, beat: int) -> list[str]:
    if not post.serving:
        return [f"{post.name} is not serving"]
    if reading.pid != post.pid:
        return [f"{post.name} does not report"]  # its first report comes before it serves
    silent = (beat - reading.beat) / 1e9
    if silent > SILENCE:
        return [f"{post.name} has been stuck for {silent:.0f} s"]
    if reading.gauges[Cell("ledger_failing")]:
        return [f"{post.name} cannot write the ledger"]
    return []


def _is_behind(post: Post, reading: Reading, lists: Lists) -> bool:
    if not (lists.needed and lists.stamp and post.serving and reading.pid == post.pid):
        return False
    return reading.stamp != lists.stamp and lists.age > CATCH_UP
