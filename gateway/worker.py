"""One worker process: serves one role until told to stop. Started by `gateway.service`, not by hand.

SIGTERM drains, SIGHUP reloads, a new snapshot on disk is picked up by itself. When the parent is gone, its end of
standard input closes, and the worker stops too.
"""

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from gateway.config import EXIT_CONFIG
from gateway.control.publisher import Counted, Publisher, open_pen
from gateway.control.slots import Pen
from gateway.document import ConfigError
from gateway.garbage import Usage, collecting
from gateway.runtime import Runtime, load_state, open_ledger, snapshot_stamp

_LOG = logging.getLogger(__name__)
_SNAPSHOT_CHECK_SECONDS = 2.0
_TRIM_SECONDS = 5.0
DESCRIPTORS = 65536
"""File descriptors that a worker wants. The usual limit of 1,024 is spent by a thousand idle clients, and a query to
an upstream needs one too."""
_PROXY_GARBAGE = 10_000, 3, 260
"""When a proxy looks for cycles among its objects: after so many new ones; every so many looks, among more of them.
mitmproxy makes hundreds of objects a request, of which hardly any are left. Measured: a tenth to a fifth less CPU
than with Python's defaults. Among those of three looks and not of twenty, because everything stands still meanwhile.
Under a flood of inspected connections on a busy machine, 80 to 100 ms at most, and 150 to 175 where it is after twice
as many; after half as many, more of what is still in use grows old, and cycles of it are found late."""
_FEW_DESCRIPTORS = 10_000
"""Below this, a resolver's clients and its upstream queries cannot all be as many as each may be."""


@dataclass(slots=True)
class Worker:
    """A role, the runtime it uses and the signals it obeys."""

    role: str
    index: int
    runtime: Runtime
    ready: Callable[[], None]
    secret: bytes = field(default=b"", repr=False)
    """As all workers of the service have it; empty without a supervisor that tells it."""
    pen: Pen | None = None
    """Where to report what is counted, if somebody wants to know."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reloads: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Serve until stopped."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the parent gets it too, and says when to stop
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        loop.add_reader(sys.stdin.fileno(), self._parent_gone)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch_snapshot()), group.create_task(self._give_back())]
            await (self._serve_dns() if self.role == "dns" else self._serve_proxy())
            for task in tasks:
                task.cancel()

    # Imported where they are used: a resolver process has no need of mitmproxy, which costs it tens of megabytes.

    async def _serve_dns(self) -> None:
        from gateway.dns.resolver import Resolver
        from gateway.dns.server import serve

        resolver = Resolver.from_runtime(self.runtime, self.secret)

        def usage() -> Usage:
            standing = resolver.standing()
            return Usage.now(standing.cached_octets + standing.hot_octets)

        try:
            async with collecting(usage), self._reporting(Counted(self.runtime, resolver)) as ready:
                await serve(self.runtime, stop=self.stop, ready=ready, resolver=resolver)
        finally:
            await resolver.close()

    async def _serve_proxy(self) -> None:
        from gateway.dns.resolver import Resolver
        from gateway.proxy.server import serve
        from gateway.proxy.tally import Tally

        gc.set_threshold(*_PROXY_GARBAGE)
        resolver, tally = Resolver.from_runtime(self.runtime), Tally()
        try:
            async with self._reporting(Counted(self.runtime, resolver, tally)) as ready:
                await serve(self.runtime, resolver, stop=self.stop, ready=ready, tally=tally)
        finally:
            await resolver.close()

    @contextlib.asynccontextmanager
    async def _reporting(self, counted: Counted) -> AsyncIterator[Callable[[], None]]:
        """Report what is counted until the block ends. Yields what to call in place of `ready`: when others are told
        that this worker serves, its first report is there.
        """
        if self.pen is None:
            yield self.ready
            return
        publisher = Publisher(self.pen, counted.report)

        def ready() -> None:
            publisher.publish()
            self.ready()

        reporting = asyncio.get_running_loop().create_task(publisher.run())
        try:
            yield ready
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    def _parent_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self.stop.set()

    def _begin_reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        """Load policy and lists anew, off the event loop, and put them in force. On any problem the old ones stay."""
        async with self._reloading:
            state = self.runtime.state
            try:
                fresh = await asyncio.to_thread(load_state, state.config.path, state.generation + 1)
            except (ConfigError, OSError, ValueError) as error:
                _LOG.error("reload refused, the old policy stays in force: %s", error)
                self.runtime.reloads.refused += 1
                self.runtime.ledger.change("policy-refused", str(error))
                return
            self.runtime.swap(fresh)

    async def _give_back(self) -> None:
        """Give memory that is free back to the system, now and then."""
        trim = _trimmer()
        while trim is not None:
            await asyncio.sleep(_TRIM_SECONDS)
            trim(0)

    async def _watch_snapshot(self) -> None:
        while True:
            await asyncio.sleep(_SNAPSHOT_CHECK_SECONDS)
            state = self.runtime.state
            if snapshot_stamp(state.config) != state.stamp:
                await self._reload()


def raise_descriptor_limit() -> None:
    """Take as many file descriptors as the administrator lets us have (the hard limit), up to what is wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < _FEW_DESCRIPTORS:
        _LOG.warning("only %s file descriptors are allowed (ulimit -H -n): busy workers may run out of them", limit)


def _trimmer() -> Callable[[int], int] | None:
    """Return glibc's malloc_trim; None where the C library is another.

    malloc keeps what is freed in between of what is not. Measured, after 10,000 tunnels: 38 MB without, 23 MB with
    it; a call takes 0.1 to 1.6 ms.
    """
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def settle() -> None:
    """Take what there is at the start out of the sight of the garbage collector: modules, policy, tables.

    Python stops everything to look through all objects again and again. Measured, a proxy worker: 120 ms each time,
    for objects that live as long as the process, and 3 ms without them.
    """
    gc.collect()
    gc.freeze()


def main() -> int:
    """Run a worker. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="gateway.worker", description="Started by `gateway run`.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--role", choices=("dns", "proxy"), required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--secret-fd", type=int)
    parser.add_argument("--counters-fd", type=int)
    parser.add_argument("--slot", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(
        format=f"%(asctime)s %(levelname)s {options.role}-{options.index}: %(message)s", level=logging.INFO
    )

    secret = b""
    if options.secret_fd is not None:
        with os.fdopen(options.secret_fd, "rb") as told:
            secret = told.read()

    def ready() -> None:
        settle()
        os.write(options.ready_fd, b"1")
        os.close(options.ready_fd)

    raise_descriptor_limit()
    try:
        state = load_state(options.config, 1)
    except (ConfigError, OSError, ValueError) as error:
        _LOG.error("%s", error)
        return EXIT_CONFIG
    ledger = open_ledger(state.config, options.role, options.index)
    if options.role == "proxy":  # libuv saves nothing with io_uring here: each connection costs 12 % more CPU with it
        os.environ.setdefault("UV_USE_IO_URING", "0")
    pen = None if options.counters_fd is None else open_pen(options.counters_fd, options.slot)
    worker = Worker(options.role, options.index, Runtime(state, ledger), ready, secret, pen)
    code = 0
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(worker.run())
    except* OSError as group:  # an address that cannot be listened on
        for unavailable in group.exceptions:
            _LOG.error("%s", unavailable)
        code = EXIT_CONFIG
    finally:
        ledger.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
