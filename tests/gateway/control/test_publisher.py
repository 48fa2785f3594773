"""What a worker reports, from where it is counted to the shared memory."""

import asyncio
import logging
import mmap
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from gateway.control import publisher
from gateway.control.cells import COUNTERS, GAUGES, Cell
from gateway.control.publisher import Counted, Publisher, open_pen
from gateway.control.slots import SIZE, Pen, Report, read, words_of
from gateway.dns.resolver import Resolver
from gateway.ledger import Outcome
from gateway.proxy.tally import Tally
from gateway.request import Client
from gateway.runtime import Runtime, load_state, open_ledger
from tests.builders import a_request
from tests.gateway.dns.support import ask
from tests.peers.dns_upstream import upstream, zone

POLICY = """
version: 1
state_dir: state
dns: {{upstreams: ["{upstream}"], records: {{gw.example: [10.0.0.1]}}}}
policy:
  default: {{proxy: allow, dns: allow}}
  rules: [{{name: ours, action: deny, to: {{domains: [bad.example.com]}}}}]
"""


def cell(family: str, **labels: str) -> Cell:
    """Return the key of a number."""
    return Cell(family, tuple(labels.items()))


async def test_what_a_worker_counted(tmp_path: Path) -> None:
    """Queries, answers, denials, upstreams, requests and tunnels are told, each under a name that has a place."""
    async with upstream(zone({"www.example.com": ["93.184.215.14"]})) as up:
        (tmp_path / "gateway.yaml").write_text(POLICY.format(upstream=up.endpoint))
        state = load_state(tmp_path / "gateway.yaml", 1)
        (tmp_path / "state").mkdir()
        with open_ledger(state.config, "proxy") as ledger:
            runtime, tally = Runtime(state, ledger), Tally()
            resolver = Resolver.from_runtime(runtime)
            counted = Counted(runtime, resolver, tally)
            for name in ("www.example.com", "www.example.com", "gw.example", "bad.example.com", "bad.example.com"):
                assert await resolver.answer("10.1.0.7", ask(name))
            request = a_request(client=Client(address=ip_address("10.1.0.7")))
            ledger.record(request, runtime.decide(request), Outcome(octets_out=10, octets_in=2000))
            tally.connections, tally.left = 3, 1
            runtime.swap(state)
            report = counted.report()
            assert {**report.counters, **report.gauges}.keys() <= {*COUNTERS, *GAUGES}
            expected: dict[Cell, Any] = {
                cell("dns_answers_total", source="upstream"): 1,
                cell("dns_answers_total", source="cache"): 1,
                cell("dns_answers_total", source="local"): 1,
                cell("dns_answers_total", source="blocked"): 2,
                cell("denials_total", reason="rule", enforced="true"): 2,
                cell("proxy_connections_total"): 3,
                cell("proxy_requests_total", scheme=request.scheme): 1,
                cell("worker_reloads_total", outcome="ok"): 1,
            }
            assert {key: report.counters[key] for key in expected} == expected
            assert report.gauges[cell("proxy_open_connections")] == 2
            assert report.gauges[cell("dns_cache_entries", table="answers")] == 1
            assert report.gauges[cell("dns_cache_bytes", table="answers")] > 100
            assert report.gauges[cell("tunnelling_zones")] >= 1
            assert report.gauges[cell("ledger_failing")] == 0
            assert report.counters[cell("process_cpu_seconds_total")] > 1000
            mode = "inspect" if request.scheme == "https" else "plain"
            assert report.counters[cell("proxy_bytes_total", mode=mode, direction="in")] == 2000
            figures = report.upstreams[str(up.endpoint)]
            assert (figures.asked, sum(figures.within), sum(figures.failures), figures.resting) == (1, 1, 0, False)
            await resolver.close()


def test_the_pen_writes_where_the_supervisor_reads() -> None:
    """The memory behind the descriptor is shared, and the descriptor is not kept."""
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, 2 * SIZE)
    shared = memoryview(mmap.mmap(descriptor, 0))
    pen = open_pen(descriptor, 1)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
    pen.write(Report({COUNTERS[0]: 7}, {}), 5)
    found = read(words_of(shared, 1))
    assert (found.pid, found.counters[COUNTERS[0]]) == (os.getpid(), 7)
    assert read(words_of(shared, 0)).pid == 0


async def test_it_reports_until_the_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """At once, again and again, and a last time when the worker stops; a fault in between is told and passed over."""
    monkeypatch.setattr(publisher, "PERIOD", 0.001)
    words = words_of(memoryview(bytearray(SIZE)), 0)
    told = 0
    enough = asyncio.Event()

    def report() -> Report:
        nonlocal told
        told += 1
        if told == 2:
            raise ValueError("on purpose")
        if told == 4:
            enough.set()
        return Report({COUNTERS[0]: told}, {})

    task = asyncio.get_running_loop().create_task(Publisher(Pen(words, 1), report).run())
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(enough.wait(), 10)
    before = told
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told > before
    assert read(words).counters[COUNTERS[0]] == told
    assert "could not be reported" in caplog.text
