"""Bypass 5, over one HTTP/2 connection: each stream is a request of its own. Single requests are in the battery."""

import re
from pathlib import Path

import pytest

from gateway.decision import Reason
from gateway.selfcheck import http2
from gateway.selfcheck.client import hear, start_tls
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import Rig, client_context
from tests.peers.tls_origin import TlsOrigin, make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "seen.test", "evil.test")


def asking(authority: str, path: str = "/", *more: tuple[bytes, bytes]) -> http2.Fields:
    """Return the fields of a request."""
    named = (b":authority", authority.encode())
    return ((b":method", b"POST"), (b":scheme", b"https"), (b":path", path.encode()), named, *more)


async def over_http2(rig: Rig, port: int, sent: bytes) -> bytes:
    """Send frames inside an inspected tunnel, and return what was answered."""
    reader, writer = await rig.tunnel(f"seen.test:{port}")
    await start_tls(writer, client_context(rig.proxy.certificate, alpn=("h2",)), "seen.test")
    writer.write(http2.begin() + sent)
    heard = await hear(reader, 0.6)
    writer.transport.abort()
    await rig.settled()
    return http2.told(heard)


async def test_several_authorities(tmp_path: Path, certificate: Path) -> None:
    """5: on one connection, streams to the tunnel's host are served and streams to others are not."""
    async with TlsOrigin(certificate=certificate) as origin, a_world(tmp_path, trust=certificate) as world:
        here, there = f"seen.test:{origin.port}", f"evil.test:{world.evil.port}"
        streams = [asking(here, "/1"), asking(there, "/2"), asking("evil.test", "/3"), asking(here, "/4")]
        answer = await over_http2(world.rig, origin.port, http2.requests(*streams))
        assert sorted(re.findall(rb"HTTP/2 (\d+)", answer)) == [b"200", b"200", b"403", b"403"]
        assert sorted(request.split()[1] for request in origin.requests) == [b"/1", b"/4"]
        assert world.rig.ledger.denials == [Reason.HOST_MISMATCH] * 2
        assert len(world.rig.ledger.lines) == 4
        assert world.evil.untouched


@pytest.mark.parametrize("body", [b"abc", b"abcdefgh"], ids=["shorter", "longer"])
async def test_another_length(tmp_path: Path, certificate: Path, body: bytes) -> None:
    """26: a body that is not as long as it says is not the beginning or the end of another request's."""
    async with TlsOrigin(certificate=certificate) as origin, a_world(tmp_path, trust=certificate) as world:
        here = f"seen.test:{origin.port}"
        first = http2.requests(asking(here, "/1", (b"content-length", b"5")), ended=False)
        ended = http2.data(body, ended=True)
        await over_http2(world.rig, origin.port, first + ended)
        assert origin.requests == []
        assert world.rig.ledger.denials == [Reason.MALFORMED]
        assert len(world.rig.ledger.lines) == 1


async def test_a_stream_that_is_malformed(tmp_path: Path, certificate: Path) -> None:
    """5: what cannot be read on one stream ends the connection, and what is under way on it, with a line for each."""
    async with TlsOrigin(certificate=certificate) as origin, a_world(tmp_path, trust=certificate) as world:
        here = f"seen.test:{origin.port}"
        open_one = http2.requests(asking(here, "/1"), asking(here, "/2 HTTP/1.1"), ended=False)
        answer = await over_http2(world.rig, origin.port, open_one)
        assert answer.startswith(b"GOAWAY ")
        assert origin.requests == []
        assert world.rig.ledger.denials == [Reason.MALFORMED]
        assert len(world.rig.ledger.lines) == 1
