"""All metrics of a gateway at a moment: what workers tell, added up, and what the supervisor knows.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.control.board import Board, Post
from gateway.control.cells import KINDS, Cell, Labels, concerns
from gateway.control.exposition import Family
from gateway.control.slots import Reading, UpstreamFigures, together
from gateway.dns.tally import BOUNDS, FAILURES

if TYPE_CHECKING:
    from gateway.feeds.status import Metric


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the system sees it."""

    role: str
    number: str
    """Of the worker; empty for the supervisor."""
    resident: int
    """Octets of memory."""
    descriptors: int
    limit: int
    """Of descriptors."""
    cpu: float | None = None
    """Seconds, of a process that does not report them itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What metrics are made of, beside the slots and the board."""

    version: str
    python: str
    started: float
    """When the supervisor began, seconds since the epoch."""
    feeds: "tuple[Metric, ...]" = ()
    processes: tuple[Process, ...] = field(default_factory=tuple)


def survey(board: Board, readings: Sequence[Reading], facts: Facts) -> Iterator[Family]:
    """Yield every family, each name once. `readings` are in the order of the board's posts."""
    yield from _reported(board.posts, readings)
    yield from _upstreams(board.posts, readings)
    yield from _supervised(board)
    yield _lists(board.posts, readings)
    yield from _feeds(facts.feeds)
    yield from _processes(facts)


def _family(name: str) -> Family:
    kind = KINDS[name]
    return Family(name, kind.type, kind.help)


def _reported(posts: Sequence[Post], readings: Sequence[Reading]) -> Iterator[Family]:
    """Yield what workers report: by role, added up over the workers of it."""
    sums: dict[tuple[str, Labels], int] = {}
    for post, reading in zip(posts, readings, strict=True):
        alive = reading.pid == post.pid and post.pid != 0
        numbers: Mapping[Cell, int] = {**reading.counters, **(reading.gauges if alive else {})}
        for cell, value in numbers.items():
            if not concerns(post.role, cell.family):
                continue
            key = cell.family, _labelled(post, cell)
            if KINDS[cell.family].largest:
                sums[key] = max(sums.get(key, 0), value)
            else:
                sums[key] = sums.get(key, 0) + value
    for name in KINDS:
        family = _family(name)
        for (other, labels), value in sums.items():
            if other == name:
                family.add(value / KINDS[name].parts, *labels)
        if family.samples:
            yield family


def _labelled(post: Post, cell: Cell) -> Labels:
    """Return the labels of a worker's number, by role for most: that is where denials are enforced."""
    if cell.family == "process_cpu_seconds_total":
        return (("role", post.role), ("worker", str(post.index)), *cell.labels)
    if cell.family == "denials_total":
        return (("point", post.role), *cell.labels)
    if not concerns("", cell.family) or KINDS[cell.family].largest:  # of one role alone, or of all together
        return cell.labels
    return (("role", post.role), *cell.labels)


def _upstreams(posts: Sequence[Post], readings: Sequence[Reading]) -> Iterator[Family]:
    told: dict[str, list[UpstreamFigures]] = {}
    resting: dict[str, int] = {}
    for post, reading in zip(posts, readings, strict=True):
        for name, figures in reading.upstreams.items():
            told.setdefault(name, []).append(figures)
            resting[name] = resting.get(name, 0) + (figures.resting and reading.pid == post.pid)
    queries, failures = _family("dns_upstream_queries_total"), _family("dns_upstream_failures_total")
    rest, times = _family("dns_upstream_resting"), _family("dns_upstream_seconds")
    for name, several in told.items():
        figures, upstream = together(several), ("upstream", name)
        queries.add(figures.asked, upstream)
        for failure, count in zip(FAILURES, figures.failures, strict=True):
            failures.add(count, upstream, ("cause", failure))
        rest.add(resting[name], upstream)
        running = 0
        for bound, count in zip((*map(_text, BOUNDS), "+Inf"), figures.within, strict=True):
            running += count
            times.add(running, upstream, ("le", bound), suffix="_bucket")
        times.add(figures.took / KINDS["dns_upstream_seconds"].parts, upstream, suffix="_sum")
        times.add(running, upstream, suffix="_count")
    yield from (queries, failures, rest, times)


def _text(bound: float) -> str:
    return f"{bound:g}"


def _supervised(board: Board) -> Iterator[Family]:
    wanted = Family("workers", "gauge", "Workers there should be.")
    serving = Family("workers_serving", "gauge", "Workers that serve.")
    restarts = Family("worker_restarts_total", "counter", "Workers that died and were started again.")
    for role in dict.fromkeys(post.role for post in board.posts):
        posts, label = [post for post in board.posts if post.role == role], ("role", role)
        wanted.add(len(posts), label)
        serving.add(sum(post.serving for post in posts), label)
        restarts.add(sum(post.restarts for post in posts), label)
    reloads = Family("policy_reloads_total", "counter", "Policy files that were put in force, or refused.")
    reloads.add(board.reloads, ("outcome", "ok"))
    reloads.add(board.refused, ("outcome", "refused"))
    last = Family(
        "policy_last_reload_ok", "gauge", "0 when the policy file is not good and an older one is in force."
    )
    last.add(0 if board.last_refused else 1)
    yield from (wanted, serving, restarts, reloads, last)


def _lists(posts: Sequence[Post], readings: Sequence[Reading]) -> Family:
    family = Family(
        "worker_lists_timestamp_seconds", "gauge", "When the lists were compiled that a worker filters with."
    )
    for post, reading in zip(posts, readings, strict=True):
        if reading.pid == post.pid and reading.stamp != (0, 0):
            family.add(reading.stamp[1] / 1e9, ("role", post.role), ("worker", str(post.index)))
    return family


def _feeds(metrics: "Iterable[Metric]") -> Iterator[Family]:
    families: dict[str, Family] = {}
    for name, text, labels, value in metrics:
        families.setdefault(name, Family(name, "gauge", f"{text}.")).add(value, *labels.items())
    yield from families.values()


def _processes(facts: Facts) -> Iterator[Family]:
    cpu = Family("supervisor_cpu_seconds_total", "counter", "CPU time of the process that starts the workers.")
    memory = Family("process_resident_memory_bytes", "gauge", "Resident memory by process.")
    open_now = Family("process_open_fds", "gauge", "File descriptors that are open.")
    limit = Family("process_max_fds", "gauge", "File descriptors that may be.")
    for process in facts.processes:
        labels = ("role", process.role), ("worker", process.number)
        if process.cpu is not None:
            cpu.add(process.cpu)
        memory.add(process.resident, *labels)
        open_now.add(process.descriptors, *labels)
        limit.add(process.limit, *labels)
    build = Family("build_info", "gauge", "1, with the versions of the gateway and of Python.")
    build.add(1, ("version", facts.version), ("python", facts.python))
    started = Family("start_time_seconds", "gauge", "When the gateway was started.")
    started.add(facts.started)
    yield from (cpu, memory, open_now, limit, build, started)
