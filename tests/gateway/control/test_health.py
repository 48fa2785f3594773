"""When a gateway is fit for use, and what is said when it is not."""

from typing import Any

import pytest

from gateway.control.board import Board
from gateway.control.cells import Cell
from gateway.control.health import CATCH_UP, SILENCE, Lists, assess
from gateway.control.slots import SIZE, Pen, Reading, Report, read, words_of
from gateway.feeds.status import FeedStatus

NOW = 1e9
BEAT = 10**15
STAMP = (5, 6)
FRESH = FeedStatus(name="fresh", version="v", last_success=NOW - 10, max_age=3600.0)
OLD = FeedStatus(name="old", version="v", last_success=NOW - 7200, max_age=3600.0)
MISSING = FeedStatus(name="missing", max_age=3600.0)
OWN = FeedStatus(name="own", version="v", last_success=NOW - 1e6)


def gateway(
    *, serving: bool = True, silent: float = 0.5, stamp: tuple[int, int] = STAMP, **gauges: int
) -> tuple[Board, list[Reading]]:
    """Return a gateway of two workers; what is said is of the second."""
    board = Board.of([("dns", 0), ("proxy", 0)])
    memory = memoryview(bytearray(SIZE * 2))
    for number, post in enumerate(board.posts):
        board.born(post.role, post.index, 100 + number)
        board.serves(post.role, post.index)
        report = Report({}, {Cell(name): value for name, value in gauges.items()} if number else {}, {}, STAMP)
        pen = Pen(words_of(memory, number), 100 + number)
        pen.write(report._replace(stamp=stamp) if number else report, BEAT - int(silent * 1e9 if number else 0))
    if not serving:
        board.died("proxy", 0)
    return board, [read(words_of(memory, number)) for number in range(2)]


def judged(*feeds: FeedStatus, lists: Lists = Lists(True, STAMP, 3600), **more: Any) -> tuple[bool, list[str]]:  # noqa: B008 -- immutable
    """Return whether a gateway is fit, and what is said about it."""
    board, readings = gateway(**more)
    found = assess(board, readings, lists, feeds, BEAT, NOW)
    first, *others = found.text().splitlines()
    assert first == ("ok" if found.ok else "unhealthy")
    return found.ok, others


def test_all_is_well() -> None:
    """Workers that serve and report, lists that are in force and new enough: nothing to say."""
    assert judged(FRESH, OWN) == (True, [])
    assert judged(lists=Lists(False)) == (True, [])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"serving": False}, "proxy worker 0 is not serving"),
        ({"silent": SILENCE + 3}, f"proxy worker 0 has been stuck for {SILENCE + 3:.0f} s"),
        ({"ledger_failing": 1}, "proxy worker 0 cannot write the ledger"),
        ({"stamp": (5, 7)}, "proxy worker 0 still filters with older lists than are on the disk"),
        ({"lists": Lists(True)}, "there are no compiled lists: run gateway refresh"),
    ],
)
def test_what_makes_it_unfit(more: dict[str, Any], why: str) -> None:
    """One line for each reason, which names the worker."""
    assert judged(FRESH, **more) == (False, [why])


def test_a_worker_that_serves_and_never_reported() -> None:
    """Its first report comes before it serves, so something is wrong with it."""
    board, readings = gateway()
    board.posts[1].pid = 999
    assert assess(board, readings, Lists(False), (), BEAT, NOW).reasons == ("proxy worker 0 does not report",)


def test_new_lists_may_take_a_moment() -> None:
    """Workers have some time to put them in force."""
    assert judged(FRESH, stamp=(5, 7), lists=Lists(True, STAMP, CATCH_UP - 1)) == (True, [])


def test_one_old_list_is_a_note_and_all_of_them_are_a_reason() -> None:
    """A publisher that is down must not take gateways out of service; a refresh that nobody runs must be seen."""
    assert judged(FRESH, OLD, MISSING) == (
        True,
        ["note: list old is older than it may be", "note: list missing is missing"],
    )
    assert judged(OLD, OWN) == (False, ["every list is older than it may be: is gateway refresh run at all?"])


def test_a_gateway_that_stops_says_so() -> None:
    """While it drains, new clients are to go elsewhere."""
    board, readings = gateway()
    board.draining = True
    assert assess(board, readings, Lists(False), (), BEAT, NOW).reasons == ("the gateway is being stopped",)


def test_a_refused_policy_is_a_note() -> None:
    """The one before is in force and protects; people have to know."""
    board, readings = gateway()
    board.reloaded(refused=True)
    found = assess(board, readings, Lists(False), (), BEAT, NOW)
    assert found.ok
    assert "refused at the last reload" in found.text()
