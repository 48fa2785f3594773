"""All metrics at a moment, judged by Prometheus' own linter where it is installed."""

import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.control.board import Board
from gateway.control.cells import COUNTERS, GAUGES, Cell
from gateway.control.exposition import render
from gateway.control.slots import SIZE, Pen, Reading, Report, UpstreamFigures, read, words_of
from gateway.control.survey import Facts, Process, survey
from gateway.dns.tally import BOUNDS, FAILURES
from gateway.feeds.status import FeedStatus, Status, metrics

UDP = Cell("dns_queries_total", (("transport", "udp"),))
RULE = Cell("denials_total", (("reason", "rule"), ("enforced", "true")))
LINES = Cell("ledger_lines_total")
CLOSURES = Cell("tunnelling_closures_total")
WAITING = Cell("dns_waiting_queries")
UPSTREAM = UpstreamFigures(10, 2_500_000, (1,) * len(FAILURES), (2,) * (len(BOUNDS) + 1), True)
STATUS = Status(
    refreshed=9.0,
    swapped=8.0,
    feeds={"threats": FeedStatus(name="threats", version="v", last_success=1.0, entries=5)},
)
FACTS = Facts(
    version="1.2",
    python="3.13",
    started=7.5,
    feeds=tuple(metrics(STATUS, 10.0)),
    processes=(Process("supervisor", "", 1000, 5, 100, 1.5), Process("dns", "0", 2000, 6, 100)),
)


def gateway(*reports: Report) -> tuple[Board, list[Reading]]:
    """Return a gateway of two resolver workers and a proxy worker, as they reported."""
    board = Board.of([("dns", 0), ("dns", 1), ("proxy", 0)])
    memory = memoryview(bytearray(SIZE * 3))
    for number, (post, report) in enumerate(zip(board.posts, reports, strict=True)):
        board.born(post.role, post.index, 100 + number)
        board.serves(post.role, post.index)
        Pen(words_of(memory, number), 100 + number).write(report, 1)
    return board, [read(words_of(memory, number)) for number in range(3)]


def one(family: str, found: dict[tuple[str, tuple[tuple[str, str], ...]], float], **labels: str) -> float:
    """Return one number."""
    return found[f"egress_gateway_{family}", tuple(sorted(labels.items()))]


def numbers(board: Board, readings: list[Reading]) -> dict[Any, float]:
    """Return all numbers of a survey, by name and labels."""
    found = {}
    for family in text_string_to_metric_families(render(survey(board, readings, FACTS)).decode()):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, "told twice"
            found[key] = sample.value
    return found


REPORTS = (
    Report(
        {UDP: 5, RULE: 2, LINES: 1, CLOSURES: 4}, {WAITING: 3}, {"udp://9.9.9.9:53": UPSTREAM}, (1, 2_000_000_000)
    ),
    Report({UDP: 7, RULE: 1, LINES: 2, CLOSURES: 3}, {WAITING: 4}, {"udp://9.9.9.9:53": UPSTREAM}),
    Report({RULE: 9, LINES: 4, Cell("proxy_connections_total"): 6}, {WAITING: 1}),
)


def test_workers_are_added_up() -> None:
    """Sums are by role; what all workers tell alike is told once."""
    found = numbers(*gateway(*REPORTS))
    assert one("dns_queries_total", found, transport="udp") == 12
    assert one("denials_total", found, point="dns", reason="rule", enforced="true") == 3
    assert one("denials_total", found, point="proxy", reason="rule", enforced="true") == 9
    assert one("ledger_lines_total", found, role="dns") == 3
    assert one("ledger_lines_total", found, role="proxy") == 4
    assert one("tunnelling_closures_total", found) == 4
    assert one("dns_waiting_queries", found, role="dns") == 7
    assert one("proxy_connections_total", found) == 6
    assert one("worker_lists_timestamp_seconds", found, role="dns", worker="0") == 2


def test_upstreams_have_a_histogram() -> None:
    """Its buckets add up, and the last is the count."""
    found = numbers(*gateway(*REPORTS))
    up = {"upstream": "udp://9.9.9.9:53"}
    assert one("dns_upstream_queries_total", found, **up) == 20
    assert one("dns_upstream_failures_total", found, **up, cause="timeout") == 2
    assert one("dns_upstream_resting", found, **up) == 2
    running = [one("dns_upstream_seconds_bucket", found, **up, le=f"{bound:g}") for bound in BOUNDS]
    assert running == [4 * number for number in range(1, len(BOUNDS) + 1)]
    assert one("dns_upstream_seconds_bucket", found, **up, le="+Inf") == 4 * (len(BOUNDS) + 1)
    assert one("dns_upstream_seconds_count", found, **up) == 4 * (len(BOUNDS) + 1)
    assert one("dns_upstream_seconds_sum", found, **up) == 5


def test_a_dead_worker_leaves_its_counters_and_not_its_gauges() -> None:
    """What it held is gone; what it counted has happened."""
    board, readings = gateway(*REPORTS)
    board.died("dns", 0)
    for pid in (0, 500):  # and with one in its place that has not reported yet
        found = numbers(board, readings)
        assert one("dns_queries_total", found, transport="udp") == 12
        assert one("dns_waiting_queries", found, role="dns") == 4
        assert one("dns_upstream_resting", found, upstream="udp://9.9.9.9:53") == 1
        board.born("dns", 0, pid or 500)
    assert one("workers", found, role="dns") == 2
    assert one("workers_serving", found, role="dns") == 1
    assert one("worker_restarts_total", numbers(board, readings), role="dns") == 2


def test_the_supervisor_tells_of_itself() -> None:
    """Versions, reloads, processes and lists."""
    board, readings = gateway(*REPORTS)
    board.reloaded(refused=True)
    found = numbers(board, readings)
    assert one("build_info", found, version="1.2", python="3.13") == 1
    assert one("policy_reloads_total", found, outcome="refused") == 1
    assert one("policy_last_reload_ok", found) == 0
    assert one("process_resident_memory_bytes", found, role="dns", worker="0") == 2000
    assert one("supervisor_cpu_seconds_total", found) == 1.5
    assert one("feed_entries", found, feed="threats") == 5
    assert one("snapshot_timestamp_seconds", found) == 8


def test_nothing_is_left_out() -> None:
    """Every number that a worker can report is told, where its role can have it."""
    full = Report(dict.fromkeys(COUNTERS, 1), dict.fromkeys(GAUGES, 1))
    found = numbers(*gateway(full, full, full))
    told = {name for (name, _) in found}
    assert {f"egress_gateway_{cell.family}" for cell in (*COUNTERS, *GAUGES)} <= told


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_prometheus_has_nothing_to_say() -> None:
    """Names, types, help and units are as its own linter wants them."""
    text = render(survey(*gateway(*REPORTS), FACTS))
    result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
