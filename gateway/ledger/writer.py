"""The thread that writes the ledger: in batches, through every trouble that a disk can have.

Full, stalled, read-only or removed: it waits, tries again and says so once a minute. What it has taken it keeps until
it is written, and not a byte is written twice.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from gateway.ledger.backlog import Backlog
from gateway.ledger.event import Event, encode
from gateway.ledger.file import LedgerFile
from gateway.ledger.losses import Loss, Span
from gateway.ledger.pattern import BlockLine, Line
from gateway.ledger.text import visible

_LOG = logging.getLogger(__name__)

_BATCH = 512  # lines in a write
_SLICE = 256  # of work (about 0.5 ms) that is done before the thread that answers clients gets its turn:
_FILLED_IN, _ENCODED = 1, 8  # a line from a pattern, and one that is encoded
_YIELD = 0.0001  # seconds; an actual pause, because a mere release of the interpreter lock is won back at once
_BACK_OFF = (0.1, 5.0)  # seconds before the second try, and at most
_IDLE = 1.0  # seconds between looks at what expires
_REMIND = 60.0  # seconds between warnings about the same trouble


class Writer:
    """Writes a backlog into a file until it is closed.

    Args:
        prepare: called before each round, and told whether everything is due: puts what is due into the backlog as
            long as there is room, and says whether there is more.
        describe: makes the line for a count of what there was no room for.
    """

    def __init__(
        self,
        file: LedgerFile,
        backlog: Backlog,
        *,
        clock: Callable[[], float],
        prepare: Callable[[bool], bool],
        describe: Callable[[Loss], Event],
    ) -> None:
        self.written = 0
        """Lines written."""
        self.trouble = ""
        """Why writing fails at present; empty when it does not."""
        self._file = file
        self._backlog = backlog
        self._clock = clock
        self._prepare = prepare
        self._describe = describe
        self._pending = b""
        self._warned: float | None = None
        self._delay = _BACK_OFF[0]
        self._closing = threading.Event()
        self._deadline = 0.0
        self._left = 0
        self._rounds = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._thread = threading.Thread(target=self._run, name=f"ledger {file.path.stem}", daemon=True)
        self._thread.start()

    def flush(self, timeout: float) -> bool:
        """Wait until everything put in so far is written. Returns whether it is, within the time."""
        with self._rounds:
            self._asked += 1
            ticket = self._asked
            self._backlog.wake()
            return self._rounds.wait_for(lambda: self._answered >= ticket, timeout)

    def close(self, timeout: float) -> bool:
        """Write everything and stop. Returns whether all of it was written, within the time."""
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._backlog.wake()
        self._thread.join(timeout + 1.0)  # a disk that stalls inside a write cannot be hurried
        return not self._thread.is_alive() and not self._left

    def _run(self) -> None:
        while not self._attempt():
            pass
        self._file.close()
        self._left = self._backlog.close() + self._pending.count(b"\n")
        if self._left:
            _LOG.error("ledger: stopped with %s records that could not be written to %s", self._left, self._file.path)

    def _attempt(self) -> bool:
        """Do one round, and wait for the next; true when it was the last."""
        closing = self._closing.is_set()
        try:
            more = self._round(everything=closing)
            self._recovered()
        except OSError as error:
            self._complain(error)
            if closing:
                time.sleep(min(self._delay, 0.1))
            else:  # not for the backlog: with the disk full, that would be a busy loop
                self._closing.wait(self._delay)
            self._delay = min(self._delay * 2, _BACK_OFF[1])
            return closing and time.monotonic() >= self._deadline
        except Exception:
            _LOG.exception("ledger: the writer of %s stumbled and goes on", self._file.path)
            self._closing.wait(_IDLE)
            more = False
        if closing:
            return (not more and self._backlog.close_if_empty()) or time.monotonic() >= self._deadline
        if not more:
            self._backlog.wait(_IDLE)
        return False

    def _round(self, *, everything: bool) -> bool:
        asked = self._asked
        more = self._prepare(everything)
        self._file.maintain(self._clock())
        self._write()
        left = len(self._backlog)  # not what comes meanwhile: a round has an end however much is recorded
        while left > 0:
            batch = self._backlog.take(min(left, _BATCH))
            left -= len(batch)
            self._encode(batch)
            self._write()
        self._encode([self._describe(loss) for loss in self._backlog.take_losses()])
        self._write()
        with self._rounds:
            self._answered = asked
            self._rounds.notify_all()
        return more

    def _encode(self, batch: Sequence[Line]) -> None:
        lines: list[bytes] = []
        left = _SLICE
        for line in batch:
            if isinstance(line, bytes):
                lines.append(line)
            elif isinstance(line, BlockLine):
                lines.append(self._filled_in(line))
                left -= _FILLED_IN
            else:
                lines.append(_encoded(line))
                left -= _ENCODED
            if left <= 0:
                time.sleep(_YIELD)
                left = _SLICE
        self._pending = b"".join(lines)

    def _filled_in(self, line: BlockLine) -> bytes:
        """Return a line; nothing where it cannot be made, which is then counted and does not cost the batch."""
        try:
            return line.encode()
        except Exception as error:
            self._backlog.fold(line.unreadable(Span.one(line.now)))
            _LOG.error("ledger: decision %s could not be recorded in full: %r", line.id, error)
            return b""

    def _write(self) -> None:
        while self._pending:
            taken = self._file.append(self._pending, self._clock())
            self.written += self._pending.count(b"\n", 0, taken)
            self._pending = self._pending[taken:]

    def _recovered(self) -> None:
        self._delay = _BACK_OFF[0]
        if self.trouble:
            _LOG.warning("ledger: writing to %s works again", self._file.path)
            self.trouble, self._warned = "", None

    def _complain(self, error: OSError) -> None:
        self.trouble = error.strerror or str(error)
        now = time.monotonic()
        if self._warned is None or now - self._warned >= _REMIND:
            self._warned = now
            _LOG.warning(
                "ledger: cannot write %s: %s. Traffic goes on; denials are counted and will be recorded as gaps. "
                "Free space on that file system or repair its permissions; nothing needs restarting",
                self._file.path,
                self.trouble,
            )


def _encoded(line: Event) -> bytes:
    try:
        return encode(line)
    except (TypeError, ValueError):  # a value of a type that no field has; its text is better than nothing
        return encode({key: visible(str(value)) for key, value in line.items()})
