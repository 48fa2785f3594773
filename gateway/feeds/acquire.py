"""Getting one list: from its publisher, a mirror or this disk, and only what is believed.

Stores copies, and nothing about them: which copy is the last good one is written down when all lists are compiled
(`gateway.feeds.refresh`), so a copy that is refused late leaves no trace.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.feeds.catalog import Feed, Verify
from gateway.feeds.compile import Reading
from gateway.feeds.fetch import Failed, Fetched, Sessions, Validators, fetch, fetch_any
from gateway.feeds.guards import Judgement, flaw_of_content, judge, version_of
from gateway.feeds.packing import unpack_file
from gateway.feeds.protected import NeverBlock
from gateway.feeds.publickeys import parse_ed25519_key, parse_minisign_key
from gateway.feeds.report import Outcome, Progress, Step
from gateway.feeds.status import FeedStatus
from gateway.feeds.store import FeedState, Store
from gateway.feeds.verification import MAX_SIGNATURE, flaw_of_digest, flaw_of_ed25519, flaw_of_minisign
from gateway.units import render_duration

_EARLY = 0.95
"""Part of the interval after which a feed is due: a cron job never starts at quite the same second."""


@dataclass(frozen=True, slots=True)
class Update:
    """What was found out about one feed before compiling."""

    outcome: Outcome
    reason: str
    state: FeedState | None
    """Of the copy to compile; None when there is none."""
    previous: FeedState | None = None
    """Of the last good copy, as it is written down."""
    asked: bool = False
    """Its publisher was asked, and it matters whether that went well."""
    retry_after: float = 0.0
    reading: Reading | None = None
    """Of the copy to compile, if it was read to be judged."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Gets lists, for one refresh."""

    store: Store
    sessions: Sessions
    now: float
    offline: bool
    force: bool
    accept: frozenset[str]
    time_limit: float
    key: bytes
    """Of the snapshot to come."""
    progress: Callable[[Progress], None]

    async def get(self, name: str, feed: Feed, status: FeedStatus, never_block: NeverBlock | None) -> Update:
        """Return the copy of one feed to compile. `never_block` is what its entries are held against, if at all."""
        state = await asyncio.to_thread(self.store.state, name, feed.format, feed.column)
        one = _One(self, name, feed, state, never_block)
        try:
            if feed.path is not None:
                return await asyncio.to_thread(one.take_local, feed.path)
            if self.offline:
                return one.kept("") if state is None else Update(Outcome.UNCHANGED, "offline", state, state)
            return await one.fetch(status)
        except OSError as error:  # of the copy, such as a full disk
            return one.kept(f"{error.filename or name}: {error.strerror or error}")


@dataclass(frozen=True, slots=True)
class _One:
    """One feed, while it is got."""

    run: Acquisition
    name: str
    feed: Feed
    state: FeedState | None
    never_block: NeverBlock | None

    @property
    def _same_reading(self) -> bool:
        # The size says something only about the same list, read in the same way.
        state, feed = self.state, self.feed
        return state is not None and (state.format, state.column) == (feed.format, feed.column)

    def kept(self, reason: str, *, asked: bool = False, retry_after: float = 0.0) -> Update:
        """Return the last good copy, if there is one."""
        if self.state is None:
            reason = reason or "has never been fetched"
            return Update(Outcome.MISSING, reason, None, None, asked, retry_after)
        return Update(Outcome.KEPT, reason, self.state, self.state, asked, retry_after)

    def take_local(self, path: Path) -> Update:
        """Read a local file."""
        limit = self.feed.limits.max_bytes
        try:
            with path.open("rb") as file:
                published = file.read(limit + 1)
            signatures = {
                suffix: path.with_name(path.name + suffix).read_bytes()[:MAX_SIGNATURE]
                for suffix in self.feed.verify.signatures
            }
        except OSError as error:
            return self.kept(f"{error.filename or path}: cannot be read: {error.strerror or error}")
        try:
            flaw, data = flaw_of_origin(published, signatures, self.feed.verify), unpack_file(published, limit)
        except ValueError as error:
            return self.kept(f"{path}: {error}")
        judged = self._judge(data) if not flaw else Judgement(0, 0, flaw)
        if judged.flaw:
            return self.kept(f"{path}: {judged.flaw}")
        return self._take(data, judged, Validators(url=""), asked=False)

    async def fetch(self, status: FeedStatus) -> Update:
        """Ask the publisher, if it is time to."""
        run, feed, state = self.run, self.feed, self.state
        patient = not run.force and self.name not in run.accept
        if state is not None and self._same_reading and state.url in feed.urls and patient:
            due = state.last_success + feed.interval * _EARLY
            # A time of success in the future is a clock that was set back, not a reason to wait for it.
            if state.last_success <= run.now < due:
                reason = f"not due before {render_duration(feed.interval)} have passed"
                return Update(Outcome.UNCHANGED, reason, state, state)
        if patient and (wait := status.wait(feed.interval * _EARLY, run.now)):
            failures = f"{status.failures} attempt{'s' * (status.failures > 1)}"
            return self.kept(
                f"not asked for another {render_duration(round(wait))} after {failures} that failed: {status.reason}"
            )
        judged = Judgement(0, 0)

        async def flaw_of(found: Fetched) -> str:
            nonlocal judged
            flaw = await self._flaw_of_origin(found)
            judged = Judgement(0, 0, flaw) if flaw else await asyncio.to_thread(self._judge, found.data)
            return judged.flaw

        run.progress(Progress(Step.FETCHING, self.name))
        known = None
        # A copy that will be read in another way, or must be proven in another way, is sent and judged anew.
        if state is not None and self._same_reading and state.origin == feed.verify.origin:
            known = Validators(url=state.url, etag=state.etag, last_modified=state.last_modified)
        found = await fetch_any(
            run.sessions,
            feed.urls,
            known=known,
            max_bytes=feed.limits.max_bytes,
            time_limit=run.time_limit,
            flaw_of=flaw_of,
            received=lambda octets, expected: run.progress(Progress(Step.FETCHING, self.name, octets, expected)),
        )
        if isinstance(found, Failed):
            return self.kept(found.reason, asked=True, retry_after=found.retry_after or 0.0)
        if isinstance(found, Fetched):
            return await asyncio.to_thread(self._take, found.data, judged, found.validators, asked=True)
        if state is None:
            return self.kept("said that nothing has changed, and was not asked", asked=True)
        return Update(Outcome.UNCHANGED, "", replace(state, last_success=run.now), state, asked=True)

    async def _flaw_of_origin(self, found: Fetched) -> str:
        signatures = {}
        for suffix in self.feed.verify.signatures:
            # A query is part of the address of the list, and of that of its signature.
            address, mark, query = found.validators.url.partition("?")
            signature = await fetch(
                self.run.sessions,
                f"{address}{suffix}{mark}{query}",
                known=None,
                max_bytes=MAX_SIGNATURE,
                time_limit=self.run.time_limit,
            )
            if not isinstance(signature, Fetched):
                reason = signature.reason if isinstance(signature, Failed) else "nothing"
                return f"its signature ({suffix}) cannot be had: {reason}"
            signatures[suffix] = signature.published
        return await asyncio.to_thread(flaw_of_origin, found.published, signatures, self.feed.verify)

    def _judge(self, data: bytes) -> Judgement:
        state, feed = self.state, self.feed
        never_block = None if self.name in self.run.accept else self.never_block
        if state is None or not self._same_reading:
            return judge(data, feed, before=None, now=self.run.now, never_block=never_block, key=self.run.key)
        if state.version == version_of(data):
            return Judgement(state.entries, state.rejected, flaw_of_content(data, feed))
        before = None if self.name in self.run.accept else state.entries
        return judge(data, feed, before=before, now=self.run.now, never_block=never_block, key=self.run.key)

    def _take(self, data: bytes, judged: Judgement, validators: Validators, *, asked: bool) -> Update:
        state, now = self.state, self.run.now
        version = version_of(data)
        changed = state is None or state.version != version
        new = FeedState(
            version=version,
            format=self.feed.format,
            column=self.feed.column,
            url=validators.url,
            etag=validators.etag,
            last_modified=validators.last_modified,
            entries=judged.entries,
            rejected=judged.rejected,
            origin=self.feed.verify.origin,
            last_success=now,
            last_change=now if state is None or changed else state.last_change,
        )
        self.run.store.save_copy(self.name, data, new)
        return Update(Outcome.FRESH if changed else Outcome.UNCHANGED, "", new, state, asked, reading=judged.reading)


def flaw_of_origin(published: bytes, signatures: dict[str, bytes], verify: Verify) -> str:
    """Return what is wrong with where a file comes from, or nothing; `signatures` by the ends of their names."""
    flaw = ""
    if verify.sha256 is not None:
        flaw = flaw_of_digest(published, verify.sha256)
    if not flaw and verify.minisign is not None:
        flaw = flaw_of_minisign(published, signatures[".minisig"], parse_minisign_key(verify.minisign))
    if not flaw and verify.ed25519 is not None:
        flaw = flaw_of_ed25519(published, signatures[".sig"], parse_ed25519_key(verify.ed25519))
    return flaw
