"""Connections taken off a listening socket as fast as they come: accepted, looked at once, and handed on.

What waits in the kernel waits in the order of its coming, so a flood there is before everybody who comes later; and
when the kernel's queue is full, whoever comes tries again a second later. Accepting costs little: what costs is what
comes after, and that is the business of `gateway.proxy.entrance`.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

_LOG = logging.getLogger(__name__)

_GONE = (errno.ECONNABORTED, errno.ECONNRESET, errno.EPROTO)  # accept(2): the client, not this process
_AT_ONCE = 512  # accepted in one turn of the event loop: some ten milliseconds, should all be turned away
_PAUSE = 0.1  # seconds until the next try, when the process has run out of descriptors
_STEADY = 2.0  # seconds without a failure, after which there are descriptors again: one that is free is soon taken


class Arrivals:
    """Accepts connections of one listening socket. `came` is given each, with the address of its client."""

    def __init__(self, sock: socket.socket, came: Callable[[socket.socket, str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._came = came
        self._short = False
        """Whether accepting fails, as was said."""
        self._steady: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._reads = False

    def start(self) -> None:
        """Begin."""
        self._pause = None
        self._reads = True
        self._loop.add_reader(self._sock, self._accept)

    def stop(self) -> None:
        """Accept nobody any more; the socket stays open. Does no harm a second time."""
        self._rest()
        for timer in (self._steady, self._pause):
            if timer is not None:
                timer.cancel()

    def _rest(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._sock)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, name = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._fails(error)
                return
            if self._short and self._steady is None:
                self._steady = self._loop.call_later(_STEADY, self._recovers)
            try:
                if is_gone(accepted):
                    accepted.close()
                else:
                    self._came(accepted, name[0])
            except (Exception, asyncio.CancelledError):  # nothing here waits, so nobody has cancelled it
                _LOG.exception("a connection cannot be served")
                accepted.close()

    def _fails(self, error: OSError) -> None:
        """Say that nobody can be accepted: once, and not at every try."""
        if self._steady is not None:
            self._steady.cancel()
            self._steady = None
        if not self._short:
            self._short = True
            _LOG.warning("no connection can be accepted: %s", error.strerror or error)
        self._rest()  # it would be called again at once
        self._pause = self._loop.call_later(_PAUSE, self.start)

    def _recovers(self) -> None:
        self._short, self._steady = False, None
        _LOG.warning("connections are accepted again")


def is_gone(accepted: socket.socket) -> bool:
    """Say whether a client has left without a word: what is made for a connection would be made for nobody."""
    try:
        return not accepted.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
