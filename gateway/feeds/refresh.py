"""A refresh: get every list, keep the last good copy of those that cannot be had, compile, and swap the snapshot.

One process at a time. Whatever fails, and at whatever instant, the last good snapshot stays in its place: new files
are only ever moved over old ones, the snapshot last of all, and old copies are removed after that. Compiling keeps
one processor busy for seconds: a server runs it in a process of its own.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from gateway.feeds.catalog import Feed
from gateway.feeds.compile import Account, Source, accounts_of, compile_lists, fingerprint
from gateway.feeds.fetch import Failed, Fetched, Validators, fetch_any, open_session
from gateway.feeds.guards import Judgement, flaw_of_content, judge, version_of
from gateway.feeds.lock import Busy, locked
from gateway.feeds.report import FeedResult, Outcome, Progress, RefreshReport, Step
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.feeds.store import FeedState, Store, write_atomically
from gateway.units import render_duration

TIME_LIMIT: Final = 120.0
"""Seconds that one URL may take, redirects and all."""
LOCK_WAIT: Final = 30.0
"""Seconds to wait for another refresh to end."""
_AT_ONCE: Final = 4
"""Feeds fetched at the same time; bounds memory, as each copy is held whole until it is judged."""
_EARLY: Final = 0.95
"""Part of the interval after which a feed is due: a cron job never starts at quite the same second."""


@dataclass(frozen=True, slots=True)
class _Update:
    """What was found out about one feed before compiling."""

    outcome: Outcome
    reason: str
    state: FeedState | None


async def refresh(
    feeds: Mapping[str, Feed],
    state_dir: Path,
    *,
    now: float,
    offline: bool = False,
    force: bool = False,
    accept: Collection[str] = (),
    time_limit: float = TIME_LIMIT,
    lock_wait: float = LOCK_WAIT,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RefreshReport:
    """Bring the snapshot in `state_dir` up to date with these feeds, in the order of their bits; failure is a value.

    `offline` uses copies and local files, and no network. `force` asks for feeds before their interval is over.
    `accept` names feeds whose new copy may differ in size from the last as much as it likes.
    """
    store = Store(state_dir)
    run = _Refresh(
        {name: feed for name, feed in feeds.items() if feed.enabled},
        store, now, offline, force, frozenset(accept), time_limit, progress,
    )  # fmt: skip
    try:
        _make_folder(state_dir)
        async with locked(state_dir / "refresh.lock", lock_wait):
            updates = await run.update()
            progress(Progress(Step.COMPILING))
            return await _to_its_end(run.compile, updates)
    except Busy as error:
        problem = str(error)
    except OSError as error:
        problem = f"{error.filename or state_dir}: {error.strerror or error}"
    except ValueError as error:
        problem = str(error)
    return RefreshReport(snapshot=store.snapshot, problem=problem)


async def _to_its_end[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread; when cancelled, wait for it, so that no refresh writes without holding the lock."""
    work = asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _make_folder(state_dir: Path) -> None:
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state_dir / "feeds").mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True, slots=True)
class _Refresh:
    """One refresh, while the lock is held."""

    feeds: Mapping[str, Feed]
    store: Store
    now: float
    offline: bool
    force: bool
    accept: frozenset[str]
    time_limit: float
    progress: Callable[[Progress], None]

    async def update(self) -> dict[str, _Update]:
        """Get what there is to get, several feeds at a time."""
        slots = asyncio.Semaphore(_AT_ONCE)
        updates: dict[str, _Update] = {}

        async def one(name: str, feed: Feed) -> None:
            async with slots:
                updates[name] = await self._update(session, name, feed)
            self.progress(Progress(Step.DONE, name, outcome=updates[name].outcome))

        async with open_session() as session, asyncio.TaskGroup() as tasks:
            for name, feed in self.feeds.items():
                tasks.create_task(one(name, feed))
        return updates

    async def _update(self, session: aiohttp.ClientSession, name: str, feed: Feed) -> _Update:
        state = await asyncio.to_thread(self.store.state, name, feed.format, feed.column)
        try:
            if feed.path is not None:
                return await asyncio.to_thread(self._take_local, name, feed, feed.path, state)
            if self.offline:
                return _kept(state, "") if state is None else _Update(Outcome.UNCHANGED, "offline", state)
            return await self._fetch(session, name, feed, state)
        except OSError as error:  # of the copy or its state, such as a full disk
            return _kept(state, f"{error.filename or name}: {error.strerror or error}")

    def _take_local(self, name: str, feed: Feed, path: Path, state: FeedState | None) -> _Update:
        try:
            with path.open("rb") as file:
                data = file.read(feed.limits.max_bytes + 1)
        except OSError as error:
            return _kept(state, f"{path}: cannot be read: {error.strerror or error}")
        judged = self._judge(name, feed, state, data)
        if judged.flaw:
            return _kept(state, f"{path}: {judged.flaw}")
        return self._take(name, feed, state, data, judged, Validators(url=""))

    async def _fetch(self, session: aiohttp.ClientSession, name: str, feed: Feed, state: FeedState | None) -> _Update:
        same_reading = state is not None and (state.format, state.column) == (feed.format, feed.column)
        if state is not None and same_reading and state.url in feed.urls and not self.force:
            due = state.last_success + feed.interval * _EARLY
            # A time of success in the future is a clock that was set back, not a reason to wait for it.
            if state.last_success <= self.now < due:
                return _Update(
                    Outcome.UNCHANGED, f"not due before {render_duration(feed.interval)} have passed", state
                )
        judged = Judgement(0, 0)

        async def flaw_of(data: bytes) -> str:
            nonlocal judged
            judged = await asyncio.to_thread(self._judge, name, feed, state, data)
            return judged.flaw

        self.progress(Progress(Step.FETCHING, name))
        known = None
        # A copy that will be read in another way, or must have a digest, is judged anew and therefore sent anew.
        if state is not None and same_reading and not feed.verify.sha256:
            known = Validators(url=state.url, etag=state.etag, last_modified=state.last_modified)
        found = await fetch_any(
            session,
            feed.urls,
            known=known,
            max_bytes=feed.limits.max_bytes,
            time_limit=self.time_limit,
            flaw_of=flaw_of,
            received=lambda octets, expected: self.progress(Progress(Step.FETCHING, name, octets, expected)),
        )
        if isinstance(found, Failed):
            return _kept(state, found.reason)
        if isinstance(found, Fetched):
            return await asyncio.to_thread(self._take, name, feed, state, found.data, judged, found.validators)
        if state is None:
            return _kept(None, "said that nothing has changed, and was not asked")
        state = replace(state, last_success=self.now)
        await asyncio.to_thread(self.store.save_state, name, state)
        return _Update(Outcome.UNCHANGED, "", state)

    def _judge(self, name: str, feed: Feed, state: FeedState | None, data: bytes) -> Judgement:
        # The size says something only about the same list, read in the same way.
        if state is None or (state.format, state.column) != (feed.format, feed.column):
            return judge(data, feed, before=None, now=self.now)
        if state.version == version_of(data):
            return Judgement(state.entries, state.rejected, flaw_of_content(data, feed))
        before = None if name in self.accept else state.entries
        return judge(data, feed, before=before, now=self.now)

    def _take(
        self, name: str, feed: Feed, state: FeedState | None, data: bytes, judged: Judgement, validators: Validators
    ) -> _Update:
        version = version_of(data)
        changed = state is None or state.version != version
        new = FeedState(
            version=version,
            format=feed.format,
            column=feed.column,
            url=validators.url,
            etag=validators.etag,
            last_modified=validators.last_modified,
            entries=judged.entries,
            rejected=judged.rejected,
            last_success=self.now,
            last_change=self.now if state is None or changed else state.last_change,
        )
        self.store.save(name, data, new)
        return _Update(Outcome.FRESH if changed else Outcome.UNCHANGED, "", new)

    def compile(self, updates: Mapping[str, _Update]) -> RefreshReport:
        """Compile the copies, unless the snapshot in use is made of just these, and swap.

        Raises:
            OSError: a copy cannot be read, or the snapshot cannot be written.
        """
        path = self.store.snapshot
        with ExitStack() as stack:
            sources = [
                _source(name, feed, state, stack, self.store)
                for name, feed in self.feeds.items()
                if (state := updates[name].state) is not None
            ]
            if self.feeds and not sources:
                return RefreshReport(
                    feeds=self._results(updates, ()),
                    snapshot=path,
                    problem="no list could be had, so none was compiled",
                )
            in_use = _in_use(path, sources)
            if in_use is not None:
                accounts, size = in_use
                return RefreshReport(feeds=self._results(updates, accounts), snapshot=path, octets=size)
            compiled = compile_lists(sources, key=secrets.token_bytes(16), created=self.now)
            versions = {(source.name, source.version) for source in sources}
        write_atomically(path, compiled.data)
        with contextlib.suppress(OSError):  # what is left over is left for the next refresh
            self.store.clean(versions)
        return RefreshReport(
            feeds=self._results(updates, compiled.accounts), snapshot=path, swapped=True, octets=len(compiled.data)
        )

    def _results(self, updates: Mapping[str, _Update], accounts: tuple[Account, ...]) -> tuple[FeedResult, ...]:
        by_name = {account.name: account for account in accounts}
        return tuple(
            FeedResult(
                name=name,
                outcome=updates[name].outcome,
                reason=updates[name].reason,
                version=state.version if (state := updates[name].state) is not None else "",
                age=max(0.0, self.now - state.last_success) if state is not None else None,
                account=by_name.get(name),
            )
            for name in self.feeds
        )


def _kept(state: FeedState | None, reason: str) -> _Update:
    if state is None:
        return _Update(Outcome.MISSING, reason or "has never been fetched", None)
    return _Update(Outcome.KEPT, reason, state)


def _source(name: str, feed: Feed, state: FeedState, stack: ExitStack, store: Store) -> Source:
    return Source(
        name=name,
        version=state.version,
        format=feed.format,
        column=feed.column,
        categories=feed.categories,
        never_block=feed.never_block,
        stored_as=state.file,
        data=stack.enter_context(store.open(name, state)),
    )


def _in_use(path: Path, sources: list[Source]) -> tuple[tuple[Account, ...], int] | None:
    """Return what the snapshot in use says of its lists, when compiling these sources again would give the same."""
    if any(source.format == "stix" for source in sources):
        return None  # indicators expire
    try:
        with Snapshot.open(path) as snapshot:
            if snapshot.notes.get("fingerprint") != fingerprint(sources):
                return None
            return accounts_of(snapshot.notes), snapshot.size
    except SnapshotError:
        return None
