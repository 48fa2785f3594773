"""Tests of `gateway.proxy.attempt`."""

import asyncio

import pytest

from gateway.proxy.attempt import Attempt

type Ended = list[tuple[int | None, BaseException | None]]


async def _adds(*futures: asyncio.Future[int]) -> int:
    return sum([await each for each in futures])


def an_attempt(*futures: asyncio.Future[int]) -> tuple[Attempt[int], Ended]:
    """Return an attempt that waits for one future after the other, and what it tells."""
    ended: Ended = []
    attempt = Attempt(_adds(*futures), lambda *how: ended.append(how), lambda _: None)
    attempt.start()
    return attempt, ended


def some_futures(count: int) -> list[asyncio.Future[int]]:
    """Return futures of the running loop."""
    return [asyncio.get_running_loop().create_future() for _ in range(count)]


async def turns() -> None:
    """Let the event loop do what is due."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_nothing_to_wait_for() -> None:
    """Where nobody has to be waited for, it ends at once."""
    attempt, ended = an_attempt()
    assert ended == [(0, None)]
    assert attempt.is_over()


async def test_result() -> None:
    """It goes on as often as what it waits for is there, and tells the result once."""
    futures = some_futures(2)
    attempt, ended = an_attempt(*futures)
    for future in futures:
        assert not ended
        assert not attempt.is_over()
        future.set_result(3)
        await turns()
    assert ended == [(6, None)]
    attempt.cancel()
    await turns()
    assert len(ended) == 1


async def test_error() -> None:
    """What the coroutine raises is told."""
    (future,) = some_futures(1)
    attempt, ended = an_attempt(future)
    refused = ConnectionRefusedError()
    future.set_exception(refused)
    await turns()
    assert ended == [(None, refused)]
    assert attempt.is_over()


async def test_cancelled() -> None:
    """Who is cancelled ends with that error, in the next turn."""
    (future,) = some_futures(1)
    attempt, ended = an_attempt(future)
    attempt.cancel()
    assert not ended
    await turns()
    assert isinstance(ended[0][1], asyncio.CancelledError)
    assert future.cancelled()


async def test_cancelled_too_late() -> None:
    """Who is cancelled when the result is there, but was not taken yet, ends with the error too."""
    (future,) = some_futures(1)
    attempt, ended = an_attempt(future)
    future.set_result(1)
    attempt.cancel()
    await turns()
    assert isinstance(ended[0][1], asyncio.CancelledError)


async def test_stuck() -> None:
    """One that does not go on though it could has ended at the second look, and can be closed."""
    (future,) = some_futures(1)
    attempt, ended = an_attempt(future)
    future.remove_done_callback(attempt._step)
    future.set_result(1)
    await turns()
    assert [attempt.is_over(), attempt.is_over()] == [False, True]
    attempt.cancel()
    assert attempt.is_over()
    assert not ended


async def test_nobody_to_tell() -> None:
    """A result that nobody takes is disposed of, and the error is not kept back."""
    disposed: list[int] = []

    def broken(*_: object) -> None:
        raise RuntimeError("injected")

    attempt = Attempt(_adds(), broken, disposed.append)
    with pytest.raises(RuntimeError, match="injected"):
        attempt.start()
    assert disposed == [0]
    assert attempt.is_over()
