"""A worker's end: what it counted, told to the supervisor once a second through the memory that they share.

Who counts never waits for this and pays nothing for it: numbers are read where they stand.
"""

import asyncio
import logging
import mmap
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.control.cells import Cell
from gateway.control.slots import Pen, Report, UpstreamFigures, words_of
from gateway.dns.tally import Source, Transport

if TYPE_CHECKING:
    from gateway.dns.resolver import Resolver, Standing
    from gateway.proxy.tally import Tally
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)
PERIOD = 1.0
"""Seconds between two reports: what a worker that is killed has counted since the last one is lost."""


def open_pen(descriptor: int, number: int) -> Pen:
    """Return the pen for a slot of the memory behind a descriptor, which is closed."""
    with os.fdopen(descriptor, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    return Pen(words_of(memoryview(memory), number), os.getpid())


class Publisher:
    """Reports for one worker."""

    def __init__(self, pen: Pen, report: Callable[[], Report]) -> None:
        self._pen = pen
        self._report = report

    def publish(self) -> None:
        """Report now. Never raises: a fault here must not end what is counted."""
        try:
            self._pen.write(self._report(), time.monotonic_ns())
        except Exception:
            _LOG.exception("what was counted could not be reported")

    async def run(self) -> None:
        """Report until cancelled, and once more then."""
        try:
            while True:
                self.publish()
                await asyncio.sleep(PERIOD)
        finally:
            self.publish()


class Counted:
    """Everything that one worker counts, wherever it is counted."""

    def __init__(self, runtime: "Runtime", resolver: "Resolver", proxy: "Tally | None" = None) -> None:
        self._runtime = runtime
        self._resolver = resolver
        self._proxy = proxy

    def report(self) -> Report:
        """Return the numbers as they are now."""
        counters: dict[Cell, int] = {}
        gauges: dict[Cell, int] = {}
        standing = self._resolver.standing()
        self._put_resolver(standing, counters, gauges)
        self._put_ledger(counters, gauges)
        if self._proxy is not None:
            self._put_proxy(self._proxy, counters, gauges)
        reloads = self._runtime.reloads
        counters[_cell("worker_reloads_total", outcome="ok")] = reloads.done
        counters[_cell("worker_reloads_total", outcome="refused")] = reloads.refused
        counters[_cell("process_cpu_seconds_total")] = time.process_time_ns() // 1000
        upstreams = {
            name: UpstreamFigures.of(tally, name in standing.resting)
            for name, tally in self._resolver.tally.upstreams.items()
        }
        return Report(counters, gauges, upstreams, self._runtime.state.stamp or (0, 0))

    def _put_resolver(self, standing: "Standing", counters: dict[Cell, int], gauges: dict[Cell, int]) -> None:
        tally = self._resolver.tally
        for transport in Transport:
            counters[_cell("dns_queries_total", transport=transport.name.lower())] = tally.queries[transport]
        for source in Source:
            counters[_cell("dns_answers_total", source=source.name.lower())] = tally.answers[source]
        counters[_cell("tunnelling_closures_total")] = standing.closures
        gauges[_cell("dns_waiting_queries")] = standing.waiting
        gauges[_cell("dns_cache_entries", table="answers")] = standing.cached
        gauges[_cell("dns_cache_entries", table="hot")] = standing.hot
        gauges[_cell("dns_cache_bytes", table="answers")] = standing.cached_octets
        gauges[_cell("dns_cache_bytes", table="hot")] = standing.hot_octets
        gauges[_cell("tunnelling_clients")] = standing.clients
        gauges[_cell("tunnelling_zones")] = standing.zones

    def _put_ledger(self, counters: dict[Cell, int], gauges: dict[Cell, int]) -> None:
        ledger = self._runtime.ledger
        for (reason, enforced), count in ledger.denials().items():
            counters[_cell("denials_total", reason=reason, enforced=str(enforced).lower())] = count
        status = ledger.status()
        counters[_cell("ledger_lines_total")] = status.written
        counters[_cell("ledger_folded_total")] = status.folded
        gauges[_cell("ledger_waiting_lines")] = status.queued
        gauges[_cell("ledger_failing")] = bool(status.trouble)

    def _put_proxy(self, tally: "Tally", counters: dict[Cell, int], gauges: dict[Cell, int]) -> None:
        counters[_cell("proxy_connections_total")] = tally.connections
        gauges[_cell("proxy_open_connections")] = tally.connections - tally.left
        counters[_cell("proxy_tunnels_total", mode="splice")] = tally.spliced
        counters[_cell("proxy_tunnels_total", mode="inspect")] = tally.inspected
        gauges[_cell("proxy_open_tunnels", mode="splice")] = tally.splicing
        gauges[_cell("proxy_open_tunnels", mode="inspect")] = tally.inspecting
        moved = {"splice": tally.moved()}
        for scheme, (requests, out, back) in self._runtime.ledger.tally.passed.items():
            counters[_cell("proxy_requests_total", scheme=scheme)] = requests
            moved["inspect" if scheme == "https" else "plain"] = out, back
        for mode, (out, back) in moved.items():
            counters[_cell("proxy_bytes_total", mode=mode, direction="out")] = out
            counters[_cell("proxy_bytes_total", mode=mode, direction="in")] = back


def _cell(family: str, **labels: str) -> Cell:
    return Cell(family, tuple(labels.items()))
