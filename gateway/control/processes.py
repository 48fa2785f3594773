"""What the system says of the gateway's processes (proc_pid_statm(5) and its neighbours)."""

import os
from pathlib import Path

from gateway.control.board import Board
from gateway.control.survey import Process

_PAGE = os.sysconf("SC_PAGE_SIZE")


def look(role: str, number: str, pid: int, cpu: float | None = None) -> Process | None:
    """Return what a process takes at present; None when it is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE
        descriptors = len(os.listdir(folder / "fd"))  # noqa: PTH208 -- thousands of them, as names alone
        limits = (folder / "limits").read_text()
    except OSError:
        return None
    limit = limits.partition("Max open files")[2].split()[0]
    return Process(role, number, resident, descriptors, int(limit) if limit.isdecimal() else 0, cpu)


def look_at_all(board: Board) -> tuple[Process, ...]:
    """Return the supervisor, which is this process, and the workers that run."""
    spent = os.times()
    found = [look("supervisor", "", os.getpid(), spent.user + spent.system)]
    found += [look(post.role, str(post.index), post.pid) for post in board.posts if post.pid]
    return tuple(process for process in found if process is not None)
