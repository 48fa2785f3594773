"""What the system says of processes."""

import os
import subprocess
import sys

from gateway.control.board import Board
from gateway.control.processes import look, look_at_all


def test_this_process() -> None:
    """Memory, descriptors and their limit are those of the process."""
    before = look("dns", "0", os.getpid())
    assert before is not None
    assert 5 << 20 < before.resident < 64 << 30
    read_end, write_end = os.pipe()
    after = look("dns", "0", os.getpid())
    os.close(read_end)
    os.close(write_end)
    assert after is not None
    assert after.descriptors == before.descriptors + 2
    assert after.limit >= after.descriptors


def test_a_process_that_is_gone_is_left_out() -> None:
    """A worker may die while somebody looks."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    board = Board.of([("dns", 0), ("dns", 1)])
    board.born("dns", 0, done.pid)
    (only,) = look_at_all(board)
    assert (only.role, only.number) == ("supervisor", "")
    assert only.cpu is not None
    assert only.cpu > 0
