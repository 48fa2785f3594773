"""Pins: an inspected origin has to prove one of the keys that a rule names, whoever signed its certificate."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from cryptography import x509

from addons.pinning import pin_of
from gateway.decision import Reason, Tls
from gateway.policy import Policy
from gateway.rule import HttpConditions, Rule
from tests.integration.proxy_rig import Rig, a_proxy, allow, until
from tests.peers.certificates import Authority
from tests.peers.http_origin import Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate

OTHER = "A" * 43 + "="


class Chain:
    """An origin's certificate, who signed it, and the pins of both keys."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self.trust = authority.file
        self.origin = authority.issue("good.test", "Example", "good.test")
        self.leaf, self.root = (pin_of(x509.load_pem_x509_certificate(each.read_bytes())) for each in
                                (self.origin, self.trust))  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A chain of two certificates."""
    return Chain(tmp_path_factory.mktemp("chain"))


def pinned(*pins: str, paths: tuple[str, ...] = (), name: str = "pinned") -> Rule:
    """Return a rule as the configuration makes it of pins."""
    http = HttpConditions(paths=paths) if paths else None
    return allow("good.test", name=name, pins=pins, tls=Tls.INSPECT, http=http)


async def get(rig: Rig, origin: Origin, *more: str, path: str = "/") -> str:
    """Fetch a page, and return everything that was said."""
    trust = ("--cacert", str(rig.proxy.certificate), "--suppress-connect-headers", "-i")
    return (await rig.curl(*trust, *more, f"https://good.test:{origin.port}{path}")).out


PROVEN = {"its own key": ("leaf",), "the key of who signed it": ("root",), "one of several": ("other", "leaf")}


@pytest.mark.parametrize("name", PROVEN)
async def test_proven(tmp_path: Path, chain: Chain, name: str) -> None:
    """An origin that shows one of the pinned keys, or whose certificate such a key signed, is served."""
    pins = {"leaf": chain.leaf, "root": chain.root, "other": OTHER}
    rule = pinned(*(pins[each] for each in PROVEN[name]))
    async with TlsOrigin(certificate=chain.origin) as origin, a_proxy(tmp_path, rule, trust=chain.trust) as rig:
        assert (await get(rig, origin)).endswith("hello from the origin\n")
        assert rig.ledger.denials == []


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_not_proven(tmp_path: Path, chain: Chain, version: str) -> None:
    """An origin with a trusted certificate and another key gets no request; that is a 403 and one line of its own."""
    rules = pinned(OTHER)
    async with TlsOrigin(certificate=chain.origin) as origin, a_proxy(tmp_path, rules, trust=chain.trust) as rig:
        said = await get(rig, origin, version)
        assert " 403" in said.splitlines()[0]
        assert "x-gateway-reason: certificate-pin" in said.lower()
        assert f"sha256//{chain.leaf}" in said
        await rig.settled()
        (line,) = rig.ledger.lines
        assert (line.decision.reason, line.decision.technique) == (Reason.CERTIFICATE_PIN, ("T1557",))
        assert origin.requests == []


async def test_a_pinned_key_that_proves_nothing(tmp_path: Path, chain: Chain) -> None:
    """A certificate that is only sent along, and signed nothing, proves no pin."""
    stranger = make_certificate(tmp_path / "stranger.pem", "stranger.test").read_bytes()
    certificate = stranger[stranger.index(b"-----BEGIN CERT") :]
    both = tmp_path / "both.pem"
    both.write_bytes(chain.origin.read_bytes() + certificate)
    rule = pinned(pin_of(x509.load_pem_x509_certificate(certificate)))
    async with TlsOrigin(certificate=both) as origin, a_proxy(tmp_path, rule, trust=chain.trust) as rig:
        assert "certificate-pin" in await get(rig, origin)
        assert origin.requests == []


async def test_untrusted_but_pinned(tmp_path: Path, chain: Chain) -> None:
    """A pin is asked for besides a trusted certificate, not in its place."""
    async with TlsOrigin(certificate=chain.origin) as origin, a_proxy(tmp_path, pinned(chain.leaf)) as rig:
        assert "upstream-failure" in await get(rig, origin)
        assert origin.requests == []


async def test_a_connection_that_others_opened(tmp_path: Path, chain: Chain) -> None:
    """A request under pins does not go over a connection that a request without pins has opened."""
    rules = (
        pinned(OTHER, paths=("/secret/**",)),
        allow("good.test", name="rest", http=HttpConditions(paths=("/**",))),
    )
    async with TlsOrigin(certificate=chain.origin) as origin, a_proxy(tmp_path, *rules, trust=chain.trust) as rig:
        said = await get(rig, origin, f"https://good.test:{origin.port}/open", path="/secret/x")
        assert "certificate-pin" in said
        said = await get(rig, origin, f"https://good.test:{origin.port}/secret/x", path="/open")
        assert "hello from the origin" in said
        assert "certificate-pin" in said
        assert not [request for request in origin.requests if b"secret" in request]


async def test_plain_http(tmp_path: Path) -> None:
    """Plain HTTP shows no certificate, so a rule with pins denies it, and no name is looked up."""
    async with Origin() as origin, a_proxy(tmp_path, pinned(OTHER)) as rig:
        assert "certificate-pin" in (await rig.curl("-i", f"http://good.test:{origin.port}/")).out
        assert origin.untouched
        assert rig.ledger.denials == [Reason.CERTIFICATE_PIN]


async def test_report_mode(tmp_path: Path, chain: Chain) -> None:
    """In report mode a missing pin is recorded, and the request served."""
    async with (
        TlsOrigin(certificate=chain.origin) as origin,
        a_proxy(tmp_path, pinned(OTHER), trust=chain.trust) as rig,
    ):
        rig.judge.policy = Policy(rules=[pinned(OTHER)], report=True)
        assert (await get(rig, origin)).endswith("hello from the origin\n")
        await rig.settled()
        reasons = [(line.decision.reason, line.decision.enforced) for line in rig.ledger.lines]
        assert reasons == [(Reason.CERTIFICATE_PIN, False), (Reason.RULE, True)]


async def test_pins_that_change(tmp_path: Path, chain: Chain) -> None:
    """A download under way ends when a reload brings pins that its origin does not prove, and goes on otherwise."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.02)

    rule = pinned(chain.leaf)
    async with (
        TlsOrigin(certificate=chain.origin, behave=drip) as origin,
        a_proxy(tmp_path, rule, trust=chain.trust) as rig,
    ):
        running = asyncio.create_task(get(rig, origin))  # noqa: TID251 -- awaited below
        await until(lambda: origin.connections)
        rig.judge.policy = Policy(rules=[pinned(chain.root)])
        rig.judge.generation += 1
        await asyncio.sleep(0.1)  # several ticks
        assert not running.done()
        rig.judge.policy = Policy(rules=[pinned(OTHER)])
        rig.judge.generation += 1
        await until(lambda: rig.ledger.denials == [Reason.CERTIFICATE_PIN])
        assert (await running).endswith(".")
