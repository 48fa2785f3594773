"""What the resolver counts: every query once, and every answer once."""

from typing import Any

import pytest

from gateway.dns.exchange import Failure
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Timing
from gateway.dns.tally import BOUNDS, FAILURES, Source, Tally, UpstreamTally
from tests.gateway.dns.support import WEB, Clock, a_judge, ask
from tests.peers.dns_upstream import Message, Reply, upstream, zone


def test_every_cause_has_its_count() -> None:
    """A kind of failure that is added is counted too."""
    assert tuple(failure.value for failure in Failure) == FAILURES


def test_times_are_sorted_into_bounds() -> None:
    """A bound is within itself; what is longer than all has a place as well."""
    tally = UpstreamTally()
    for seconds in (0.0, BOUNDS[0], 0.001001, 99.0):
        tally.answered(seconds)
    assert tally.within == [2, 1, *[0] * (len(BOUNDS) - 2), 1]
    assert tally.took == 99_002_001


def test_an_upstream_keeps_its_numbers() -> None:
    """Asked for again, as after a reload, it is the same."""
    tally = Tally()
    assert tally.upstream("a") is tally.upstream("a")
    assert tally.upstream("a") is not tally.upstream("b")


ROWS: list[tuple[str, Source, dict[str, Any]]] = [
    ("public.example", Source.UPSTREAM, {}),
    ("public.example", Source.CACHE, {}),
    ("public.example", Source.HOT, {}),
    ("bad.example", Source.BLOCKED, {}),
    ("BAD.example", Source.BLOCKED, {}),
    ("rebind.example", Source.BLOCKED, {}),
    ("localhost", Source.LOCAL, {}),
    ("public.example", Source.REFUSED, {"qtype": "AXFR"}),
]


async def test_where_answers_come_from() -> None:
    """One of each kind, in the order in which they come to be."""
    names = zone({"public.example": ["93.184.215.14"], "rebind.example": ["127.0.0.1"]})
    async with upstream(names) as up:
        resolver = Resolver(a_judge(up.endpoint))
        for name, source, more in ROWS:
            before = list(resolver.tally.answers)
            await resolver.answer(WEB, ask(name, **more))
            after = resolver.tally.answers
            assert [Source(at) for at in Source if after[at] != before[at]] == [source], name
            assert sum(after) == sum(before) + 1
        await resolver.answer(WEB, b"\0" * 5)
        assert resolver.tally.answers[Source.REFUSED] == 2


@pytest.mark.parametrize(("stale", "source"), [(3600, Source.STALE), (0, Source.FAILED)])
async def test_when_no_upstream_answers(stale: int, source: Source) -> None:
    """An expired answer is told from a fresh one, and from none; the upstream's failure has its cause."""
    clock, silent = Clock(), False

    def handle(query: Message, protocol: str) -> Reply:
        return None if silent else names(query, protocol)

    names = zone({"public.example": ["93.184.215.14"]}, ttl=10)
    async with upstream(handle) as up:
        judge = a_judge(up.endpoint, serve_stale=stale, prefetch=False, timing=Timing(0.1, 0.3, 0.2))
        resolver = Resolver(judge, clock)
        await resolver.answer(WEB, ask("public.example"))
        silent, clock.now = True, clock.now + 60
        await resolver.answer(WEB, ask("public.example"))
        assert resolver.tally.answers[source] == 1
        assert sum(resolver.tally.answers) == 2
        figures = resolver.tally.upstreams[str(up.endpoint)]
        assert (sum(figures.within), figures.failures["timeout"] > 0) == (1, True)
        assert figures.asked >= 1 + figures.failures["timeout"]  # the last may still be on its way
        await resolver.close()


async def test_over_the_rate() -> None:
    """Whoever is turned away is counted, as refused."""
    resolver = Resolver(a_judge(rate_limit=(1.0, 2)))
    for _ in range(10):
        await resolver.answer(WEB, ask("localhost"))
    assert sum(resolver.tally.answers) == 10
    assert resolver.tally.answers[Source.REFUSED] >= 7
