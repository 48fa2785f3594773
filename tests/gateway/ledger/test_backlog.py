"""The bounded queue."""

import threading
from collections.abc import Callable

from gateway.ledger.backlog import Backlog
from gateway.ledger.losses import Loss, Span

LOSS = Loss(verdict="deny", enforced=True, reason="listed", rule="", client="", span=Span.one(1.0))


def test_lines_come_out_in_order_and_bounded() -> None:
    """What finds room comes out in order; what does not is refused."""
    backlog = Backlog(2)
    assert [backlog.put({"n": number}) for number in range(3)] == [True, True, False]
    assert backlog.full
    assert backlog.take(10) == [{"n": 0}, {"n": 1}]
    assert not backlog


def test_folded_lines_are_counted() -> None:
    """Counts are kept until they are taken."""
    backlog = Backlog()
    backlog.fold(LOSS)
    backlog.fold(LOSS)
    assert backlog
    assert backlog.folded == 2
    assert [loss.span.count for loss in backlog.take_losses()] == [2]
    assert not backlog


def test_a_closed_backlog_takes_nothing() -> None:
    """It closes only when empty, unless told to; then it says what was left."""
    backlog = Backlog()
    backlog.put({})
    assert not backlog.close_if_empty()
    backlog.fold(LOSS)
    assert backlog.close() == 2
    assert not backlog.put({})
    assert Backlog().close_if_empty()


def test_a_line_wakes_the_one_who_waits() -> None:
    """Waiting ends as soon as there is something to write, long before the time is over."""
    acts: tuple[Callable[[Backlog], object], ...] = (
        lambda backlog: backlog.put({}),
        lambda backlog: backlog.fold(LOSS),
        lambda backlog: backlog.wake(),
    )
    for act in acts:
        backlog = Backlog()
        thread = threading.Thread(target=backlog.wait, args=(60.0,))
        thread.start()
        act(backlog)
        thread.join(20.0)
        assert not thread.is_alive()
