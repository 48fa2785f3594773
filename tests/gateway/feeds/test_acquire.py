"""Getting one list, and proving where it comes from. What goes wrong with all of them is in test_refresh."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.feeds.acquire import flaw_of_origin
from gateway.feeds.catalog import Feed, Verify
from gateway.feeds.refresh import refresh
from gateway.feeds.report import FeedResult, Outcome
from tests.peers.feed_server import FeedServer

LIST = b"".join(b"host%d.example\n" % number for number in range(100))
SECRET = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = base64.b64encode(SECRET.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


@pytest.fixture
async def server() -> AsyncIterator[FeedServer]:
    """Return a running publisher."""
    async with FeedServer.running() as running:
        yield running


async def get(state: Path, feed: Feed, now: float = 1e9) -> FeedResult:
    """Refresh one feed."""
    report = await refresh({"a": feed}, state, now=now)
    (result,) = report.feeds
    return result


def signed(server: FeedServer, **more: object) -> Feed:
    """Return a feed that has to be signed."""
    return Feed.model_validate(
        {"url": f"{server.url}/a?key=1", "format": "domains", "verify": {"ed25519": KEY}, **more}
    )


async def test_a_signed_list(server: FeedServer, tmp_path: Path) -> None:
    """A signed list is believed, and one that is not what was signed is not; the last good copy stays."""
    server.publish("/a", LIST)
    server.publish("/a.sig", SECRET.sign(LIST))
    assert (await get(tmp_path, signed(server))).outcome is Outcome.FRESH
    assert [path for path, _ in server.requests] == ["/a", "/a.sig"]
    server.publish("/a", LIST + b"x.example\n")
    result = await get(tmp_path, signed(server), 1.1e9)
    assert (result.outcome, result.entries) == (Outcome.KEPT, 100)
    assert result.reason == "127.0.0.1: has an Ed25519 signature that does not fit"


async def test_a_list_without_its_signature(server: FeedServer, tmp_path: Path) -> None:
    """A signature that cannot be had is one that does not fit, and the next mirror is asked."""
    server.publish("/a", LIST)
    result = await get(tmp_path, signed(server))
    assert result.reason == "127.0.0.1: its signature (.sig) cannot be had: HTTP 404 Not Found"
    mirror = server.publish("/mirror", LIST)
    server.publish("/mirror.sig", base64.b64encode(SECRET.sign(LIST)))
    assert (await get(tmp_path, signed(server, mirrors=[mirror]), 1.1e9)).outcome is Outcome.FRESH


async def test_proof_that_is_wanted_later(server: FeedServer, tmp_path: Path) -> None:
    """A copy from before its publisher's key was given is sent again, to be proven."""
    server.publish("/a", LIST, etag='"1"')
    feed = Feed.model_validate({"url": f"{server.url}/a?key=1", "format": "domains"})
    await get(tmp_path, feed)
    server.publish("/a.sig", SECRET.sign(LIST))
    assert (await get(tmp_path, signed(server), 1.1e9)).outcome is Outcome.UNCHANGED
    assert "If-None-Match" not in server.requests[-2][1]
    await get(tmp_path, signed(server), 1.2e9)
    assert server.requests[-1][1]["If-None-Match"] == '"1"', "proven once, it is asked for as any other"


async def test_local_files_are_proven_too(tmp_path: Path) -> None:
    """A local list has its signature beside it."""
    file = tmp_path / "own.txt"
    file.write_bytes(LIST)
    feed = Feed.model_validate({"path": str(file), "format": "domains", "verify": {"ed25519": KEY}})
    missing = await get(tmp_path / "state", feed)
    assert missing.reason == f"{file}.sig: cannot be read: No such file or directory"
    (tmp_path / "own.txt.sig").write_bytes(SECRET.sign(LIST))
    assert (await get(tmp_path / "state", feed)).outcome is Outcome.FRESH


def test_every_proof_has_to_fit() -> None:
    """With several proofs the first that fails is told."""
    verify = Verify(sha256="0" * 64, ed25519=KEY)
    assert "SHA-256" in flaw_of_origin(LIST, {".sig": SECRET.sign(LIST)}, verify)
    assert flaw_of_origin(LIST, {".sig": SECRET.sign(LIST)}, Verify(ed25519=KEY)) == ""
    assert flaw_of_origin(LIST, {}, Verify()) == ""
