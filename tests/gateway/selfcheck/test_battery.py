"""Tests of `gateway.selfcheck.battery`."""

from gateway.selfcheck.battery import Score, run
from gateway.selfcheck.client import Target
from gateway.selfcheck.world import a_world


def test_score() -> None:
    """A number is passed when each of its attempts was resisted."""
    score = Score(21)
    assert score.passed
    assert score.title == "something else than TLS in a tunnel"
    score.failures.append("ssh: 21 octets reached the origin")
    assert not score.passed


async def test_nobody_there() -> None:
    """A proxy that does not answer fails everything: what was not tried was not resisted."""
    async with a_world(dns=("127.0.0.1", 0)) as world:
        scores = await run(Target("127.0.0.1", 1, world.good.port, world.evil.port), world, patience=0.05)
    assert not any(score.passed for score in scores)
    assert all("does not answer" in score.failures[0] for score in scores if score.number not in (16, 32))
