"""Health and metrics of a running gateway: what the supervisor keeps for them, and the pages that it answers with."""

import asyncio
import logging
import mmap
import os
import platform
import time
from dataclasses import replace

from gateway import __version__
from gateway.config import Config
from gateway.control.board import Board
from gateway.control.endpoint import Answer, Endpoint, Fields
from gateway.control.exposition import CONTENT_TYPE, render
from gateway.control.health import Health, Lists, assess
from gateway.control.processes import look_at_all
from gateway.control.slots import SIZE, Reading, read, words_of
from gateway.control.survey import Facts, survey
from gateway.control.token import TokenError, ensure_token, is_shown
from gateway.feeds.status import Status, load_status, metrics
from gateway.runtime import snapshot_stamp

_LOG = logging.getLogger(__name__)
_FRESH = 1.0
"""Seconds for which a verdict on health is given again: whoever asks all the time costs no more than that."""


class Station:
    """Health and metrics of one run of the gateway."""

    def __init__(self, config: Config, board: Board) -> None:
        """Make the memory that workers report in, and the token.

        Raises:
            TokenError: there is no token that could be used.
            OSError: there is no memory.
        """
        self._config = config
        self._board = board
        self._started = time.time()
        self._token = ensure_token(config.state_dir)
        self.descriptor = os.memfd_create("egress-gateway-counters", os.MFD_CLOEXEC)
        """Of the memory: workers get a copy."""
        os.ftruncate(self.descriptor, SIZE * len(board.posts))
        self._memory = memoryview(mmap.mmap(self.descriptor, 0))
        self._endpoint = Endpoint({b"/healthz": self._health, b"/metrics": self._metrics})
        self._asking = asyncio.Lock()
        self._verdict: tuple[float, Health] | None = None

    async def start(self) -> None:
        """Begin to answer.

        Raises:
            OSError: an address cannot be listened on.
        """
        for host, port in await self._endpoint.start(self._config.control_places):
            _LOG.info("health and metrics on http://%s:%s", f"[{host}]" if ":" in host else host, port)

    def use(self, config: Config) -> None:
        """Go on with another configuration; where it listens takes effect at the next start."""
        self._config = config
        try:
            self._token = ensure_token(config.state_dir)
        except TokenError as error:
            _LOG.error("the old token stays in use: %s", error)

    async def close(self) -> None:
        """Answer no more."""
        await self._endpoint.close()
        os.close(self.descriptor)

    async def _health(self, _: Fields) -> Answer:
        async with self._asking:
            if self._verdict is None or time.monotonic() - self._verdict[0] > _FRESH:
                # In a thread, as all that reads from disks: if one hangs, workers are restarted all the same.
                verdict = await asyncio.to_thread(self._assess)
                self._verdict = time.monotonic(), verdict
        found = self._verdict[1]
        return Answer(200 if found.ok else 503, found.text().encode())

    async def _metrics(self, fields: Fields) -> Answer:
        if not is_shown(self._token, [value for name, value in fields if name == b"authorization"]):
            challenge = ((b"www-authenticate", b'Bearer realm="egress gateway"'),)
            return Answer(401, b"metrics are for who has the token: state_dir/control.token\n", fields=challenge)
        async with self._asking:
            text = await asyncio.to_thread(self._text)
        return Answer(200, text, CONTENT_TYPE)

    def _readings(self) -> list[Reading]:
        return [read(words_of(self._memory, number)) for number in range(len(self._board.posts))]

    def _assess(self) -> Health:
        now = time.time()
        stamp = snapshot_stamp(self._config)
        age = 0.0 if stamp is None else now - stamp[1] / 1e9
        lists = Lists(bool(self._config.active_feeds), stamp, age)
        return assess(self._board, self._readings(), lists, self._feeds().feeds.values(), time.monotonic_ns(), now)

    def _text(self) -> bytes:
        status = self._feeds()
        return render(
            survey(
                self._board,
                self._readings(),
                Facts(
                    version=__version__,
                    python=platform.python_version(),
                    started=self._started,
                    feeds=tuple(metrics(status, time.time())) if status.refreshed else (),
                    processes=look_at_all(self._board),
                ),
            )
        )

    def _feeds(self) -> Status:
        """Return what is known of the feeds that are in use: what once was one is nobody's concern any more."""
        status = load_status(self._config.state_dir)
        active = self._config.active_feeds
        return replace(status, feeds={name: feed for name, feed in status.feeds.items() if name in active})
