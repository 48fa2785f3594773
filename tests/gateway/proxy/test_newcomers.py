"""Tests of `gateway.proxy.newcomers`: new names have a share of the time, and who asks for few goes first."""

import asyncio

import pytest

from gateway.proxy.newcomers import AT_ONCE, BURST, EARNED, Newcomers, TooManyError
from tests.gateway.proxy.fakes import Strange


def lane(most: int = 1000) -> Newcomers:
    """Return a queue on the loop that runs."""
    return Newcomers(asyncio.get_running_loop(), most)


def starts(newcomers: Newcomers, *clients: str) -> list[asyncio.Task[None]]:
    """Have clients come one after the other."""
    loop = asyncio.get_running_loop()
    return [asyncio.Task(newcomers.enter(each), loop=loop, eager_start=True) for each in clients]


async def spent(newcomers: Newcomers, client: str = "somebody") -> None:
    """Use up what may be done at once."""
    await newcomers.enter(client)
    newcomers.charge(client, BURST + 0.01, BURST)
    newcomers.entered()


async def test_a_few_names_do_not_wait() -> None:
    """While there is credit, whoever comes goes on at once."""
    newcomers = lane()
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    for _ in range(20):
        await newcomers.enter("a")
        newcomers.charge("a", BURST / 30, 0)
        newcomers.entered()
    assert not passed.is_set()
    assert newcomers.waiting == 0


async def test_so_many_at_once() -> None:
    """Whoever is entering keeps others from doing so, until what it costs is known."""
    newcomers = lane()
    tasks = starts(newcomers, *["a"] * (AT_ONCE + 2))
    assert [each.done() for each in tasks] == [True] * AT_ONCE + [False] * 2
    newcomers.entered()
    await asyncio.wait_for(tasks[AT_ONCE], 5)
    assert not tasks[-1].done()
    newcomers.entered()
    await asyncio.wait_for(tasks[-1], 5)


async def test_a_share_of_the_time() -> None:
    """Once the credit is used up, it takes a multiple of the work until the next may come."""
    newcomers, loop = lane(), asyncio.get_running_loop()
    await spent(newcomers)
    began = loop.time()
    for _ in range(5):
        await asyncio.wait_for(newcomers.enter("a"), 5)
        newcomers.charge("a", 0.02, 0.02)
        newcomers.entered()
    assert loop.time() - began >= 4 * 0.02 / 0.25


async def test_who_has_cost_least_is_next() -> None:
    """However many one has in the queue; and of clients that cost the same, who was answered before."""
    newcomers = lane()
    await spent(newcomers, "many")
    order: list[str] = []

    async def come(client: str) -> None:
        await newcomers.enter(client)
        order.append(client)
        newcomers.charge(client, 0.0, 0.01)
        newcomers.entered()

    newcomers.charge("good", 0.0, EARNED)
    newcomers.earn("good")
    newcomers.earn("good")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for client in ["many"] * 20 + ["few"] * 2 + ["good"]:
            group.create_task(come(client))
    assert order[:2] == ["good", "few"]
    assert order[2:].index("few") < 5


async def test_a_full_queue() -> None:
    """Who has most in it makes room for others, and then those with as many are refused."""
    newcomers = lane(most=3)
    await spent(newcomers)
    greedy = starts(newcomers, "greedy", "greedy", "greedy")
    (other,) = starts(newcomers, "other")
    with pytest.raises(TooManyError):
        await greedy[-1]
    with pytest.raises(TooManyError):
        await newcomers.enter("greedy")
    with pytest.raises(TooManyError):
        await newcomers.enter("other")
    assert newcomers.waiting == 3
    await asyncio.wait_for(asyncio.gather(other, *greedy[:2]), 5)


async def test_who_leaves_the_queue_is_forgotten() -> None:
    """Nobody waits behind a client that is gone, not even when it had its turn just then."""
    newcomers = lane()
    tasks = starts(newcomers, *["a"] * AT_ONCE, "gone", "gone", "next")
    first, second, waiting = tasks[AT_ONCE:]
    first.cancel()
    await asyncio.wait({first})
    assert newcomers.waiting == 2
    newcomers.entered()
    newcomers._next()  # its turn is given to it, and not taken yet
    assert newcomers.waiting == 1
    second.cancel()
    await asyncio.wait_for(waiting, 5)
    assert newcomers.waiting == 0


async def test_nobody_could_be_let_in(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with the order: nobody waits for ever, nobody is let in for it, and it goes on."""

    newcomers, strange = lane(), Strange()
    await spent(newcomers)
    loop = asyncio.get_running_loop()
    waiting = [asyncio.Task(newcomers.enter(each), loop=loop, eager_start=True) for each in ("a", strange, "b")]
    strange.wrong = True
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert all(isinstance(each, RuntimeError) for each in results)
    assert "nobody could be let in" in caplog.text
    await asyncio.wait_for(newcomers.enter("a"), 5)


async def test_what_clients_have_cost_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of clients that were here long ago, whether others wait or not."""
    newcomers, loop = lane(), asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    for number in range(100):
        newcomers.charge(f"client {number}", 0.0, 0.001)
        newcomers.earn(f"other {number}")
    now += 60
    await newcomers.enter("a")
    assert not newcomers._cost
    for number in range(100):
        now += 30
        newcomers.earn(f"another {number}")
    assert len(newcomers._cost) < 5
