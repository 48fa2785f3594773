"""DoT and DoH as real clients see them, and the same verdict over every transport."""

import asyncio
import base64
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dnslib import DNSRecord
from h2.errors import ErrorCodes

from gateway.decision import Verdict
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint
from gateway.request import DnsQuery
from gateway.rule import Rule
from tests.gateway.dns.support import PolicyJudge, a_judge, a_policy, ask, ede, parse
from tests.peers.dns_tls import NAME, TRANSPORTS, a_certificate, client_context, connected, http2, serving_all
from tests.peers.dns_upstream import upstream, zone
from tests.peers.namespace import Internet, wait_until

ZONE = {
    "www.example.com": ["93.184.215.14"],
    "alias.example.com": ["=www.example.com"],
    "hidden.example.com": ["=x.bad.example.com"],
    "rebind.example.com": ["10.0.0.1"],
    "x.bad.example.com": ["93.184.215.15"],
    "big.example.com": [f"93.184.215.{number}" for number in range(200)],
}
POLICY = a_policy(Rule(name="no-txt", action=Verdict.DENY, qtypes=(16,)), listed=(".bad.example.com",))


@asynccontextmanager
async def resolver(folder: Path) -> AsyncIterator[tuple[list[Endpoint], PolicyJudge]]:
    """Run a resolver on all transports."""
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint, policy=POLICY)
        async with serving_all(Resolver(judge), a_certificate(folder), TRANSPORTS) as places:
            yield places, judge


async def run(*words: str) -> str:
    """Run a program and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return output.decode(errors="replace")


needs_kdig = pytest.mark.skipif(
    shutil.which("kdig") is None, reason="kdig is not installed (apt-get install knot-dnsutils)"
)
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (apt-get install curl)")


@needs_kdig
@pytest.mark.parametrize("option", ["+tls", "+https", "+https-get"])
async def test_kdig(tmp_path: Path, option: str) -> None:
    """kdig verifies the certificate and gets answers, denials with their reason, and padding."""
    async with resolver(tmp_path) as (places, _):
        place = places[2 if option == "+tls" else 3]
        words = ["kdig", "@127.0.0.1", "-p", str(place.port), option, f"+tls-ca={tmp_path / 'dns.pem'}"]
        words += [f"+tls-hostname={NAME}", "+retry=0", "+time=5"]
        for _ in range(2):
            output = await run(*words, "wWw.example.COM")
            assert "status: NOERROR" in output
            assert "93.184.215.14" in output
            assert "PADDING:" in output
            assert "Received 468 B" in output
            denied = await run(*words, "x.bad.example.com")
            assert "status: NXDOMAIN" in denied
            assert "EDE: 15 (Blocked): 'listed threats threats id=r" in denied
            assert "ANSWER: 200" in await run(*words, "big.example.com")
            assert "WARNING" not in output + denied
        if option != "+tls":
            assert "HTTP session (HTTP/2-" in output
            assert "(status: 404)" in await run(*words, f"{option}=/other", "www.example.com")


@needs_kdig
async def test_kdig_distrusts_another_name(tmp_path: Path) -> None:
    """The certificate that is shown is the configured one: kdig refuses it for another name."""
    async with resolver(tmp_path) as (places, judge):
        words = ("kdig", "@127.0.0.1", "-p", str(places[2].port), "+tls", f"+tls-ca={tmp_path / 'dns.pem'}")
        output = await run(*words, "+tls-hostname=other.test", "+retry=0", "www.example.com")
        assert "status: NOERROR" not in output
        assert not judge.asked


@needs_curl
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_curl_asks(tmp_path: Path, version: str) -> None:
    """curl gets an answer by GET and by POST in both versions of HTTP."""
    async with resolver(tmp_path) as (places, _):
        query = ask("www.example.com", ident=0)
        (tmp_path / "query").write_bytes(query)
        url = f"https://{NAME}:{places[3].port}/dns-query"
        words = ["curl", "-sS", version, "--cacert", str(tmp_path / "dns.pem"), "-o", str(tmp_path / "answer")]
        words += [
            "--resolve",
            f"{NAME}:{places[3].port}:127.0.0.1",
            "-w",
            "%{http_code} %{http_version} %{content_type}",
        ]
        text = base64.urlsafe_b64encode(query).rstrip(b"=").decode()
        kind = "content-type: application/dns-message"
        for more in ([f"{url}?dns={text}"], [url, "-H", kind, "--data-binary", f"@{tmp_path / 'query'}"]):
            expected = f"200 {'2' if version == '--http2' else '1.1'} application/dns-message"
            assert await run(*words, *more) == expected
            assert "93.184.215.14" in str(parse((tmp_path / "answer").read_bytes()))
        (tmp_path / "query").write_bytes(bytes(70000))
        assert (await run(*words, url, "-H", kind, "--data-binary", f"@{tmp_path / 'query'}")).splitlines()[-1][
            :4
        ] == "413 "


@needs_curl
async def test_curl_resolves_by_doh(tmp_path: Path) -> None:
    """`curl --doh-url` finds allowed names with it, and not denied ones."""
    async with resolver(tmp_path) as (places, judge):
        words = ["curl", "-sv", "-m", "3", "--cacert", str(tmp_path / "dns.pem"), "--doh-insecure"]
        words += ["--connect-timeout", "2", "--doh-url", f"https://127.0.0.1:{places[3].port}/dns-query"]
        await run(*words, "--interface", "127.0.0.1", "http://www.example.com:1/")
        output = await run(*words, "http://x.bad.example.com:1/")
        assert "DoH: Bad RCODE type A for x.bad.example.com" in output
        asked = {request.name for request in judge.asked if isinstance(request, DnsQuery)}
        assert {"www.example.com", "x.bad.example.com"} <= asked


class Clients:
    """One client per transport."""

    def __init__(self, places: list[Endpoint], folder: Path) -> None:
        self.places, self.folder = places, folder

    async def ask(self, place: Endpoint, query: bytes, *, get: bool = False, version: str = "h2") -> bytes:
        """Return the answer over one transport."""
        if place.scheme == "udp":
            return await self._udp(place, query)
        if place.scheme == "https" and version == "h2":
            async with http2(place, self.folder) as client:
                if get:
                    text = base64.urlsafe_b64encode(query).rstrip(b"=").decode()
                    client.begin(1, "GET", f"{place.path}?dns={text}")
                else:
                    client.post(1, query)
                return (await client.response(1))[2]
        if place.scheme == "https":
            head = f"POST {place.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(query)}\r\nConnection: close\r\n"
            async with connected(place, client_context(self.folder, "http/1.1")) as (reader, writer):
                writer.write(head.encode() + b"Content-Type: application/dns-message\r\n\r\n" + query)
                return (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")[2]
        context = client_context(self.folder, "dot") if place.scheme == "tls" else None
        return await self._framed(place, query, context)

    async def _udp(self, place: Endpoint, query: bytes) -> bytes:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _: object) -> None:
                got.set_result(data)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Receiver, remote_addr=(str(place.address), place.port)
        )
        transport.sendto(query)
        try:
            return await asyncio.wait_for(got, 10)
        finally:
            transport.close()

    async def _framed(self, place: Endpoint, query: bytes, context: ssl.SSLContext | None) -> bytes:
        reader, writer = await asyncio.open_connection(
            str(place.address), place.port, ssl=context, server_hostname=NAME if context is not None else None
        )
        writer.write(len(query).to_bytes(2, "big") + query)
        reply = await asyncio.wait_for(reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")), 10)
        writer.close()
        await writer.wait_closed()
        return reply

    async def everywhere(self, query: bytes) -> dict[str, bytes]:
        """Return the answers over all transports."""
        udp, tcp, tls, https = self.places
        return {
            "udp": await self.ask(udp, query),
            "dot": await self.ask(tls, query),
            "doh post": await self.ask(https, query),
            "tcp": await self.ask(tcp, query),
            "doh get": await self.ask(https, query, get=True),
            "doh http/1.1": await self.ask(https, query, version="http/1.1"),
        }


def verdict(reply: bytes) -> tuple[object, ...]:
    """Return what counts of an answer: code, records without TTL, and the reason without the id."""
    message: DNSRecord = parse(reply)
    reason = ede(reply)
    records = sorted((str(rr.rname).lower(), rr.rtype, str(rr.rdata)) for rr in message.rr)
    return message.header.rcode, records, reason and (reason[0], reason[1].partition(" id=")[0])


NAMES = [
    "www.example.com",
    "WWW.eXaMpLe.CoM.",
    "x.bad.example.com",
    "X.BAD.example.com.",
    "bad.example.com",
    "alias.example.com",
    "hidden.example.com",
    "rebind.example.com",
    "missing.example.com",
    ".",
]


@pytest.mark.parametrize("qtype", ["A", "TXT", "HTTPS", "ANY"])
async def test_the_verdict_is_the_same_over_every_transport(tmp_path: Path, qtype: str) -> None:
    """For a client, name and type the verdict depends neither on the transport nor on letters, EDNS or the cache."""
    async with resolver(tmp_path) as (places, _):
        clients = Clients(places, tmp_path)
        seen: dict[str, tuple[object, ...]] = {}
        for name in NAMES:
            for edns in (True, False):
                query = ask(name, qtype, edns=edns, ident=0)
                found = {kind: verdict(reply) for kind, reply in (await clients.everywhere(query)).items()}
                assert len({repr(each) for each in found.values()}) == 1, found
                code, records, reason = found["udp"]
                same = seen.setdefault(name.lower().rstrip("."), (code, records, reason))
                assert (code, records) == same[:2]
                if edns:
                    assert reason == same[2]


async def test_escapes_change_nothing(tmp_path: Path) -> None:
    """A dot inside a label makes another name, over every transport alike, and is no way around a list."""
    async with resolver(tmp_path) as (places, _):
        clients = Clients(places, tmp_path)
        head = ask("x", edns=False)[:12]
        inside = b"\x01x\x0bbad.example\x03com\0\0\1\0\1"
        upper = b"\x01X\x03BaD\x07EXAMPLE\x03cOm\0\0\1\0\1"
        for question, denied in ((inside, False), (upper, True)):
            found = {repr(verdict(reply)) for reply in (await clients.everywhere(head + question)).values()}
            assert len(found) == 1
            reply = parse(await clients.ask(places[2], head + question))
            assert bool(reply.auth and "egress-gateway" in str(reply.auth[0])) is denied


async def test_all_connections_of_a_client_share_its_rate(tmp_path: Path) -> None:
    """Queries over TCP, DoT and DoH, by GET, POST and HTTP/1.1, count in one bucket; over it, each transport says why
    and names the record. UDP has a bucket of its own.
    """
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint, policy=POLICY, rate_limit=(0.001, 5))
        async with serving_all(Resolver(judge), a_certificate(tmp_path), TRANSPORTS) as places:
            clients = Clients(places, tmp_path)
            query = ask("www.example.com", ident=0)
            for number in range(3):
                found = {kind: verdict(reply) for kind, reply in (await clients.everywhere(query)).items()}
                codes = {code for kind, (code, *_) in found.items() if kind != "udp"}
                assert (found["udp"][0], codes) == (0, {2} if number else {0})
                if number:
                    assert {found[kind][2] for kind in found if kind != "udp"} == {(18, "rate-limit")}
            assert [reason.value for reason in judge.reasons] == ["rate-limit"]


async def test_pipelining_over_tls(tmp_path: Path) -> None:
    """Many queries on one DoT connection are all answered, padded, and no answer is lost at the end."""
    async with (
        resolver(tmp_path) as (places, _),
        connected(places[2], client_context(tmp_path)) as (reader, writer),
    ):
        queries = [ask("www.example.com", ident=number) for number in range(300)]
        writer.write(b"".join(len(query).to_bytes(2, "big") + query for query in queries))
        idents = set()
        for _ in queries:
            length = int.from_bytes(await reader.readexactly(2), "big")
            reply = await asyncio.wait_for(reader.readexactly(length), 10)
            assert len(reply) % 468 == 0
            idents.add(parse(reply).header.id)
        assert idents == set(range(300))


async def test_abuse_of_one_transport_leaves_the_others_alone(tmp_path: Path) -> None:
    """While rude clients of DoH are cut off, every transport answers."""
    async with resolver(tmp_path) as (places, _):
        clients = Clients(places, tmp_path)

        async def rude() -> None:
            async with http2(places[3], tmp_path) as client:
                for number in range(1000):
                    client.begin(2 * number + 1, "GET", "/dns-query?dns=AAAA")
                    client.h2.reset_stream(2 * number + 1)
                client.flush()
                assert await client.until_closed() == ErrorCodes.ENHANCE_YOUR_CALM

        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(rude())
            for _ in range(5):
                found = await clients.everywhere(ask("x.bad.example.com"))
                assert {verdict(reply)[0] for reply in found.values()} == {3}


def test_tables_are_whole() -> None:
    """The transports that are compared are all that there are."""
    assert [text.partition(":")[0] for text in TRANSPORTS] == ["udp", "tcp", "tls", "https"]


PROCESS_POLICY = """
version: 1
state_dir: state
dns:
  workers: 1
  listen: ["udp://127.0.0.1:5335", "tls://127.0.0.1:8853", "https://127.0.0.1:8443/dns-query"]
  certificate: {cert: dns.pem, key: dns.key}
proxy: {listen: []}
policy:
  default: {proxy: deny, dns: allow}
  rules:
    - {name: ours, action: deny, to: {domains: [bad.example.com]}}
"""


def openssl(folder: Path) -> None:
    """Make a certificate as an administrator does."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    words += ["-out", str(folder / "dns.pem"), "-keyout", str(folder / "dns.key")]
    subprocess.run(words, check=True, capture_output=True)


@needs_kdig
def test_sighup_renews_the_certificate(internet: Internet) -> None:
    """A whole gateway serves DoT and DoH; a bad renewal is told and changes nothing, a good one is used."""
    folder = internet.folder
    openssl(folder)
    gateway = internet.serve(PROCESS_POLICY)
    trusted = folder / "trusted.pem"

    def denied() -> bool:
        found = []
        for words in (("-p", "8853", "+tls"), ("-p", "8443", "+https")):
            more = (f"+tls-ca={trusted}", f"+tls-hostname={NAME}", "+retry=0", "+time=3", "bad.example.com")
            found.append("status: NXDOMAIN" in internet.run("kdig", "@127.0.0.1", *words, *more).stdout)
        return all(found)

    trusted.write_bytes((folder / "dns.pem").read_bytes())
    assert denied()
    (folder / "dns.pem").write_text("nothing\n")
    os.kill(gateway.pid, signal.SIGHUP)
    log = folder / "gateway.log"
    wait_until(lambda: "the old certificate stays in use" in log.read_text(), "the refusal")
    assert "dns.pem: holds no certificate; give one in PEM form" in log.read_text()
    assert denied()
    openssl(folder)
    assert denied()
    os.kill(gateway.pid, signal.SIGHUP)
    trusted.write_bytes((folder / "dns.pem").read_bytes())
    wait_until(denied, "the new certificate")


def test_a_bad_certificate_at_start_is_one_line(tmp_path: Path) -> None:
    """`gateway dns` with a certificate that cannot be used says so in one line, and ends with 2."""
    (tmp_path / "gateway.yaml").write_text(PROCESS_POLICY)
    gateway = Path(sys.executable).parent / "gateway"
    done = subprocess.run(
        [gateway, "dns", "--config", tmp_path / "gateway.yaml"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    told = [line for line in (done.stdout + done.stderr).splitlines() if "dns.certificate" in line]
    assert len(told) == 1
    assert "dns.pem: No such file or directory; give a PEM file that this user may read" in told[0]
    assert "Traceback" not in done.stderr
