"""Upload budgets of a running proxy: one table for all workers, and what each has drawn from it in advance.

A worker draws octets in small grants under a lock, so that most of what passes costs no system call and the workers
together never pass more than the cap. A grant lasts as long as the part of the window that it was charged to; what is
left of it is given back then, or when the last flow that used it ends. A worker that is killed keeps its grants: they
stay charged until they leave the window.
"""

import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.addresses import IPAddress
from gateway.decision import Budget
from gateway.proxy.budget import SIZE, Account, BudgetTable, Grant, account_of
from gateway.request import Host

_LARGEST_GRANT = 64 * 1024
_GRANTS = 64
"""A grant is at most this part of a budget: what one worker holds, the others cannot use."""


class Uploads:
    """Accounts of what clients upload. `path` is the table of all workers; without one, this process has its own."""

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file: int | None = None
        if path is None:
            self._map = mmap.mmap(-1, SIZE)
        else:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with self._locked():
                if os.fstat(self._file).st_size != SIZE:  # new, or of another version: begun anew
                    os.ftruncate(self._file, SIZE)
            self._map = mmap.mmap(self._file, SIZE)
        self._view = memoryview(self._map)
        self._table = BudgetTable(self._view)
        self._purses: dict[Account, _Purse] = {}

    def open(self, client: IPAddress, host: Host, budget: Budget) -> "Meter":
        """Return a meter for one flow. It has to be closed."""
        account = account_of(client, host, budget)
        purse = self._purses.get(account)
        if purse is None:
            purse = self._purses[account] = _Purse(self, account)
        purse.users += 1
        return Meter(purse)

    def close(self) -> None:
        """Give everything back and let go of the table."""
        for purse in tuple(self._purses.values()):
            purse.empty()
        self._table.release()
        self._view.release()
        self._map.close()
        if self._file is not None:
            os.close(self._file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the table: for microseconds, and the kernel lets go for a process that dies."""
        if self._file is None:
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class _Purse:
    """What a worker has drawn for one account, for all flows that use it."""

    __slots__ = ("_grant", "_left", "_uploads", "account", "users")

    def __init__(self, uploads: Uploads, account: Account) -> None:
        self.account = account
        self.users = 0
        self._uploads = uploads
        self._grant: Grant | None = None
        self._left = 0

    def spend(self, octets: int) -> bool:
        uploads = self._uploads
        now = uploads._clock()
        if self._grant is not None and octets <= self._left and now < self._grant.until:
            self._left -= octets
            return True
        self.empty()
        wanted = octets + min(_LARGEST_GRANT, self.account.budget.octets // _GRANTS)
        with uploads._locked():
            self._grant = uploads._table.take(self.account, wanted, octets, now)
        if self._grant is None:
            return False
        self._left = self._grant.octets - octets
        return True

    def room(self) -> int:
        uploads = self._uploads
        with uploads._locked():
            return self._left + uploads._table.room(self.account, uploads._clock())

    def empty(self) -> None:
        grant, self._grant = self._grant, None
        left, self._left = self._left, 0
        if grant is not None and left:
            uploads = self._uploads
            with uploads._locked():
                uploads._table.give_back(self.account, grant, left, uploads._clock())

    def leave(self) -> None:
        self.users -= 1
        if not self.users:
            self.empty()
            self._uploads._purses.pop(self.account, None)


class Meter:
    """Counts what one flow uploads."""

    __slots__ = ("_purse",)

    def __init__(self, purse: _Purse) -> None:
        self._purse: _Purse | None = purse

    def spend(self, octets: int) -> bool:
        """Charge octets that are about to be sent. False: they are more than is left, and none were charged."""
        return self._purse is not None and self._purse.spend(octets)

    def has(self, octets: int) -> bool:
        """Whether so much is left at present."""
        return self._purse is not None and self._purse.room() >= octets

    def close(self) -> None:
        """Give back what was drawn and not used. Once is enough."""
        purse, self._purse = self._purse, None
        if purse is not None:
            purse.leave()

    def __str__(self) -> str:
        return str(self._purse.account) if self._purse is not None else "closed"
