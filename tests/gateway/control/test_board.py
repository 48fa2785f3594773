"""What the supervisor knows of its workers."""

from gateway.control.board import Board


def test_a_worker_is_born_serves_and_dies() -> None:
    """Whoever takes the place of another is a restart, and does not serve before it says so."""
    board = Board.of([("dns", 0), ("proxy", 0)])
    first, second = board.posts
    board.born("dns", 0, 11)
    assert (first.pid, first.serving, first.restarts) == (11, False, 0)
    board.serves("dns", 0)
    assert first.serving
    board.died("dns", 0)
    assert (first.pid, first.serving) == (0, False)
    board.born("dns", 0, 12)
    assert (first.pid, first.serving, first.restarts) == (12, False, 1)
    assert (second.pid, second.restarts) == (0, 0)
    assert [board.number("dns", 0), board.number("proxy", 0)] == [0, 1]


def test_reloads_are_counted_by_what_became_of_them() -> None:
    """A refused file is remembered until a good one is in force."""
    board = Board()
    for refused, last in ((True, True), (True, True), (False, False)):
        board.reloaded(refused=refused)
        assert board.last_refused == last
    assert (board.reloads, board.refused) == (1, 2)
