"""Tests of `gateway.proxy.turns`: one who needs long does not keep the others waiting."""

import asyncio

import pytest

from gateway.proxy.turns import BUDGET, LEAD, Turns
from tests.gateway.proxy.fakes import Strange


async def take_turns(turns: Turns, order: list[str], client: str, pieces: int) -> None:
    """Take turns, each of a whole budget, and note whose they were."""
    for _ in range(pieces):
        await turns.take(client)
        order.append(client)
        turns.charge(client, BUDGET)


async def test_there_is_no_waiting_while_a_turn_is_short() -> None:
    """Taking a turn costs no turn of the loop, as long as little was done."""
    turns = Turns(asyncio.get_running_loop())
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    for _ in range(100):
        turns.charge("a", BUDGET / 200)
        await turns.take("a")
    assert not passed.is_set()


async def test_after_a_long_turn_the_loop_goes_on_first() -> None:
    """What else is ready runs before the next piece of work."""
    turns = Turns(asyncio.get_running_loop())
    passed = asyncio.Event()
    turns.charge("a", BUDGET)
    asyncio.get_running_loop().call_soon(passed.set)
    await turns.take("a")
    assert passed.is_set()
    await turns.take("a")


async def test_who_has_cost_least_is_next() -> None:
    """One client with many connections has as many turns as another with a single one."""
    turns = Turns(asyncio.get_running_loop())
    order: list[str] = []
    turns.charge("one", BUDGET)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(take_turns(turns, order, "many", 2))
        group.create_task(take_turns(turns, order, "one", 5))
    assert order.index("one") < 3
    assert [at for at, client in enumerate(order) if client == "one"][-1] < 12
    assert len(order) == 105


async def test_what_was_done_while_nobody_waited() -> None:
    """A client that was busy before others came does not wait until each of them has done as much."""
    turns = Turns(asyncio.get_running_loop())
    order: list[str] = []
    for _ in range(50):
        turns.charge("busy", BUDGET)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for client in ("a", "b", "c", "busy"):
            group.create_task(take_turns(turns, order, client, 20))
    assert order.index("busy") <= 3 * (LEAD / BUDGET + 1)
    assert order[:40].count("busy") >= 7


async def test_who_comes_back_goes_first() -> None:
    """A client that asks for little now and then is not behind those that want every turn."""
    turns = Turns(asyncio.get_running_loop())
    order: list[str] = []
    later = asyncio.Event()

    async def work(client: str, pieces: int) -> None:
        for _ in range(pieces):
            await turns.take(client)
            order.append(client)
            turns.charge(client, BUDGET)
            if len(order) == 40:
                later.set()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for client in ("a", "b", "c"):
            group.create_task(work(client, 20))
        await later.wait()
        group.create_task(work("seldom", 1))
    assert order.index("seldom") <= 43


async def test_accounts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of clients that are no longer here nothing is kept."""
    loop = asyncio.get_running_loop()
    turns, now = Turns(loop), loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    for number in range(1000):
        turns.charge(f"client {number}", BUDGET)
    turns.charge("somebody", 1.0)
    now += 60
    await turns.take("another")
    assert len(turns._cost) < 10


async def test_who_is_cancelled_takes_nobody_s_turn() -> None:
    """The next in the queue has it."""
    turns = Turns(asyncio.get_running_loop())
    turns.charge("a", BUDGET)
    loop = asyncio.get_running_loop()
    first, second = (asyncio.Task(turns.take("a"), loop=loop, eager_start=True) for _ in range(2))
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert first.cancelled()


async def test_a_turn_that_nobody_could_be_given(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with the order: nobody waits for ever, and there is another turn after it."""

    turns, loop = Turns(asyncio.get_running_loop()), asyncio.get_running_loop()
    strange = Strange()
    turns.charge("a", BUDGET)
    waiting = [asyncio.Task(turns.take(each), loop=loop, eager_start=True) for each in ("a", strange, "b", strange)]
    strange.wrong = True
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert "nobody could be given the next turn" in caplog.text
    turns.charge("a", BUDGET)
    await asyncio.wait_for(turns.take("a"), 5)
