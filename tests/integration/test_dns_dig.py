"""The resolver as a real client sees it: dig and kdig against real sockets, with a scripted upstream behind."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.decision import Verdict
from gateway.dns.resolver import Resolver
from gateway.dns.server import serve_resolver
from gateway.dns.settings import Endpoint, parse_endpoint
from gateway.rule import Rule
from tests.gateway.dns.support import a_judge, a_policy
from tests.peers.dns_upstream import upstream, zone

ZONE = {
    "www.example.com": ["93.184.215.14"],
    "alias.example.com": ["=www.example.com"],
    "rebind.example.com": ["10.0.0.1"],
    "big.example.com": [f"93.184.215.{number}" for number in range(100)],
}
POLICY = a_policy(Rule(name="no-txt", action=Verdict.DENY, qtypes=(16,)), listed=(".bad.example.com",))

pytestmark = pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed (apt-get install dnsutils)")


@asynccontextmanager
async def resolver() -> AsyncIterator[list[Endpoint]]:
    """Run a resolver on the same port for UDP and TCP."""
    async with upstream(zone(ZONE)) as up:
        core = Resolver(a_judge(up.endpoint, policy=POLICY))
        ready: asyncio.Future[list[Endpoint]] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            places = [parse_endpoint("udp://127.0.0.1:0"), parse_endpoint("tcp://127.0.0.1:0")]
            group.create_task(
                serve_resolver(core, places, stop=stop, ready=lambda used: ready.set_result(list(used)))
            )
            yield await ready
            stop.set()
        await core.close()


async def dig(place: Endpoint, *words: str, program: str = "dig") -> str:
    """Run dig and return what it prints."""
    options = ("+tcp",) if place.scheme == "tcp" else ("+notcp",)
    process = await asyncio.create_subprocess_exec(
        *(program, "@127.0.0.1", "-p", str(place.port), *words, *options, "+retry=0", "+time=5"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode()


CASES = [
    ("an allowed name", ("www.example.com",), ["status: NOERROR", "93.184.215.14", "flags: qr rd ra;"]),
    ("letter case is kept", ("wWw.eXample.COM",), ["wWw.eXample.COM.", "93.184.215.14"]),
    ("a CNAME chain", ("alias.example.com",), ["CNAME\twww.example.com.", "93.184.215.14"]),
    ("a name that does not exist", ("missing.example.com",), ["status: NXDOMAIN", "SOA"]),
    (
        "a listed name",
        ("x.bad.example.com",),
        ["status: NXDOMAIN", "EDE: 15 (Blocked)", "(listed threats threats id=r", "egress-gateway.invalid."],
    ),
    ("a rebinding answer", ("rebind.example.com",), ["status: NXDOMAIN", "EDE: 15 (Blocked)", "(dns-rebinding id=r"]),
    ("a denied type", ("www.example.com", "TXT"), ["status: NOERROR", "ANSWER: 0", "(qtype no-txt id=r"]),
    ("an escaped letter", (r"x.b\097d.example.com",), ["status: NXDOMAIN", "(listed threats threats id=r"]),
    ("ANY", ("www.example.com", "ANY"), ["status: NOERROR", "RFC8482"]),
    ("a cookie", ("www.example.com", "+cookie=0123456789abcdef"), ["93.184.215.14", "(good)"]),
    ("localhost", ("localhost",), ["status: NOERROR", "127.0.0.1", "flags: qr aa rd ra"]),
    ("the name of loopback", ("-x", "127.0.0.1"), ["PTR\tlocalhost."]),
    ("a private reverse name", ("-x", "10.1.2.3"), ["status: NXDOMAIN", "10.in-addr.arpa."]),
    ("discovery of other resolvers", ("_dns.resolver.arpa", "SVCB"), ["status: NXDOMAIN", "resolver.arpa."]),
    ("NOTIFY with EDNS", ("www.example.com", "+opcode=notify"), ["status: NOTIMP", "EDNS: version: 0"]),
    ("class CHAOS", ("version.bind", "TXT", "CH"), ["status: REFUSED"]),
    ("EDNS version 1", ("www.example.com", "+edns=1", "+noednsneg"), ["status: BADVERS"]),
    ("opcode NOTIFY", ("www.example.com", "+opcode=notify", "+noedns"), ["status: NOTIMP"]),
    ("unknown options", ("www.example.com", "+ednsopt=65001:abcd", "+nsid"), ["93.184.215.14"]),
    ("client subnet", ("www.example.com", "+subnet=192.0.2.0/24"), ["93.184.215.14"]),
    ("no EDNS", ("x.bad.example.com", "+noedns"), ["status: NXDOMAIN", "ADDITIONAL: 0"]),
    ("DO is echoed", ("www.example.com", "+dnssec"), ["flags: do;", "93.184.215.14"]),
]


@pytest.mark.parametrize(("words", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
async def test_dig(words: tuple[str, ...], expected: list[str]) -> None:
    """Over UDP and TCP, cold and cached, dig shows what it should and finds nothing malformed."""
    async with resolver() as places:
        for place in (*places, *places):
            output = await dig(place, *words)
            for text in expected:
                assert text in output
            assert "WARNING" not in output
            assert "malformed" not in output.lower()


async def test_a_large_answer_comes_over_tcp() -> None:
    """An answer too large for UDP is cut, and dig fetches it over TCP by itself."""
    async with resolver() as places:
        output = await dig(places[1], "big.example.com")
        assert "ANSWER: 100" in output
        udp_only = await dig(places[0], "big.example.com", "+ignore")
        assert "flags: qr tc rd ra;" in udp_only
        assert "ANSWER: 0" in udp_only


@pytest.mark.skipif(shutil.which("kdig") is None, reason="kdig is not installed (apt-get install knot-dnsutils)")
async def test_kdig_keeps_a_connection_open() -> None:
    """Several queries on one TCP connection are all answered."""
    async with resolver() as places:
        words = ("+keepopen", "+tcp", "www.example.com", "+tcp", "x.bad.example.com", "+tcp", "alias.example.com")
        output = await dig(places[1], *words, program="kdig")
        assert output.count("status: NOERROR") == 2
        assert output.count("status: NXDOMAIN") == 1
