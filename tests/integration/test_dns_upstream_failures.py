"""Upstreams that die, hang or lie: what a client is told, and that the gateway goes on with what it has.

`tests/gateway/dns/test_upstream.py` says how each lie is seen through. Here the same liars stand behind a resolver:
each of them alone, beside an honest upstream, and after an answer has been kept.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from dnslib import QTYPE, RCODE, RR, A

from gateway.decision import Reason
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint, Timing, parse_endpoint, parse_upstream
from tests.gateway.dns.support import WEB, Clock, a_judge, addresses, ask, ede, parse
from tests.peers.dns_tls import a_certificate
from tests.peers.dns_upstream import Handle, Message, Reply, encrypted, upstream
from tests.peers.namespace import Internet, wait_until

QUICK = Timing(attempt=0.15, total=0.6)
GOOD, WRONG = "93.184.215.14", "93.184.215.66"
UNREACHABLE, NETWORK, INVALID, STALE = 22, 23, 24, 3
TYPE_LOW = 12 + len("\3www\7example\0") + 1
"""Where the lower octet of the type is, in an answer for `www.example`."""


def good(query: Message, address: str = GOOD) -> Message:
    """Answer with an address that may be kept for ten seconds."""
    reply = query.reply()
    reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(address), ttl=10))
    return reply


def changed(at: int, octet: int) -> Handle:
    """Answer with a wrong address, and one octet of the message changed."""

    def handle(query: Message, _: str) -> Reply:
        data = bytearray(good(query, WRONG).pack())
        data[at] ^= octet
        return bytes(data)

    return handle


def cut(query: Message, _: str) -> Reply:
    """Say TC=1, whatever the transport."""
    reply = query.reply()
    reply.header.tc = 1
    return reply


def code(number: int) -> Handle:
    """Answer with a code and nothing else."""

    def handle(query: Message, _: str) -> Reply:
        reply = query.reply()
        reply.header.rcode = number
        return reply

    return handle


async def late(query: Message, _: str) -> Reply:
    """Answer when nobody waits any more."""
    await asyncio.sleep(2 * QUICK.total)
    return good(query, WRONG)


async def silent(_query: Message, _: str) -> Reply:
    """Never answer."""
    await asyncio.Event().wait()
    return None


async def cut_then_silent(query: Message, protocol: str) -> Reply:
    """Send the client to TCP, accept there, and never answer."""
    return cut(query, protocol) if protocol == "udp" else await silent(query, protocol)


def cut_then_closed(query: Message, protocol: str) -> Reply:
    """Send the client to TCP, and close there."""
    return cut(query, protocol) if protocol == "udp" else None


def pieces(_query: Message, _: str) -> Reply:
    """Send things that are no DNS messages."""
    return [b"\0", bytes(11), bytes(range(40)), b"HTTP/1.1 400 Bad Request\r\n\r\n"]


def nonsense(query: Message, _: str) -> Reply:
    """Answer with the right header and question, and records that are none."""
    data = bytearray(good(query, WRONG).pack())
    data[7] = 9
    return bytes(data)


type Liar = Callable[[Path], AbstractAsyncContextManager[Endpoint]]


def over(handle: Handle, scheme: str = "udp") -> Liar:
    """Return an upstream that says what a handler does."""

    @asynccontextmanager
    async def run(_: Path) -> AsyncIterator[Endpoint]:
        async with upstream(handle) as up:
            yield up.endpoint._replace(scheme=scheme)

    return run


def certified(scheme: str, name: str, *, trusted: bool = True) -> Liar:
    """Return an honest upstream over TLS or HTTPS, to be found under a name that its certificate may not have."""

    @asynccontextmanager
    async def run(folder: Path) -> AsyncIterator[Endpoint]:
        certificate = a_certificate(folder)
        path = folder / "dns.pem"
        assert certificate is not None
        async with encrypted(lambda query, _: good(query, WRONG), path, scheme) as up:
            with pytest.MonkeyPatch.context() as patch:
                if trusted:
                    patch.setenv("SSL_CERT_FILE", str(path))
                yield parse_upstream(str(up.endpoint).rpartition("#")[0] + f"#{name}")

    return run


@asynccontextmanager
async def gone(_: Path) -> AsyncIterator[Endpoint]:
    """Give the address of an upstream that has died."""
    async with upstream(good_handle) as up:
        endpoint = up.endpoint
    yield endpoint


def good_handle(query: Message, _: str) -> Reply:
    """Answer as one should."""
    return good(query)


@asynccontextmanager
async def from_another_port(_: Path) -> AsyncIterator[Endpoint]:
    """Run an upstream whose answers come from another port than they were asked at."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asked,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        asked.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()

        def answer() -> None:
            data, peer = asked.recvfrom(4096)
            other.sendto(good(parse(data), WRONG).pack(), peer)

        loop.add_reader(asked, answer)
        yield parse_endpoint(f"udp://127.0.0.1:{asked.getsockname()[1]}")
        loop.remove_reader(asked)


LIARS: dict[str, tuple[Liar, int]] = {
    "is dead": (gone, NETWORK),
    "hangs": (over(silent), UNREACHABLE),
    "hangs, over TCP": (over(silent, "tcp"), UNREACHABLE),
    "answers late": (over(late), UNREACHABLE),
    "answers late, over TCP": (over(late, "tcp"), UNREACHABLE),
    "gives another id": (over(changed(1, 1)), UNREACHABLE),
    "gives another id, over TCP": (over(changed(1, 1), "tcp"), NETWORK),
    "answers for another name": (over(changed(13, 2)), UNREACHABLE),
    "answers for another name, over TCP": (over(changed(13, 2), "tcp"), INVALID),
    "answers for another type": (over(changed(TYPE_LOW, 2)), UNREACHABLE),
    "answers from another port": (from_another_port, UNREACHABLE),
    "sends no messages": (over(pieces), UNREACHABLE),
    "sends no messages, over TCP": (over(pieces, "tcp"), NETWORK),
    "sends records that are none": (over(nonsense), INVALID),
    "sends records that are none, over TCP": (over(nonsense, "tcp"), INVALID),
    "is truncated for ever": (over(cut), INVALID),
    "sends to TCP and is silent there": (over(cut_then_silent), UNREACHABLE),
    "sends to TCP and closes there": (over(cut_then_closed), NETWORK),
    "says SERVFAIL": (over(code(RCODE.SERVFAIL)), UNREACHABLE),
    "says REFUSED": (over(code(RCODE.REFUSED)), UNREACHABLE),
    "says FORMERR to everything": (over(code(RCODE.FORMERR)), UNREACHABLE),
    "shows a certificate for another name, TLS": (certified("tls", "other.test"), NETWORK),
    "shows a certificate for another name, HTTPS": (certified("https", "other.test"), NETWORK),
    "shows a certificate of nobody known, TLS": (certified("tls", "dns.test", trusted=False), NETWORK),
    "shows a certificate of nobody known, HTTPS": (certified("https", "dns.test", trusted=False), NETWORK),
}

each = pytest.mark.parametrize(("liar", "expected"), LIARS.values(), ids=LIARS.keys())


@each
async def test_alone_it_is_told_apart_and_recorded(tmp_path: Path, liar: Liar, expected: int) -> None:
    """The client gets SERVFAIL in bounded time, with why; what needs no upstream is answered as ever."""
    async with liar(tmp_path) as endpoint:
        judge = a_judge(endpoint, timing=QUICK)
        resolver = Resolver(judge)
        started = asyncio.get_running_loop().time()
        reply = await resolver.answer(WEB, ask("www.example"))
        assert asyncio.get_running_loop().time() - started < 3 * QUICK.total
        assert parse(reply).header.rcode == RCODE.SERVFAIL
        assert addresses(reply) == []
        found = ede(reply)
        assert found is not None
        assert (found[0], found[1].partition(" id=")[0]) == (expected, "upstream-failure")
        assert judge.reasons == [Reason.UPSTREAM_FAILURE]
        assert parse(await resolver.answer(WEB, ask("bad.example"))).header.rcode == RCODE.NXDOMAIN
        assert addresses(await resolver.answer(WEB, ask("localhost"))) == ["127.0.0.1"]
        await resolver.close()


@each
@pytest.mark.parametrize("strategy", ["ordered", "fastest", "parallel"])
async def test_beside_an_honest_one_it_does_no_harm(tmp_path: Path, liar: Liar, expected: int, strategy: str) -> None:
    """Every client gets the honest answer, from the first query on."""
    async with liar(tmp_path) as endpoint, upstream(good_handle) as honest:
        judge = a_judge(endpoint, honest.endpoint, timing=QUICK, strategy=strategy)
        resolver = Resolver(judge)
        for number in range(4):
            assert addresses(await resolver.answer(WEB, ask(f"www{number}.example"))) == [GOOD], expected
        assert judge.reasons == []
        await resolver.close()


@each
async def test_an_expired_answer_helps_out(tmp_path: Path, liar: Liar, expected: int) -> None:
    """When the honest one has died, what it said is given, at first as it is and then as stale (RFC 8767)."""
    async with liar(tmp_path) as endpoint:
        clock, query = Clock(), ask("www.example")
        async with upstream(good_handle) as honest:
            resolver = Resolver(a_judge(endpoint, honest.endpoint, timing=QUICK, serve_stale=3600.0), clock)
            assert addresses(await resolver.answer(WEB, query)) == [GOOD], expected
        clock.now += 9
        assert addresses(await resolver.answer(WEB, query)) == [GOOD]
        clock.now += 2
        reply = await resolver.answer(WEB, query)
        assert (addresses(reply), ede(reply)) == ([GOOD], (STALE, ""))
        await resolver.close()


async def test_a_late_answer_is_nobodys() -> None:
    """An answer that comes after its query was given up is given to no later one."""
    first = True

    async def handle(query: Message, _: str) -> Reply:
        nonlocal first
        if first:
            first = False
            await asyncio.sleep(2 * QUICK.attempt)
            return good(query, WRONG)
        return good(query)

    async with upstream(handle) as up:
        resolver = Resolver(a_judge(up.endpoint, timing=QUICK))
        assert addresses(await resolver.answer(WEB, ask("www.example"))) == [GOOD]
        await asyncio.sleep(2 * QUICK.attempt)  # the late one has come by now
        assert addresses(await resolver.answer(WEB, ask("www.example"))) == [GOOD]
        assert len(up.queries) == 2
        await resolver.close()


POLICY = """
version: 1
state_dir: state
proxy: {listen: []}
dns: {workers: 1, upstreams: ["udp://9.9.9.9"], cache: {serve_stale: 0s}}
policy:
  default: {proxy: deny, dns: allow}
  rules:
    - {name: ours, action: deny, to: {domains: [pastebin.com]}}
"""


def dig(world: Internet, name: str) -> str:
    """Return what dig prints."""
    return world.run("dig", "@127.0.0.1", "-p", "5335", "+tries=1", "+time=9", name, timeout=30).stdout


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("stop", "go_on", "expected"),
    [
        pytest.param(signal.SIGSTOP, signal.SIGCONT, UNREACHABLE, id="hangs"),
        pytest.param(signal.SIGKILL, None, NETWORK, id="dies"),
    ],
)
def test_the_name_server_of_a_whole_gateway(
    internet: Internet, stop: signal.Signals, go_on: signal.Signals | None, expected: int
) -> None:
    """While it is gone, kept answers and denials go on, the rest says why it cannot; then all is as before."""
    internet.serve(POLICY)
    assert "93.184.215.14" in dig(internet, "www.example.com")
    server = internet.processes[0]
    os.kill(server.pid, stop)
    if go_on is None:
        server.wait(5)
    assert "93.184.215.14" in dig(internet, "www.example.com")
    assert "status: NXDOMAIN" in dig(internet, "pastebin.com")
    for name in ("api.example.org", "example.com", "dns.google", "mixed.example.net"):
        failed = dig(internet, name)
        assert "status: SERVFAIL" in failed
        assert f"EDE: {expected} " in failed
        assert "(upstream-failure id=" in failed
    wait_until(
        lambda: [line for line in internet.ledger() if line.get("event.reason") == "upstream-failure"],
        "the failures on record",
    )
    assert "upstream udp://9.9.9.9:53 rests for" in (internet.folder / "gateway.log").read_text()
    if go_on is not None:
        os.kill(server.pid, go_on)
    else:
        spec = str(internet.folder / "spec.json")
        internet.start(sys.executable, "tests/peers/internet.py", spec, log="again.log")
    wait_until(lambda: "93.184.215.20" in dig(internet, "api.example.org"), "the name server's return", 60)
