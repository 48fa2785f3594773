"""Hostile input: the costliest messages there are, and a whole process under rude clients."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import CodeType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dns.resolver import Resolver
from tests.gateway.dns.bombs import CLIENT, LARGEST, UPSTREAM
from tests.gateway.dns.mutations import check_query, check_response, mutated, recorded, seeds
from tests.gateway.dns.targets import a_ledger_judge, asked_by_client, told_by_upstream

MOST_LINES = 125_000
"""Lines of Python that one message may make the resolver run, from the packet to the reply: 2 to 3 ms. The number is
the same on every machine and under any load."""
LONGEST = 0.04
"""Seconds of CPU: eight times the goal of 5 ms, for what counts no lines, on a machine that is busy with other tests.
The time itself is printed by tests/bench/hostile.py."""


def lines_run(do: Callable[[], object]) -> int:
    """Return how many lines of Python something runs."""
    count = 0

    def line(_code: CodeType, _number: int) -> None:
        nonlocal count
        count += 1

    watch, tool = sys.monitoring, sys.monitoring.PROFILER_ID
    watch.use_tool_id(tool, "work")
    try:
        watch.register_callback(tool, watch.events.LINE, line)
        watch.set_events(tool, watch.events.LINE)
        do()
    finally:
        watch.set_events(tool, 0)
        watch.free_tool_id(tool)
    return count


def costs_little(do: Callable[[], object]) -> None:
    """Assert both bounds."""
    assert lines_run(do) <= MOST_LINES
    taken = []
    for _ in range(3):
        start = time.thread_time()
        do()
        taken.append(time.thread_time() - start)
    assert min(taken) < LONGEST


@pytest.mark.parametrize("name", UPSTREAM)
def test_no_answer_of_an_upstream_costs_much(name: str) -> None:
    """Whatever an upstream sends is refused, or read, selected, judged and rendered, with bounded work."""
    bomb = UPSTREAM[name]()
    assert len(bomb.packet) <= LARGEST
    judge = a_ledger_judge()
    costs_little(lambda: told_by_upstream(bomb, judge))


@pytest.mark.parametrize("name", CLIENT)
def test_no_query_costs_much(name: str) -> None:
    """Whatever a client sends is answered, or sent on to an upstream, with a bounded amount of work."""
    packet = CLIENT[name]()
    assert len(packet) <= LARGEST
    resolver = Resolver(a_ledger_judge())
    asked_by_client(packet, resolver)
    costs_little(lambda: asked_by_client(packet, resolver))


SEEDS = seeds()
MUTANTS = 20
"""Messages for each example of hypothesis, which chooses where chance begins."""


@given(st.integers(0, 2**32))
@settings(max_examples=max(settings().max_examples // 5, 20))
def test_mutated_queries(seed: int) -> None:
    """Whatever becomes of real queries is answered as DNS demands, and nothing fails inside the resolver."""
    random = Random(seed)
    resolver = Resolver(a_ledger_judge())
    with fails_on_errors():
        for _ in range(MUTANTS):
            check_query(resolver, mutated(random, random.choice(SEEDS.queries)), stream=random.random() < 0.5)


@given(st.integers(0, 2**32))
@settings(max_examples=max(settings().max_examples // 5, 20))
def test_mutated_responses(seed: int) -> None:
    """Whatever becomes of real responses is refused, or is the same to whoever reads what we make of it."""
    random = Random(seed)
    for _ in range(MUTANTS):
        check_response(mutated(random, random.choice(SEEDS.responses)))


class _Raises(logging.Handler):
    """Makes an error that was logged, and answered SERVFAIL, an error of the test."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it."""
        self.errors.append(self.format(record))


@contextmanager
def fails_on_errors() -> Iterator[None]:
    """Fail if anything is logged as an error."""
    handler = _Raises()
    log = logging.getLogger("gateway")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
    assert not handler.errors


@pytest.mark.parametrize("asked", recorded("dns_responses.txt"))
def test_real_answers_are_of_use(asked: str) -> None:
    """What Unbound answers is read and kept."""
    assert check_response(recorded("dns_responses.txt")[asked])
