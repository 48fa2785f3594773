"""Tests of `gateway.proxy.authentication`."""

import asyncio
import base64
import gc
from collections.abc import AsyncIterator

import bcrypt
import pytest

from gateway.decision import Reason
from gateway.htpasswd import Accounts, matches
from gateway.proxy.authentication import Authenticator, Memory, Tries
from gateway.request import Client, Flaw
from tests.builders import a_client

HASHES = {"batch": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()}


def basic(user: str, password: str) -> list[str]:
    """Return the values of Proxy-Authorization."""
    return ["Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()]


class Desk:
    """An authenticator whose accounts and clock a test sets."""

    def __init__(self) -> None:
        self.accounts: Accounts | None = Accounts(HASHES)
        self.now = 1000.0
        self.checks = 0
        self.authenticator = Authenticator(lambda: self.accounts, lambda: self.now)

    async def ask(self, user: str, password: str, client: Client | None = None) -> str | Reason | None:
        """Return the proven user, or the reason why there is none."""
        found = await self.authenticator.prove(client or a_client(), basic(user, password))
        return found.reason if isinstance(found, Flaw) else found.user


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """An authenticator that counts the passwords it checks."""
    made = Desk()
    real = matches

    def counted(stored: str, password: bytes) -> bool:
        made.checks += 1
        return real(stored, password)

    monkeypatch.setattr("gateway.proxy.authentication.matches", counted)
    yield made
    made.authenticator.close()


async def test_no_accounts(desk: Desk) -> None:
    """Without accounts nobody is asked, and nobody is proven."""
    desk.accounts = None
    assert not desk.authenticator.wanted
    assert desk.authenticator.recall(a_client(), basic("batch", "secret")) == a_client()


async def test_nothing_sent(desk: Desk) -> None:
    """Who sends nothing is nobody, or has to, where it is required."""
    assert desk.authenticator.recall(a_client(), []) == a_client()
    desk.accounts = Accounts(HASHES, required=True)
    found = desk.authenticator.recall(a_client(), [])
    assert isinstance(found, Flaw)
    assert found.reason is Reason.AUTH_REQUIRED


async def test_the_address_stays(desk: Desk) -> None:
    """What is proven is the user; address and certificate are whatever they were."""
    client = a_client("10.9.9.9", certificate="CN=x")
    found = await desk.authenticator.prove(client, basic("batch", "secret"))
    assert found == a_client("10.9.9.9", "batch", "CN=x")


async def test_an_outcome_is_remembered(desk: Desk) -> None:
    """The same credentials again cost no check, for a while; wrong ones neither."""
    assert desk.authenticator.recall(a_client(), basic("batch", "secret")) is None
    for _ in range(3):
        assert await desk.ask("batch", "secret") == "batch"
        assert await desk.ask("batch", "wrong") is Reason.AUTH_FAILED
    assert desk.checks == 2
    assert desk.authenticator.recall(a_client(), basic("batch", "secret")) == a_client(user="batch")
    desk.now += 301
    assert await desk.ask("batch", "secret") == "batch"
    assert desk.checks == 3


async def test_a_user_who_does_not_exist_costs_the_same(desk: Desk) -> None:
    """An unknown name is checked too, and gets the same answer as a wrong password."""
    unknown = await desk.authenticator.prove(a_client(), basic("nobody", "secret"))
    wrong = await desk.authenticator.prove(a_client(), basic("batch", "wrong"))
    assert unknown == wrong
    assert desk.checks == 2


async def test_many_at_once_share_a_check(desk: Desk) -> None:
    """A hundred connections with the same new password wait for one check."""
    found = await asyncio.gather(*(desk.ask("batch", "secret") for _ in range(100)))
    assert set(found) == {"batch"}
    assert desk.checks == 1


async def test_who_leaves_does_not_end_the_check(desk: Desk) -> None:
    """A client that goes while its password is checked takes nothing from the others who wait."""
    first = asyncio.get_running_loop().create_task(desk.ask("batch", "secret"))
    await asyncio.sleep(0)
    second = asyncio.get_running_loop().create_task(desk.ask("batch", "secret"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "batch"


async def test_guesses_run_out(desk: Desk) -> None:
    """After ten wrong guesses a source has to wait; other sources, and who was let in before, do not."""
    assert await desk.ask("batch", "secret") == "batch"
    found = [await desk.ask("batch", f"guess {number}") for number in range(12)]
    assert found == [Reason.AUTH_FAILED] * 10 + [Reason.RATE_LIMIT] * 2
    assert desk.checks == 11
    assert await desk.ask("batch", "secret") == "batch"
    assert await desk.ask("batch", "other", a_client("10.1.0.6")) is Reason.AUTH_FAILED
    desk.now += 5
    assert await desk.ask("batch", "guess 11") is Reason.AUTH_FAILED
    assert await desk.ask("batch", "guess 12") is Reason.RATE_LIMIT


async def test_guesses_at_once_run_out_too(desk: Desk) -> None:
    """Guessing in parallel gives no more tries than one after the other."""
    found = await asyncio.gather(*(desk.ask("batch", f"guess {number}") for number in range(40)))
    assert found.count(Reason.AUTH_FAILED) == 10
    assert desk.checks == 10


async def test_checks_are_bounded(desk: Desk) -> None:
    """From many sources at once, only so many passwords wait to be checked."""
    clients = [a_client(f"10.1.1.{number}") for number in range(100)]
    found = await asyncio.gather(*(desk.ask("batch", str(client.address), client) for client in clients))
    assert found.count(Reason.AUTH_FAILED) == 64
    assert found.count(Reason.RATE_LIMIT) == 36


async def test_a_network_of_one_host_is_one_source(desk: Desk) -> None:
    """Addresses of one /64 share their tries."""
    clients = [a_client(f"2001:db8::{number:x}") for number in range(1, 13)]
    found = [await desk.ask("batch", str(client.address), client) for client in clients]
    assert found.count(Reason.RATE_LIMIT) == 2


async def test_a_reload_counts_at_once(desk: Desk) -> None:
    """What was remembered of an account ends with its password, and with the account."""
    assert await desk.ask("batch", "secret") == "batch"
    desk.accounts = Accounts({"batch": bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()})
    assert await desk.ask("batch", "secret") is Reason.AUTH_FAILED
    assert await desk.ask("batch", "new") == "batch"
    desk.accounts = Accounts({})
    assert await desk.ask("batch", "new") is Reason.AUTH_FAILED


async def test_a_check_that_breaks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks in a check is raised to whoever asked, is not remembered, and proves nobody."""

    def broken(stored: str, password: bytes) -> bool:
        raise RuntimeError("injected")

    with monkeypatch.context() as patch:
        patch.setattr("gateway.proxy.authentication.matches", broken)
        with pytest.raises(RuntimeError, match="injected"):
            await desk.ask("batch", "secret")
    assert await desk.ask("batch", "secret") == "batch"


async def test_no_password_is_kept(desk: Desk) -> None:
    """Memory of outcomes holds neither the name nor the password, in the clear or encoded."""
    assert await desk.ask("batch", "a very long secret") is Reason.AUTH_FAILED
    gc.collect()
    kept = repr(vars(desk.authenticator)) + repr(vars(desk.authenticator._bad)) + repr(desk.authenticator._checking)
    assert "very long" not in kept
    assert base64.b64encode(b"batch:a very").decode()[:12] not in kept


def test_memory_is_bounded() -> None:
    """The oldest outcome is forgotten first."""
    memory = Memory(10.0, entries=3)
    for number in range(5):
        memory.add(bytes([number]), 0.0)
    assert len(memory) == 3
    assert not memory.holds(b"\x01", 0.0)
    assert memory.holds(b"\x04", 0.0)
    assert not memory.holds(b"\x04", 10.0)


def test_tries_are_bounded() -> None:
    """However many sources there are, two generations are kept; a try that is given back can be taken again."""
    tries = Tries(2, 1.0, sources=4)
    for source in range(1000):
        assert tries.take(source, 0.0)
    assert len(tries._young) + len(tries._old) <= 8
    assert tries.take(999, 0.0)
    assert not tries.take(999, 0.0)
    tries.give_back(999)
    assert tries.take(999, 0.0)


async def test_changed_while_it_is_checked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password proves nobody that was changed while it was being checked."""

    def slow(stored: str, password: bytes) -> bool:
        desk.accounts = Accounts({"batch": "another hash"})
        return matches(stored, password)

    monkeypatch.setattr("gateway.proxy.authentication.matches", slow)
    assert await desk.ask("batch", "secret") is Reason.AUTH_FAILED


async def test_standing(desk: Desk) -> None:
    """Who was let in stays who it was until the account, its password, or the need for one changes."""
    batch, anybody = a_client(user="batch"), a_client()
    authenticator = desk.authenticator
    before = authenticator.standing(batch), authenticator.standing(anybody)

    def doubts() -> list[Reason | None]:
        clients = zip((batch, anybody), before, strict=True)
        return [flaw.reason if flaw else None for flaw in (authenticator.doubt(*each) for each in clients)]

    assert doubts() == [None, None]
    desk.accounts = Accounts({**HASHES, "anna": "x"}, True)
    assert doubts() == [None, Reason.AUTH_REQUIRED]
    desk.accounts = Accounts({"batch": "other"})
    assert doubts() == [Reason.AUTH_FAILED, None]
    for nobody in (Accounts({}), None):
        desk.accounts = nobody
        assert doubts() == [Reason.AUTH_FAILED, None]
        assert authenticator.doubt(batch, None) is not None  # let in while the account was being removed
