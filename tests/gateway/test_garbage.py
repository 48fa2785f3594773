"""When Python looks for cycles in a resolver, and at what. Counted in objects, not in time."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import garbage
from gateway.garbage import Collector, Usage, collecting

MANY = 60_000
"""Answers."""
MB = 1 << 20


@dataclass(slots=True)
class Kept:
    """Stands for an answer."""

    number: int


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


@dataclass(slots=True)
class Process:
    """What a process takes, as the test will have it."""

    usage: Usage = field(default_factory=lambda: Usage(0.0, 0.0, 100 * MB))

    def measure(self) -> Usage:
        """Return it."""
        return self.usage

    def goes_on(self, seconds: float, cpu: float, memory: int = 0) -> None:
        """Let time pass."""
        usage = self.usage
        self.usage = Usage(usage.at + seconds, usage.cpu + cpu, usage.memory + memory)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave the collector of this process as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@contextlib.contextmanager
def collector(process: Process) -> Iterator[Collector]:
    """Have a collector until the block ends."""
    made = Collector(process.measure)
    made.begin()
    try:
        yield made
    finally:
        made.end()


@contextlib.contextmanager
def looked_at() -> Iterator[list[int]]:
    """Note how many objects there are in the generations that are looked at, each time that Python looks."""
    seen: list[int] = []

    def note(phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            seen.append(sum(len(gc.get_objects(number)) for number in range(info["generation"] + 1)))

    gc.callbacks.append(note)
    try:
        yield seen
    finally:
        gc.callbacks.remove(note)


def a_cycle() -> "weakref.ref[Node]":
    """Make garbage that refers to itself."""
    return weakref.ref(Node())


def test_what_is_kept_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many objects are kept, Python looks at no more of them at a time, and never at one again."""
    monkeypatch.setattr(garbage, "_MANY_NEW", (1_000, 10, 10))
    with collector(Process()), looked_at() as seen:
        kept = [Kept(number) for number in range(MANY)]
    assert len(kept) == MANY
    assert MANY - 2_000 <= sum(seen) <= MANY * 1.2
    assert max(seen) <= 2_000


def test_what_is_replaced_does_not_pile_up() -> None:
    """Where new objects take the place of old ones, which Python counts as nothing new, it looks all the same."""

    async def replace(kept: list[Kept]) -> None:
        rounds = 20
        for turn in range(rounds):
            for number in range(turn, MANY, rounds):
                kept[number] = Kept(-number)
            await asyncio.sleep(garbage._PERIOD)

    async def main() -> list[int]:
        kept = [Kept(number) for number in range(MANY)]
        async with collecting(Process().measure):
            with looked_at() as seen:
                await replace(kept)
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(garbage, "_PERIOD", 0.01)
        seen = asyncio.run(main())
    assert seen
    assert max(seen) <= MANY // 2


def test_new_cycles_are_found_soon() -> None:
    """What was made and dropped since the last look is freed by the next."""
    with collector(Process()):
        gone = a_cycle()
        gc.collect(0)
        assert gone() is None


@contextlib.contextmanager
def looks_at_everything(process: Process, cpu: float) -> Iterator[list[int]]:
    """Note the looks at everything, each of which takes so long."""
    looks: list[int] = []

    def note(phase: str, info: Mapping[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            process.goes_on(0, cpu)
            looks.append(1)

    gc.callbacks.append(note)
    try:
        yield looks
    finally:
        gc.callbacks.remove(note)


def test_old_cycles_are_found_when_idle() -> None:
    """What was put out of sight while it was in use is freed once hardly anybody asks."""
    process = Process()
    with collector(process) as looking:
        node = Node()
        gone = weakref.ref(node)
        gc.collect(0)
        del node
        gc.collect(0)
        process.goes_on(5, cpu=2.5, memory=20 * MB)
        looking.visit()
        assert gone() is not None, "busy, and hardly larger than before"
        process.goes_on(5, cpu=0.01)
        looking.visit()
        assert gone() is None


def test_an_idle_process_looks_for_a_part_of_its_work() -> None:
    """A look at everything keeps those waiting who ask, so it is rare where it promises nothing."""
    process = Process()
    with looks_at_everything(process, cpu=0.1) as looks, collector(process) as looking:
        looks.clear()
        process.goes_on(60, cpu=49)
        looking.visit()
        process.goes_on(5, cpu=0.01)
        looking.visit()
        assert not looks, "worked for 49.01 s"
        process.goes_on(5, cpu=1)
        looking.visit()
        process.goes_on(5, cpu=0.01)
        looking.visit()
        assert len(looks) == 1
        process.goes_on(5, cpu=0.01)
        looking.visit()
        assert len(looks) == 1, "nothing was done since"


@pytest.mark.parametrize(
    ("cpu", "before", "growth", "expected"),
    [
        (0.01, 100, 15, 0),
        (0.01, 100, 16, 1),
        (5, 100, 16, 0),
        (5, 100, 63, 0),
        (5, 100, 64, 1),
        (5, 400, 199, 0),
        (5, 400, 200, 1),
    ],
)
def test_a_process_looks_when_it_has_grown(cpu: float, before: int, growth: int, expected: int) -> None:
    """Garbage is at most 16 MB when idle, and 64 MB or half of what a process takes besides when busy."""
    process = Process(Usage(0, 0, before * MB))
    with looks_at_everything(process, cpu=0.01) as looks, collector(process) as looking:
        looks.clear()
        process.goes_on(5, cpu, growth * MB)
        looking.visit()
        process.goes_on(5, cpu)
        looking.visit()
        assert len(looks) == expected


def test_what_was_in_use_at_a_look_is_looked_at_again_when_idle() -> None:
    """A flood makes a process look in the midst of it; what it leaves behind is found after it."""
    process = Process()
    with looks_at_everything(process, cpu=0.01) as looks, collector(process) as looking:
        looks.clear()
        process.goes_on(5, cpu=5, memory=80 * MB)
        looking.visit()
        process.goes_on(5, cpu=5)
        looking.visit()
        assert len(looks) == 1
        process.goes_on(5, cpu=0.01)
        looking.visit()
        assert len(looks) == 2


def test_it_ends_with_its_block() -> None:
    """Afterwards what is new stays in the sight of Python."""

    async def main() -> None:
        async with collecting(Process().measure):
            pass

    callbacks = list(gc.callbacks)
    asyncio.run(main())
    assert gc.callbacks == callbacks
    kept = Kept(1)
    gc.collect(0)
    assert any(each is kept for each in gc.get_objects())


def test_usage_is_of_this_process() -> None:
    """Memory is its own, without what is known to be kept; both clocks go on."""
    before = Usage.now(0)
    block = bytearray(range(256)) * (64 * MB // 256)  # too large for the allocator to have it at hand
    after = Usage.now(0)
    assert 60 * MB < after.memory - before.memory < 128 * MB
    assert Usage.now(len(block)).memory < after.memory - 7 * MB
    assert after.at > before.at
    assert after.cpu > before.cpu


def test_without_proc_memory_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A look at everything is then had when idle only."""
    monkeypatch.setattr(garbage, "_STATM", tmp_path / "statm")
    assert Usage.now(5).memory == 0
