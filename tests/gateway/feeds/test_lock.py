"""The lock of a refresh."""

from pathlib import Path

import pytest

from gateway.feeds.lock import Busy, locked


async def test_one_at_a_time(tmp_path: Path) -> None:
    """Who finds the lock held waits, and then says who holds it."""
    path = tmp_path / "lock"
    async with locked(path, 0.1):
        with pytest.raises(Busy, match=rf"{path}: another refresh \(process \d+\) has not ended within 0.2 seconds"):
            async with locked(path, 0.2):
                pass
    async with locked(path, 0.1):
        pass


async def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    """A failed refresh does not keep the lock."""
    with pytest.raises(RuntimeError):
        async with locked(tmp_path / "lock", 0.1):
            raise RuntimeError
    async with locked(tmp_path / "lock", 0.1):
        pass
