"""Tests for gateway.dns.misses."""

import asyncio

import pytest
from dnslib import RCODE

from gateway.decision import Reason
from gateway.dns import misses
from gateway.dns.misses import key_of
from gateway.dns.replies import Miss
from gateway.dns.resolver import Resolver
from gateway.dns.wire import read_query
from tests.gateway.dns.support import WEB, a_judge, addresses, ask, parse
from tests.peers.dns_upstream import Message, Reply, upstream, zone

ZONE = {"public.example": ["93.184.215.14"], "rebind.example": ["127.0.0.1"]}


def missed(resolver: Resolver, name: str, *, do: bool = False) -> Miss:
    """Return a query that cannot be answered at once."""
    miss = resolver.answer_now(WEB, ask(name, do=do))
    assert isinstance(miss, Miss)
    return miss


async def given(resolver: Resolver, *names: str) -> list[bytes | None]:
    """Return the replies to some queries, in the order in which they came."""
    replies: list[bytes | None] = []
    whole = asyncio.Event()

    def done(reply: bytes | None) -> None:
        replies.append(reply)
        if len(replies) == len(names):
            whole.set()

    for name in names:
        resolver.begin(missed(resolver, name), done)
    async with asyncio.timeout(10):
        await whole.wait()
    return replies


async def test_each_query_is_answered_once() -> None:
    """A callback gets one reply, and without a task; whoever asks the same meanwhile gets it too."""
    async with upstream(zone(ZONE)) as up:
        resolver = Resolver(a_judge(up.endpoint))
        before = asyncio.all_tasks()
        replies = await given(resolver, "public.example", "public.example")
        assert [addresses(reply) for reply in replies] == [["93.184.215.14"]] * 2
        assert asyncio.all_tasks() == before
        assert len(up.queries) == 1


async def test_what_comes_back_is_decided() -> None:
    """The upstream's answer is judged before the callback gets it."""
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint)
        (reply,) = await given(Resolver(judge), "rebind.example")
        assert (addresses(reply), judge.reasons) == ([], [Reason.DNS_REBINDING])


async def test_places_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever came of a query, an answer, a failure, or one that was found at once: it no longer waits."""
    monkeypatch.setattr(misses, "MAX_WAITING", 1)
    monkeypatch.setattr(misses, "MAX_PER_CLIENT", 1)

    def handle(query: Message, protocol: str) -> Reply:
        if str(query.q.qname).lower().startswith("fails"):
            reply = query.reply()
            reply.header.rcode = RCODE.SERVFAIL
            return reply
        return zone(ZONE)(query, protocol)

    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint))
        # The second failure is known from the first.
        for name in ("fails.example", "fails.example", "rebind.example", "public.example"):
            (reply,) = await given(resolver, name)
        assert addresses(reply) == ["93.184.215.14"]


async def test_without_upstreams_the_answer_comes_at_once() -> None:
    """A query that nobody can be asked about is refused before `begin` returns."""
    resolver = Resolver(a_judge())
    replies: list[bytes | None] = []
    resolver.begin(missed(resolver, "public.example"), replies.append)
    assert [parse(reply).header.rcode for reply in replies] == [RCODE.SERVFAIL]


async def test_closing_answers_nobody() -> None:
    """Once the resolver is closed, no callback is called any more."""

    async def handle(_query: Message, _: str) -> Reply:
        await asyncio.Event().wait()
        return None

    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint))
        replies: list[bytes | None] = []
        resolver.begin(missed(resolver, "public.example"), replies.append)
        await up.asked.wait()
        await resolver.close()
        assert replies == []


@pytest.mark.parametrize("do", [False, True])
def test_answers_with_and_without_signatures_are_kept_apart(do: bool) -> None:
    """What an answer depends on is its key: name in normal form, type, DO and CD."""
    assert key_of(read_query(ask("PUBLIC.example", do=do))) == ("public.example", 1, do, False)
