"""Tests of `gateway.proxy.secondhello`."""

import asyncio
import ssl
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.decision import Budget, Reason
from gateway.proxy.secondhello import SecondHello, asks_again
from gateway.request import Flaw
from gateway.selfcheck.client import start_tls
from tests.gateway.proxy.samples import Extension, a_hello, a_message, in_records, numbers, server_name, versions
from tests.integration.proxy_rig import a_proxy, allow
from tests.peers.tls_origin import TlsOrigin, make_certificate

RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
P384 = 24
BESIDE = b"\x14\x03\x03\0\1\1"
EARLY = b"\x17\x03\x03\0\x20" + bytes(32)
GOOD, EVIL = a_hello(), a_hello(b"evil.test")


def an_answer(random: bytes) -> bytes:
    """Return the beginning of a ServerHello."""
    return b"\x16\x03\x03\0\x58\x02\0\0\x54\x03\x03" + random + b"\x20"


def test_which_answers_ask_again() -> None:
    """It is known by the random of the ServerHello, as soon as that is there, and at once if it is not."""
    again = an_answer(RETRY)
    assert [asks_again(again[:size]) for size in range(1, 45)] == [None] * 42 + [True] * 2
    for other in (an_answer(bytes(32)), b"\x15\x03\x03\0\x02\x02\x28", b"HTTP/1.1 400", an_answer(RETRY[:31] + b"x")):
        assert asks_again(other) is False


def watched(data: bytes, size: int = 0) -> tuple[Flaw | None, bool]:
    """Read in pieces what a client says when asked for another hello. Returns the flaw, and if more is wanted."""
    second = SecondHello(("good.test",), 100, early=False)
    assert second.hear(an_answer(RETRY), 100) is None
    assert second.watches
    for at in range(0, len(data), size or len(data)):
        if not second.watches:
            break
        if flaw := second.read(data[at : at + (size or len(data))]):
            return flaw, second.watches
    return None, second.watches


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("before", [b"", BESIDE, EARLY + BESIDE])
def test_the_same_name(before: bytes, size: int) -> None:
    """Behind a hello for the same name, nobody looks any longer."""
    assert watched(before + GOOD + EARLY, size) == (None, False)


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("before", [b"", BESIDE, EARLY + BESIDE])
def test_another_name(before: bytes, size: int) -> None:
    """Another name, no name, several, or an encrypted one are a second destination, however they are cut."""
    nameless = in_records(a_message(versions(0x0304)))
    twice = in_records(a_message(server_name(b"good.test", b"evil.test")))
    for hello in (EVIL, in_records(EVIL[5:], 1), nameless, twice, a_hello(b"good.test", (0xFE0D, b""))):
        flaw, _ = watched(before + hello, size)
        assert flaw is not None
        assert flaw.reason is Reason.SNI_MISMATCH


def test_no_hello() -> None:
    """Where another hello is due, nothing else will do; an alert may say that the client gives up."""
    flaw, _ = watched(b"GET / HTTP/1.1")
    assert flaw is not None
    assert flaw.reason is Reason.MALFORMED
    assert watched(b"\x15\x03\x03\0\x02\x02\x28") == (None, True)


def test_ahead_of_the_answer() -> None:
    """Who announced no early data has nothing to say before the server answers; who did is watched from there on."""
    second = SecondHello(("good.test",), 100, early=False)
    assert not second.watches
    assert second.hear(an_answer(RETRY), 101) is not None
    second = SecondHello(("good.test",), 100, early=True)
    assert second.read(EARLY) is None
    assert second.watches
    flaw = second.read(EVIL)
    assert flaw is not None
    assert flaw.reason is Reason.SNI_MISMATCH


def test_most_servers_are_content() -> None:
    """Then nobody looks at what the client says, whatever it is."""
    second = SecondHello(("good.test",), 100, early=True)
    assert second.hear(an_answer(bytes(32)), 1000) is None
    assert not second.watches
    assert not second.awaited


@dataclass(slots=True)
class Choosy(TlsOrigin):
    """Takes keys of one kind alone, which few clients offer unasked."""

    async def secure(self, writer: asyncio.StreamWriter) -> None:
        """Do the handshake."""
        assert self.certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        context.set_ecdh_curve("secp384r1")

        def remember(_: object, name: str | None, __: object) -> None:
            self.server_names.append(name)

        context.sni_callback = remember
        await start_tls(writer, context)


def a_client_hello(name: bytes, *, key: bool, more: tuple[Extension, ...] = ()) -> bytes:
    """Return a ClientHello that OpenSSL goes on with, or asks for another for want of a key."""
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    share = struct.pack(">HH", P384, len(point)) + point if key else b""
    return in_records(
        a_message(
            *(server_name(name), versions(0x0304), numbers(10, P384), numbers(13, 0x0403, 0x0503, 0x0804)),
            *((51, struct.pack(">H", len(share)) + share), *more),
        )
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test", "evil.test")


@pytest.mark.parametrize("budget", [None, Budget(100_000, 3600)])
async def test_honest_clients(tmp_path: Path, certificate: Path, budget: Budget | None) -> None:
    """A client that is asked for another key is served, with a budget and without."""
    async with Choosy(certificate=certificate) as origin, a_proxy(tmp_path, allow("good.test", upload=budget)) as rig:
        ran = await rig.curl("--cacert", str(certificate), f"https://good.test:{origin.port}/x")
        assert (ran.code, ran.out) == (0, "hello from the origin\n")
        assert origin.server_names == ["good.test"] * 2  # asked again
        await rig.settled()
        assert not rig.ledger.denials


@pytest.mark.parametrize("budget", [None, Budget(100_000, 3600)])
@pytest.mark.parametrize("how", ["when asked", "ahead", "in the hello's segment", "in small records"])
async def test_disguised_clients(tmp_path: Path, certificate: Path, how: str, budget: Budget | None) -> None:
    """Whoever names another server when asked for another hello has the tunnel cut, with one line."""
    first, second = a_client_hello(b"good.test", key=False), a_client_hello(b"evil.test", key=True)
    async with Choosy(certificate=certificate) as origin, a_proxy(tmp_path, allow("good.test", upload=budget)) as rig:
        reader, writer = await rig.tunnel(f"good.test:{origin.port}")
        ahead = how.startswith(("ahead", "in the"))
        writer.write(first + second if how.startswith("in the") else first)
        if not ahead:
            assert asks_again(await reader.readexactly(43))
        if not how.startswith("in the"):
            writer.write(BESIDE + (in_records(second[5:], 10) if how.endswith("records") else second))
        try:
            await asyncio.wait_for(reader.read(), 20)
        except ConnectionResetError:
            pass
        writer.close()
        await rig.settled()
        assert rig.ledger.denials == [Reason.SNI_MISMATCH]
        assert len(rig.ledger.lines) == 1
        if not ahead:
            assert origin.server_names == ["good.test"]
