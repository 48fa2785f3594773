"""A connection being made, without a task around it.

A task for each new tunnel cost more CPU than all that is decided about it: it is entered into the list of all tasks,
and woken by way of the event loop's queue once more.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Attempt[R]:
    """Drives a coroutine by the futures that it waits for, and tells how it ended: once, with a result or an error.

    The coroutine must not ask for the task that it runs in, as time-outs do. `create_connection` does not. A result
    that could not be told is disposed of.
    """

    __slots__ = ("_cancelled", "_coroutine", "_dispose", "_ended", "_over", "_seen", "_waits_for")

    def __init__(
        self,
        coroutine: Coroutine[Any, None, R],
        ended: Callable[[R | None, BaseException | None], None],
        dispose: Callable[[R], None],
    ) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._dispose = dispose
        self._waits_for: asyncio.Future[Any] | None = None
        self._seen: asyncio.Future[Any] | None = None
        self._cancelled = False
        self._over = False

    def start(self) -> None:
        """Go as far as it goes at once."""
        self._step(None)

    def is_over(self) -> bool:
        """Say whether it has ended; or never will, because it did not go on when it could, a look ago."""
        waits_for = self._waits_for
        if self._over or waits_for is None or not waits_for.done():
            return self._over
        if self._seen is waits_for:
            return True
        self._seen = waits_for
        return False

    def cancel(self) -> None:
        """Let it end with a `CancelledError`, in the next turn of the event loop. If it is stuck, end it now."""
        if self._over:
            return
        self._cancelled = True
        if self._waits_for is not None and not self._waits_for.cancel() and self._seen is self._waits_for:
            self._over = True
            self._coroutine.close()

    def _step(self, _: object) -> None:
        try:
            waits_for = self._throw() if self._cancelled else self._coroutine.send(None)
            waits_for.add_done_callback(self._step)
        except StopIteration as end:
            self._over = True
            try:
                self._ended(end.value, None)
            except BaseException:
                self._dispose(end.value)
                raise
        except (Exception, asyncio.CancelledError) as error:
            self._over = True
            self._coroutine.close()
            self._ended(None, error)
        else:
            self._waits_for = waits_for

    def _throw(self) -> Any:
        return self._coroutine.throw(asyncio.CancelledError())
