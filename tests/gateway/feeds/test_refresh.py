"""Refreshes against a real server and a real disk: what goes wrong must leave the last good lists in use."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.feeds.catalog import Feed
from gateway.feeds.impact import Denial, Impact
from gateway.feeds.lock import locked
from gateway.feeds.refresh import refresh
from gateway.feeds.report import FeedResult, Outcome, Progress, RefreshReport, Step
from gateway.feeds.snapshot import Snapshot
from gateway.feeds.status import load_status
from gateway.feeds.store import read_line
from tests.peers.feed_server import FeedServer

NOW = 1_700_000_000.0
HOUR = 3600.0
DAY = 86400.0


def names(count: int, prefix: str = "host") -> bytes:
    """Return a list of so many names."""
    return b"".join(f"{prefix}{number}.example\n".encode() for number in range(count))


class Gateway:
    """A publisher, a state directory, and refreshes between them."""

    def __init__(self, server: FeedServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.state = folder / "state"
        self.feeds: dict[str, Feed] = {}
        self.now = NOW

    def feed(self, name: str = "a", **values: object) -> None:
        """Add a feed of domains, published at /NAME."""
        where: dict[str, object] = {} if "path" in values else {"url": f"{self.server.url}/{name}"}
        self.feeds[name] = Feed.model_validate({**where, "format": "domains", "categories": ["malware"], **values})

    async def refresh(self, *, later: float = DAY, **options: Any) -> RefreshReport:
        """Refresh, a day after the last time unless told otherwise."""
        self.now += later
        return await refresh(self.feeds, self.state, now=self.now, **options)

    async def only(self, **options: Any) -> FeedResult:
        """Refresh, and return the result of the one feed."""
        (result,) = (await self.refresh(**options)).feeds
        return result

    def listed(self, name: str) -> bool:
        """Say whether the snapshot on disk lists a name."""
        with Snapshot.open(self.state / "snapshot.egs") as snapshot:
            return bool(snapshot.lookup_name(name)[0])


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """Return a gateway with one published feed of 100 names, not fetched yet."""
    async with FeedServer.running() as server:
        server.publish("/a", names(100), etag='"1"')
        made = Gateway(server, tmp_path)
        made.feed("a")
        yield made


async def test_first_refresh(gateway: Gateway) -> None:
    """A first refresh fetches, compiles and tells what there is."""
    report = await gateway.refresh()
    (result,) = report.feeds
    assert (report.exit_code, report.swapped, report.problem, report.entries) == (0, True, "", 100)
    assert (result.outcome, result.reason, result.entries, result.age) == (Outcome.FRESH, "", 100, 0.0)
    assert report.snapshot == gateway.state / "snapshot.egs"
    assert report.octets == report.snapshot.stat().st_size
    assert gateway.listed("www.host99.example")
    assert read_line(gateway.state, "a", result.version, 100) == "host99.example"
    assert gateway.state.stat().st_mode & 0o777 == 0o700
    assert report.snapshot.stat().st_mode & 0o777 == 0o600


async def test_second_refresh_changes_nothing(gateway: Gateway) -> None:
    """When nothing is new, the server is asked with what is known, and the snapshot stays the file it is."""
    first = await gateway.refresh()
    inode = first.snapshot.stat().st_ino
    second = await gateway.refresh()
    assert (second.exit_code, second.swapped, second.octets) == (0, False, first.octets)
    assert second.snapshot.stat().st_ino == inode
    assert second.feeds[0].outcome is Outcome.UNCHANGED
    assert second.feeds[0].account == first.feeds[0].account
    assert gateway.server.requests[-1][1]["If-None-Match"] == '"1"'


async def test_the_same_content_again(gateway: Gateway) -> None:
    """A server without validators that sends the same list again has nothing new either."""
    gateway.server.publish("/a", names(100))
    await gateway.refresh()
    report = await gateway.refresh()
    assert (report.feeds[0].outcome, report.swapped) == (Outcome.UNCHANGED, False)


async def test_new_content(gateway: Gateway) -> None:
    """A new copy replaces the old one, in the snapshot and on disk."""
    old = await gateway.only()
    gateway.server.publish("/a", names(101, "new"))
    new = await gateway.only()
    assert (new.outcome, new.entries) == (Outcome.FRESH, 101)
    assert gateway.listed("new100.example")
    assert not gateway.listed("host1.example")
    assert read_line(gateway.state, "a", old.version, 1) is None
    assert read_line(gateway.state, "a", new.version, 1) == "new0.example"


async def test_a_feed_is_not_asked_before_its_interval(gateway: Gateway) -> None:
    """A feed is left alone until its interval is over, unless the refresh is forced or the feed has another URL."""
    gateway.feed("a", interval="6h")
    await gateway.refresh()
    asked = len(gateway.server.requests)
    result = await gateway.only(later=5 * HOUR)
    assert (result.outcome, result.reason) == (Outcome.UNCHANGED, "not due before 6h have passed")
    assert result.age == 5 * HOUR
    assert len(gateway.server.requests) == asked
    await gateway.refresh(later=1, force=True)
    assert len(gateway.server.requests) == asked + 1
    await gateway.refresh(later=6 * HOUR - 1)
    assert len(gateway.server.requests) == asked + 2
    await gateway.refresh(later=-DAY)
    assert len(gateway.server.requests) == asked + 3
    gateway.feed("a", interval="6h", url=gateway.server.publish("/b", names(100)))
    await gateway.refresh(later=1)
    assert len(gateway.server.requests) == asked + 4


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda server: server.answers.clear(), "127.0.0.1: HTTP 404 Not Found"),
        (lambda server: server.publish("/a", b"", status=500), "127.0.0.1: HTTP 500 Internal Server Error"),
        (lambda server: server.publish("/a", b"<html>log in</html>"), "127.0.0.1: is a web page"),
        (lambda server: server.publish("/a", b"\0" * 100), "127.0.0.1: is binary"),
        (lambda server: server.publish("/a", b""), "127.0.0.1: is empty"),
        (lambda server: server.publish("/a", names(5000)), "127.0.0.1: is larger than max_bytes (10KiB)"),
        (lambda server: server.publish("/a", names(49)), "127.0.0.1: shrank from 100 to 49 entries"),
        (lambda server: server.publish("/a", names(401)), "127.0.0.1: grew from 100 to 401 entries"),
        (lambda server: server.publish("/a", names(100), cut=True), "127.0.0.1: the connection ended"),
        (lambda server: server.publish("/a", names(100), stall=True), "127.0.0.1: no complete answer within 0.5"),
    ],
)
async def test_a_bad_copy_leaves_the_last_good_one(
    gateway: Gateway, break_it: Callable[[FeedServer], object], reason: str
) -> None:
    """Whatever a server sends instead of its list, the last good copy stays, and the report says why."""
    gateway.feed("a", limits={"max_bytes": "10KiB"})
    await gateway.refresh()
    break_it(gateway.server)
    report = await gateway.refresh(time_limit=0.5)
    (result,) = report.feeds
    assert (report.exit_code, report.swapped, result.outcome) == (1, False, Outcome.KEPT)
    assert result.reason.startswith(reason)
    assert (result.entries, result.age) == (100, DAY)
    assert gateway.listed("host1.example")
    gateway.server.publish("/a", names(120))
    assert (await gateway.only()).outcome is Outcome.FRESH


async def test_a_change_of_size_can_be_accepted(gateway: Gateway) -> None:
    """What shrank too much is taken when somebody has looked at it and says so."""
    await gateway.refresh()
    gateway.server.publish("/a", names(3))
    assert (await gateway.only()).outcome is Outcome.KEPT
    assert (await gateway.only(accept={"a"})).outcome is Outcome.FRESH
    assert not gateway.listed("host50.example")


async def test_a_bad_feed_does_not_touch_the_others(gateway: Gateway) -> None:
    """Feeds fail on their own: the others are refreshed, and a missing one is told as missing."""
    gateway.feed("b")
    report = await gateway.refresh()
    assert [result.outcome for result in report.feeds] == [Outcome.FRESH, Outcome.MISSING]
    assert report.exit_code == 1
    assert gateway.listed("host1.example")
    gateway.server.publish("/b", names(10, "b"))
    gateway.server.answers.pop("/a")
    report = await gateway.refresh()
    assert [result.outcome for result in report.feeds] == [Outcome.KEPT, Outcome.FRESH]
    assert gateway.listed("host1.example")
    assert gateway.listed("b1.example")


async def test_a_mirror_takes_over(gateway: Gateway) -> None:
    """When the publisher fails, or its copy is no good, a mirror is asked."""
    mirror = gateway.server.publish("/mirror", names(101))
    gateway.feed("a", mirrors=[mirror])
    await gateway.refresh()
    for body, status in ((b"", 500), (b"<html>", 200)):
        gateway.server.publish("/a", body, status=status)
        result = await gateway.only()
        assert result.outcome in (Outcome.FRESH, Outcome.UNCHANGED)
        assert (result.reason, result.entries) == ("", 101)


async def test_nothing_could_be_had(gateway: Gateway) -> None:
    """When no list could be had there is no snapshot, and the exit code is 2; an old snapshot stays."""
    gateway.server.answers.clear()
    report = await gateway.refresh()
    assert (report.exit_code, report.problem) == (2, "no list could be had, so none was compiled")
    assert report.feeds[0].outcome is Outcome.MISSING
    assert not report.snapshot.exists()
    gateway.server.publish("/a", names(100))
    await gateway.refresh()
    gateway.feeds.clear()
    gateway.feed("b")
    assert (await gateway.refresh()).exit_code == 2
    assert gateway.listed("host1.example")


async def test_a_pinned_copy(gateway: Gateway) -> None:
    """A copy with another digest than the one given is not used."""
    gateway.feed("a", verify={"sha256": "0" * 64})
    report = await gateway.refresh()
    assert report.exit_code == 2
    assert "not the one given" in report.feeds[0].reason


async def test_offline(gateway: Gateway) -> None:
    """Offline, copies and local files are compiled, and nobody is asked."""
    own = gateway.folder / "own.txt"
    own.write_bytes(b"own.example\n")
    gateway.feed("own", path=str(own))
    report = await gateway.refresh(offline=True)
    assert [(result.outcome, result.reason) for result in report.feeds] == [
        (Outcome.MISSING, "has never been fetched"),
        (Outcome.FRESH, ""),
    ]
    assert gateway.listed("own.example")
    assert gateway.server.requests == []
    await gateway.refresh()
    report = await gateway.refresh(offline=True)
    assert (report.exit_code, report.feeds[0].reason) == (0, "offline")


async def test_local_files(gateway: Gateway) -> None:
    """A local list is read each time, and its last good copy is kept when it cannot be."""
    own = gateway.folder / "own.txt"
    own.write_bytes(b"own.example\n")
    gateway.feeds.clear()
    gateway.feed("own", path=str(own))
    assert (await gateway.only()).outcome is Outcome.FRESH
    assert (await gateway.only(later=1)).outcome is Outcome.UNCHANGED
    own.write_bytes(b"other.example\n")
    assert (await gateway.only(later=1)).outcome is Outcome.FRESH
    assert not gateway.listed("own.example")
    own.unlink()
    result = await gateway.only(later=1)
    assert (result.outcome, result.reason) == (Outcome.KEPT, f"{own}: cannot be read: No such file or directory")
    assert gateway.listed("other.example")
    own.mkdir()
    assert (await gateway.only(later=1)).reason == f"{own}: cannot be read: Is a directory"
    own.rmdir()
    own.write_bytes(b"PK\x03\x04")
    assert (await gateway.only(later=1)).reason == f"{own}: is not the zip file that it claims to be"


async def test_never_block(gateway: Gateway) -> None:
    """A name on a never-block list is not denied, whatever the feeds say, and the report counts it."""
    own = gateway.folder / "never.txt"
    own.write_bytes(b"host7.example\n")
    gateway.feed("never", path=str(own), never_block=True)
    report = await gateway.refresh()
    assert report.feeds[0].dropped == 1
    assert not gateway.listed("host7.example")
    own.write_bytes(b"")
    report = await gateway.refresh(later=1)
    assert (report.feeds[0].dropped, report.swapped) == (0, True)
    assert gateway.listed("host7.example")


async def test_disabled_feeds(gateway: Gateway) -> None:
    """A feed that is switched off is neither fetched nor compiled, and its copies go."""
    gateway.feed("b")
    gateway.server.publish("/b", names(10, "b"))
    await gateway.refresh()
    gateway.feed("b", enabled=False)
    report = await gateway.refresh()
    assert [result.name for result in report.feeds] == ["a"]
    assert not gateway.listed("b1.example")
    assert not (gateway.state / "feeds/b").exists()


async def test_no_feeds(gateway: Gateway) -> None:
    """Without any feed, the snapshot is an empty one."""
    gateway.feeds.clear()
    report = await gateway.refresh()
    assert (report.exit_code, report.swapped, report.entries) == (0, True, 0)


async def test_another_format_is_judged_anew(gateway: Gateway) -> None:
    """A feed whose format was changed is sent and judged again, although nothing in it is new."""
    await gateway.refresh()
    gateway.feed("a", format="hosts", interval="7d")
    result = await gateway.only(later=1)
    assert result.outcome is Outcome.KEPT
    assert "is hardly a list in format hosts" in result.reason


@pytest.mark.parametrize("content", [b"", b"{", b"EGWSNAP1"])
async def test_leftovers_of_a_crash(gateway: Gateway, content: bytes) -> None:
    """Half-written files of a refresh that was killed are replaced, and what they hold is fetched again."""
    result = await gateway.only()
    (gateway.state / "feeds/a/state.json").write_bytes(content)
    (gateway.state / "snapshot.egs").write_bytes(content)
    (gateway.state / ".tmp-snapshot.egs").write_bytes(content)
    report = await gateway.refresh()
    assert (report.exit_code, report.swapped, report.feeds[0].outcome) == (0, True, Outcome.UNCHANGED)
    assert gateway.listed("host1.example")
    (gateway.state / "feeds/a" / f"{result.version}.list").write_bytes(content)
    report = await gateway.refresh()
    assert (report.exit_code, report.feeds[0].outcome) == (0, Outcome.FRESH)
    assert json.loads((gateway.state / "feeds/a/state.json").read_text())["version"] == result.version


async def test_a_feed_that_fails_is_left_alone(gateway: Gateway) -> None:
    """After a failure a feed is asked again later and later, unless forced, and the reason stays known."""
    await gateway.refresh()
    gateway.server.publish("/a", b"", status=503)
    await gateway.refresh()
    asked = len(gateway.server.requests)
    result = await gateway.only(later=100)
    assert result.reason == (
        "not asked for another 200s after 1 attempt that failed: 127.0.0.1: HTTP 503 Service Unavailable"
    )
    assert len(gateway.server.requests) == asked
    await gateway.refresh(later=201)
    assert len(gateway.server.requests) == asked + 1
    assert "after 2 attempts that failed: 127.0.0.1: HTTP 503" in (await gateway.only(later=301)).reason
    gateway.server.publish("/a", names(100))
    assert (await gateway.only(later=1, force=True)).outcome is Outcome.UNCHANGED
    status = load_status(gateway.state).feeds["a"]
    assert (status.failures, status.reason, status.age(gateway.now)) == (0, "", 0.0)


async def test_offline_nothing_is_learned_about_publishers(gateway: Gateway) -> None:
    """A gateway that starts compiles what there is; how its feeds did when they were last asked stays known."""
    await gateway.refresh()
    gateway.server.publish("/a", b"", status=503)
    await gateway.refresh()
    await gateway.refresh(later=60, offline=True)
    status = load_status(gateway.state).feeds["a"]
    assert (status.outcome, status.failures, status.reason) == ("kept", 1, "127.0.0.1: HTTP 503 Service Unavailable")


async def test_a_missing_never_block_list_holds_new_lists_back(gateway: Gateway) -> None:
    """Without a copy of a never-block list nothing new is put in force, but for the very first time."""
    gateway.feed("never", never_block=True, categories=[])
    report = await gateway.refresh()
    assert (report.swapped, report.exit_code) == (True, 1)
    gateway.server.publish("/a", names(101, "new"))
    report = await gateway.refresh()
    assert (report.swapped, report.exit_code) == (False, 2)
    assert report.problem.startswith("never-block list never has never been had")
    assert gateway.listed("host1.example")
    gateway.server.publish("/never", b"new7.example\n")
    report = await gateway.refresh()
    assert (report.swapped, report.exit_code, report.feeds[0].dropped) == (True, 0, 1)
    gateway.server.answers.pop("/never")
    gateway.server.publish("/a", names(102, "new"))
    report = await gateway.refresh()
    assert (report.swapped, report.feeds[0].entries) == (True, 101), "the last good copy of it goes on protecting"


async def test_a_preview_changes_nothing(gateway: Gateway) -> None:
    """A preview fetches and compiles, and leaves everything as it was."""
    await gateway.refresh()
    before = {path: path.stat().st_mtime_ns for path in gateway.state.rglob("*.json")}
    inode = (gateway.state / "snapshot.egs").stat().st_ino
    gateway.server.publish("/a", names(101, "new"))
    report = await gateway.refresh(preview=True)
    assert (report.swapped, report.feeds[0].outcome, report.entries) == (False, Outcome.FRESH, 101)
    assert (gateway.state / "snapshot.egs").stat().st_ino == inode
    assert {path: path.stat().st_mtime_ns for path in gateway.state.rglob("*.json")} == before
    assert (await gateway.refresh()).swapped


class Witness:
    """Says of some names that they were allowed of late, and remembers swaps."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.swaps: list[tuple[bool, int]] = []

    def impact(self, old: Snapshot, new: Snapshot) -> Impact:
        """Deny what is newly listed."""
        denials = []
        for name in self.names:
            if (found := new.lookup_name(name)[0]) and not old.lookup_name(name)[0]:
                match = new.match_name(name, found)
                assert match is not None
                denials.append(Denial("10.0.0.1", name, match.list, match.entry, match.line, "r"))
        return Impact(len(self.names), tuple(denials))

    def swapped(self, old: Snapshot | None, new: Snapshot) -> None:
        """Remember."""
        self.swaps.append((old is not None, new.size))


async def test_a_feed_that_would_deny_too_much_of_what_is_used(gateway: Gateway) -> None:
    """A new copy that hits too many destinations of the day is not put in force; other feeds are; a person may."""
    gateway.feed("b")
    gateway.server.publish("/b", names(10, "b"))
    used = Witness(
        *[f"new{number}.example" for number in range(5)], *[f"other{number}.example" for number in range(9)]
    )
    await gateway.refresh(watcher=used)
    assert used.swaps == [(False, used.swaps[0][1])]
    gateway.server.publish("/a", names(100, "new"))
    gateway.server.publish("/b", names(11, "b"))
    report = await gateway.refresh(watcher=used)
    assert [(result.name, result.outcome) for result in report.feeds] == [("a", Outcome.KEPT), ("b", Outcome.FRESH)]
    assert report.feeds[0].reason.startswith("would newly deny 5 of 14 destinations that were allowed")
    assert (report.swapped, report.impact) == (True, Impact(14, ()))
    assert gateway.listed("host1.example")
    assert gateway.listed("b10.example")
    assert not gateway.listed("new1.example")
    preview = await gateway.refresh(watcher=used, preview=True)
    assert preview.impact is not None
    assert len(preview.impact.denials) == 5
    report = await gateway.refresh(watcher=used, accept=["a"])
    assert (report.feeds[0].outcome, gateway.listed("new1.example")) == (Outcome.FRESH, True)


async def test_a_few_denials_are_what_a_feed_is_for(gateway: Gateway) -> None:
    """However little was recorded, a feed may deny some of it."""
    await gateway.refresh()
    gateway.server.publish("/a", names(100, "new"))
    report = await gateway.refresh(watcher=Witness("new1.example", "new2.example", "new3.example"))
    assert report.feeds[0].outcome is Outcome.FRESH
    assert report.impact is not None
    assert len(report.impact.denials) == 3


async def test_killed_before_the_swap(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a refresh ends between the last copy and the snapshot, the next one makes up for it."""
    await gateway.refresh()
    gateway.server.publish("/a", names(101, "new"))

    def killed(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("gateway.feeds.refresh.compile_lists", killed)
    with pytest.raises(RuntimeError):
        await gateway.refresh()
    assert gateway.listed("host1.example")
    monkeypatch.undo()
    report = await gateway.refresh(later=1)
    assert (report.swapped, report.feeds[0].outcome) == (True, Outcome.FRESH)
    assert gateway.listed("new100.example")


async def test_a_full_disk(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing can be written, the report says so in one line and the last good snapshot stays."""
    await gateway.refresh()
    gateway.server.publish("/a", names(101, "new"))

    def full(path: Path, _: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("gateway.feeds.store.write_atomically", full)
    result = await gateway.only()
    assert result.outcome is Outcome.KEPT
    assert result.reason.endswith("No space left on device")
    monkeypatch.undo()
    monkeypatch.setattr("gateway.feeds.refresh.write_atomically", full)
    report = await gateway.refresh()
    assert (report.exit_code, report.problem) == (2, f"{gateway.state}/snapshot.egs: No space left on device")
    assert gateway.listed("host1.example")


async def test_a_state_directory_that_is_none(gateway: Gateway) -> None:
    """When the state directory cannot be made, the report says so in one line."""
    gateway.state.write_bytes(b"")
    report = await gateway.refresh()
    assert (report.exit_code, report.problem) == (2, f"{gateway.state}: File exists")


async def test_one_refresh_at_a_time(gateway: Gateway) -> None:
    """A second refresh waits, and gives up with the process that it waited for."""
    await gateway.refresh()
    async with locked(gateway.state / "refresh.lock", 1):
        report = await gateway.refresh(lock_wait=0.2)
    assert report.exit_code == 2
    assert "another refresh (process" in report.problem


async def test_progress(gateway: Gateway) -> None:
    """Who shows progress hears of each fetch, each result, and the compiling."""
    told: list[Progress] = []
    await gateway.refresh(progress=told.append)
    assert [event.step for event in told] == [Step.FETCHING, Step.FETCHING, Step.DONE] + [Step.COMPILING] * 2
    assert (told[-1].octets, told[-1].expected) == (len(names(100)),) * 2
    assert told[1].octets == told[1].expected == len(names(100))
    assert told[2].outcome is Outcome.FRESH
