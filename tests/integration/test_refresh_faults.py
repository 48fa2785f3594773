"""Everything that a publisher can do wrong: what was denied stays denied, what was allowed stays allowed."""

import base64
import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.feeds.catalog import Feed, load_catalog
from gateway.feeds.refresh import refresh
from gateway.feeds.report import Outcome, RefreshReport
from gateway.feeds.snapshot import Snapshot
from tests.peers.feed_server import FeedServer

SEED = load_catalog(Path(__file__).parents[2] / "blocklists" / "seed.yaml")
LIST = b"".join(b"evil%d.example\n" % number for number in range(200))
OTHER = b"".join(b"phish%d.example\n" % number for number in range(50))
POISON = b"aws.com\ns3.amazonaws.com\nco.uk\n*\n*.\n*.com\n.\n0.0.0.0/0\n::/0\n"
DENIED = ("evil1.example", "www.evil199.example", "phish1.example")
ALLOWED = ("aws.com", "s3.amazonaws.com", "www.bbc.co.uk", "co.uk", "deb.debian.org", "good.example", "example.com")
SECRET = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = base64.b64encode(SECRET.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


@pytest.fixture
async def server() -> AsyncIterator[FeedServer]:
    """Return a publisher of two lists, one of them signed."""
    async with FeedServer.running() as running:
        running.publish("/feed", LIST, etag='"1"')
        running.publish("/feed.sig", SECRET.sign(LIST))
        running.publish("/other", OTHER)
        running.publish("/mirror", LIST + b"fresh.example\n")
        yield running


type Fault = Callable[[FeedServer], object]

FAULTS: dict[str, tuple[Fault, str]] = {
    "404": (lambda server: server.answers.pop("/feed"), "HTTP 404 Not Found"),
    "500": (lambda server: server.publish("/feed", b"", status=500), "HTTP 500 Internal Server Error"),
    "200 and empty": (lambda server: server.publish("/feed", b""), "is empty"),
    "a web page": (lambda server: server.publish("/feed", b"<!doctype html><p>locked"), "is a web page"),
    "truncated": (lambda server: server.publish("/feed", LIST[:-50], cut=True), "the connection ended"),
    "ten times the size": (
        lambda server: server.publish("/feed", b"".join(b"x%d.example\n" % number for number in range(2000))),
        "grew from 200 to 2000 entries",
    ),
    "a tenth of the size": (lambda server: server.publish("/feed", LIST[:300]), "shrank from 200 to"),
    "a slow drip": (lambda server: server.publish("/feed", LIST, drip=True), "no complete answer within 1 seconds"),
    "endless": (lambda server: server.publish("/feed", LIST, endless=True), "is larger than max_bytes (1MiB)"),
    "a gzip bomb": (lambda server: server.publish_gzip("/feed", bytes(300_000_000)), "is larger than max_bytes"),
    "a gzip bomb as a file": (
        lambda server: server.publish("/feed", gzip.compress(bytes(300_000_000))),
        "is larger than max_bytes",
    ),
    "redirected for ever": (
        lambda server: server.publish("/feed", b"", status=302, headers={"Location": "/feed"}),
        "more than 5 redirects",
    ),
    "a wrong signature": (lambda server: server.publish("/feed.sig", SECRET.sign(OTHER)), "does not fit"),
    "mostly poison": (
        lambda server: server.publish("/feed", LIST + b"".join(b"*.co%d.uk\nco.uk\n" % n for n in range(20))),
        "would deny what no list may deny",
    ),
}


class World:
    """A state directory with lists from a publisher, a second publisher, and the seed."""

    def __init__(self, server: FeedServer, state: Path) -> None:
        self.server, self.state, self.now = server, state, 1e9

    async def refresh(self, **more: object) -> RefreshReport:
        """Refresh a day later."""
        self.now += 86400
        limits = {"max_bytes": "1MiB"}
        feed = {"url": f"{self.server.url}/feed", "format": "domains", "categories": ["c2"], "limits": limits, **more}
        feeds = {
            "feed": Feed.model_validate(feed),
            "other": Feed.model_validate({"url": f"{self.server.url}/other", "format": "domains"}),
            "never": SEED["seed-never-block"],
        }
        return await refresh(feeds, self.state, now=self.now, time_limit=1.0)

    def check(self) -> None:
        """Look whether the same is denied and allowed as before."""
        with Snapshot.open(self.state / "snapshot.egs") as snapshot:
            assert [name for name in DENIED if not snapshot.lookup_name(name)[0]] == []
            assert [name for name in ALLOWED if snapshot.lookup_name(name)[0]] == []


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_fault_changes_nothing(server: FeedServer, tmp_path: Path, fault: Fault, reason: str) -> None:
    """The feed keeps its last good copy, the others are refreshed, and the report names the feed and the reason."""
    world = World(server, tmp_path)
    signed = {"verify": {"ed25519": KEY}} if "signature" in reason or "does not fit" in reason else {}
    assert (await world.refresh(**signed)).exit_code == 0
    world.check()
    server.answers["/feed"].etag = ""  # so that it is sent again
    fault(server)
    server.publish("/other", OTHER + b"phish-new.example\n")
    report = await world.refresh(**signed)
    assert report.exit_code == 1
    assert [(feed.name, feed.outcome) for feed in report.feeds[:2]] == [
        ("feed", Outcome.KEPT),
        ("other", Outcome.FRESH),
    ]
    assert reason in report.feeds[0].reason
    assert "127.0.0.1" in report.feeds[0].reason
    world.check()
    with Snapshot.open(tmp_path / "snapshot.egs") as snapshot:
        assert snapshot.lookup_name("phish-new.example")[0]


async def test_poison_in_a_good_list(server: FeedServer, tmp_path: Path) -> None:
    """A few entries that no list may have are left out and reported; the rest of the list is in force."""
    world = World(server, tmp_path)
    await world.refresh()
    server.publish("/feed", LIST + POISON + b"evil-new.example\n")
    report = await world.refresh()
    feed = report.feeds[0]
    assert (report.exit_code, feed.outcome, feed.entries) == (0, Outcome.FRESH, 201)
    assert feed.account is not None
    assert feed.account.dropped == {"never-block": 2, "public suffix": 1}
    assert sum(feed.account.rejected.values()) == 5, "stars, roots and networks of everything are no names"
    world.check()


async def test_a_mirror_takes_over(server: FeedServer, tmp_path: Path) -> None:
    """When the publisher fails, a mirror's copy is used, newer or not."""
    world = World(server, tmp_path)
    await world.refresh()
    server.publish("/feed", b"<html>", status=200)
    report = await world.refresh(mirrors=[f"{server.url}/gone", f"{server.url}/mirror"])
    assert (report.exit_code, report.feeds[0].outcome, report.feeds[0].entries) == (0, Outcome.FRESH, 201)
    world.check()


async def test_everything_is_down(server: FeedServer, tmp_path: Path) -> None:
    """With every publisher gone, what was last had stays in force; from nothing, the seed lists are."""
    world = World(server, tmp_path)
    await world.refresh()
    server.answers.clear()
    assert (await world.refresh()).exit_code == 1
    world.check()
    feeds = {"feed": Feed.model_validate({"url": f"{server.url}/feed", "format": "domains"}), **SEED}
    report = await refresh(feeds, tmp_path / "cold", now=1e9)
    assert (report.exit_code, report.swapped) == (1, True)
    with Snapshot.open(tmp_path / "cold" / "snapshot.egs") as snapshot:
        assert snapshot.lookup_name("dns.google")[0]
