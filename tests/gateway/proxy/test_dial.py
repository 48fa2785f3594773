"""Tests of `gateway.proxy.dial`."""

import asyncio
import socket
from ipaddress import ip_network

import pytest

from gateway.decision import Decision, Reason, Verdict
from gateway.dns.resolver import LeakError
from gateway.policy import Policy
from gateway.proxy.case import Case, Refusal
from gateway.proxy.dial import Approved, Dialer, is_local
from gateway.rule import Rule
from tests.builders import a_hello, an_address
from tests.integration.proxy_rig import Bench, Names, allow
from tests.peers.http_origin import Origin

LOOP, PUBLIC, PRIVATE = an_address("127.0.0.1"), an_address("192.0.43.8"), an_address("10.0.0.1")


async def approve(rule: Rule, *found: str, own: tuple[str, int] | None = None) -> tuple[Approved | Refusal, Bench]:
    """Ask for the addresses of a name."""
    bench = Bench(Policy(rules=[rule]))
    names = Names({"good.test": tuple(an_address(each) for each in found)} if found else {})
    dialer = Dialer(names, [(an_address(own[0]), own[1])] if own else ())
    return await dialer.approve(Case(bench), a_hello("good.test")), bench


async def test_all_allowed() -> None:
    """Allowed addresses keep their order, each with the decision that allowed it."""
    approved, bench = await approve(allow("good.test", addresses=()), "192.0.43.8", "192.0.43.9")
    assert isinstance(approved, Approved)
    assert [str(address) for address in approved.addresses] == ["192.0.43.8", "192.0.43.9"]
    assert approved.decision(PUBLIC).rule == "allowed"
    assert bench.ledger.lines == []


async def test_some_denied() -> None:
    """Denied addresses are left out, and recorded once."""
    approved, bench = await approve(allow("good.test", addresses=()), "10.0.0.1", "192.0.43.8", "10.0.0.2")
    assert isinstance(approved, Approved)
    assert approved.addresses == (PUBLIC,)
    assert bench.ledger.denials == [Reason.DNS_REBINDING]


async def test_all_denied() -> None:
    """With every address denied, the first denial is the answer."""
    refusal, bench = await approve(allow("good.test", addresses=()), "169.254.169.254", "10.0.0.1")
    assert isinstance(refusal, Refusal)
    assert refusal.decision.reason is Reason.METADATA_ADDRESS
    assert len(bench.ledger.lines) == 1


async def test_a_name_that_tells_too_much() -> None:
    """A host that the resolver does not look up for this client is denied for the resolver's reason."""
    bench = Bench(Policy(rules=[allow("good.test")]))

    def refuse(_: str) -> None:
        raise LeakError(Decision(Verdict.DENY, Reason.LEAK_BUDGET, detail="zone good.test"))

    refusal = await Dialer(Names({}, before=refuse)).approve(Case(bench), a_hello("good.test"))
    assert isinstance(refusal, Refusal)
    assert refusal.decision.reason is Reason.LEAK_BUDGET
    assert bench.ledger.denials == [Reason.LEAK_BUDGET]


async def test_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that are at hand are judged without waiting; what the policy says is the same."""
    monkeypatch.setattr(Names, "remembers", True)
    bench = Bench(Policy(rules=[allow("good.test", "bad.test", addresses=())]))
    dialer = Dialer(Names({"good.test": (PUBLIC,), "bad.test": (PRIVATE,), "none.test": ()}))
    approved = dialer.recall(Case(bench), a_hello("good.test"))
    assert isinstance(approved, Approved)
    assert approved.addresses == (PUBLIC,)
    refusal = dialer.recall(Case(bench), a_hello("bad.test"))
    assert isinstance(refusal, Refusal)
    assert refusal.decision.reason is Reason.DNS_REBINDING
    assert dialer.recall(Case(bench), a_hello("unknown.test")) is None
    assert dialer.recall(Case(bench), a_hello("none.test")) is None


def test_straight() -> None:
    """Only one address, and no parent proxy, is connected to without more ado."""
    assert Dialer(Names({})).leads_straight((PUBLIC,))
    assert not Dialer(Names({})).leads_straight((PUBLIC, LOOP))
    assert not Dialer(Names({}), parent=lambda: "http://127.0.0.1:1").leads_straight((PUBLIC,))


async def test_asked_again() -> None:
    """Who asks again with the same objects is given the same answer, and the policy is asked each time."""
    bench = Bench(Policy(rules=[allow("good.test", addresses=())]))
    dialer, hello = Dialer(Names({"good.test": (PUBLIC,)})), a_hello("good.test")
    first = await dialer.approve(Case(bench), hello)
    assert isinstance(first, Approved)
    assert await dialer.approve(Case(bench), hello) is first
    bench.policy = Policy(rules=[allow("other.test")])
    refusal = await dialer.approve(Case(bench), hello)
    assert isinstance(refusal, Refusal)
    assert bench.ledger.denials == [Reason.DEFAULT_DENY]


async def test_asked_again_with_other_addresses() -> None:
    """A name that has another address the next time is judged by that."""
    bench = Bench(Policy(rules=[allow("good.test", addresses=())]))
    names = Names({"good.test": (PUBLIC,)})
    dialer, hello = Dialer(names), a_hello("good.test")
    assert isinstance(await dialer.approve(Case(bench), hello), Approved)
    names.table = {"good.test": (PRIVATE,)}
    refusal = await dialer.approve(Case(bench), hello)
    assert isinstance(refusal, Refusal)
    assert refusal.decision.reason is Reason.DNS_REBINDING


async def test_on_trial_again() -> None:
    """What a rule on trial says about an address is recorded for each connection."""
    on_trial = Rule(name="on-trial", action=Verdict.DENY, report=True, addresses=(ip_network("192.0.43.0/24"),))
    bench = Bench(Policy(rules=[on_trial, allow("good.test", addresses=())]))
    dialer, hello = Dialer(Names({"good.test": (PUBLIC,)})), a_hello("good.test")
    for times in (1, 2):
        assert isinstance(await dialer.approve(Case(bench), hello), Approved)
        assert len(bench.ledger.lines) == times


async def test_unknown_name() -> None:
    """A name without an address is a failure with a reason of its own."""
    refusal, bench = await approve(allow("good.test"))
    assert isinstance(refusal, Refusal)
    assert bench.ledger.denials == [Reason.NAME_UNRESOLVABLE]


@pytest.mark.parametrize("own", ["127.0.0.1", "0.0.0.0", "::"])
async def test_itself(own: str) -> None:
    """The gateway's own address is no destination, however it listens."""
    refusal, bench = await approve(allow("good.test"), "127.0.0.1", own=(own, 443))
    assert isinstance(refusal, Refusal)
    assert bench.ledger.denials == [Reason.PRIVATE_ADDRESS]


async def test_many_addresses() -> None:
    """A name with hundreds of addresses costs a bounded number of decisions."""
    approved, _ = await approve(allow("good.test", addresses=()), *(f"192.0.43.{number}" for number in range(1, 200)))
    assert isinstance(approved, Approved)
    assert len(approved.addresses) == 16


async def test_connect_never_asks_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting uses the address alone."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    async with Origin() as origin:
        dialer = Dialer(Names({}))
        transport, _, address = await dialer.connect((LOOP,), origin.port, asyncio.Protocol)
        assert address == LOOP
        transport.abort()
        await asyncio.sleep(0)


async def test_race() -> None:
    """An address that refuses makes way for the next one at once."""
    async with Origin(host="127.0.0.2") as origin:
        dialer = Dialer(Names({}))
        addresses = (LOOP, an_address("127.0.0.2"))
        async with asyncio.timeout(5):
            transport, _, address = await dialer.connect(addresses, origin.port, asyncio.Protocol)
        assert address == addresses[1]
        transport.abort()
        await asyncio.sleep(0)


async def test_nobody_there() -> None:
    """When no address answers, the last failure is told."""
    async with Origin() as origin:
        port = origin.port
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await Dialer(Names({})).connect((LOOP, an_address("127.0.0.2")), port, asyncio.Protocol)


def test_is_local() -> None:
    """Only this host's own addresses are local."""
    assert is_local(LOOP)
    assert not is_local(an_address("192.0.2.1"))
