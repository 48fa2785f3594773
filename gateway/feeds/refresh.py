"""A refresh: get every list, keep the last good copy of those that cannot be had, compile, and swap the snapshot.

One process at a time. Whatever fails, and at whatever instant, the last good snapshot stays in its place: new files
are only ever moved over old ones, the snapshot last of all, and old copies are removed after that. Compiling keeps
one processor busy for seconds: a server runs it in a process of its own.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from aiohttp.abc import AbstractResolver

from gateway.feeds.acquire import Acquisition, Update
from gateway.feeds.catalog import Feed
from gateway.feeds.compile import (
    Account,
    Compiled,
    Source,
    accounts_of,
    compile_lists,
    fingerprint,
    never_block_of,
)
from gateway.feeds.fetch import open_sessions
from gateway.feeds.impact import Impact
from gateway.feeds.lock import Busy, locked
from gateway.feeds.protected import NeverBlock
from gateway.feeds.report import FeedResult, Outcome, Progress, RefreshReport, Step
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.feeds.status import FeedStatus, Status, load_status, save_status
from gateway.feeds.store import FeedState, Store, write_atomically
from gateway.units import render_percent

TIME_LIMIT: Final = 120.0
"""Seconds that one URL may take, redirects and all."""
LOCK_WAIT: Final = 30.0
"""Seconds to wait for another refresh to end."""
_AT_ONCE: Final = 4
"""Feeds fetched at the same time; bounds memory, as each copy is held whole until it is judged."""
_A_FEW_DENIED: Final = 3
"""Destinations that a feed may newly deny however few there are: that is what it is for."""


class Watcher(Protocol):
    """Who looks at new lists before and after they are put in force. Called in another thread."""

    def impact(self, old: Snapshot, new: Snapshot) -> Impact:
        """Return what of late was allowed with the old lists and would be denied with the new ones."""

    def swapped(self, old: Snapshot | None, new: Snapshot) -> None:
        """Hear that the new lists are in force."""


async def refresh(
    feeds: Mapping[str, Feed],
    state_dir: Path,
    *,
    now: float,
    offline: bool = False,
    force: bool = False,
    preview: bool = False,
    accept: Collection[str] = (),
    time_limit: float = TIME_LIMIT,
    lock_wait: float = LOCK_WAIT,
    resolver: AbstractResolver | None = None,
    watcher: Watcher | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RefreshReport:
    """Bring the snapshot in `state_dir` up to date with these feeds, in the order of their bits; failure is a value.

    `offline` uses copies and local files, and no network. `force` asks for feeds before their interval is over.
    `preview` puts nothing in force. `accept` names feeds whose new copy may differ from the last, and deny, as much
    as it likes. `resolver` finds publishers; without one this host does.
    """
    begun = time.monotonic()
    store = Store(state_dir)
    before = load_status(state_dir)
    run = _Refresh(
        {name: feed for name, feed in feeds.items() if feed.enabled},
        store, before, now, offline, force, preview, frozenset(accept), time_limit, resolver, watcher, progress,
    )  # fmt: skip
    updates: dict[str, Update] = {}
    try:
        _make_folder(state_dir)
        async with locked(state_dir / "refresh.lock", lock_wait):
            try:
                updates = await run.update()
                report = await _to_its_end(run.compile, updates)
            except OSError as error:
                problem = f"{error.filename or state_dir}: {error.strerror or error}"
                report = RefreshReport(snapshot=store.snapshot, problem=problem)
            except ValueError as error:
                report = RefreshReport(snapshot=store.snapshot, problem=str(error))
            if preview:
                return report
            try:
                save_status(state_dir, run.status(report, updates, time.monotonic() - begun))
            except OSError as error:
                warning = f"{error.filename or state_dir}: the status was not written: {error.strerror or error}"
                report = replace(report, warnings=(*report.warnings, warning))
            return report
    except Busy as error:
        return RefreshReport(snapshot=store.snapshot, problem=str(error))
    except OSError as error:
        problem = f"{error.filename or state_dir}: {error.strerror or error}"
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
    before: Status
    now: float
    offline: bool
    force: bool
    preview: bool
    accept: frozenset[str]
    time_limit: float
    resolver: AbstractResolver | None
    watcher: Watcher | None
    progress: Callable[[Progress], None]

    async def update(self) -> dict[str, Update]:
        """Get what there is to get, several feeds at a time: first what must not be denied, then the others."""
        updates: dict[str, Update] = {}
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str, feed: Feed, never_block: NeverBlock | None) -> None:
            async with slots:
                status = self.before.feeds.get(name) or FeedStatus(name=name)
                updates[name] = await run.get(name, feed, status, never_block)
            self.progress(Progress(Step.DONE, name, outcome=updates[name].outcome))

        async with open_sessions(self.resolver) as sessions:
            run = Acquisition(
                self.store, sessions, self.now, self.offline, self.force, self.accept, self.time_limit, self.progress
            )
            async with asyncio.TaskGroup() as tasks:
                for name, feed in self.feeds.items():
                    if feed.never_block:
                        tasks.create_task(one(name, feed, None))
            never_block = await asyncio.to_thread(self._never_block, updates)
            async with asyncio.TaskGroup() as tasks:
                for name, feed in self.feeds.items():
                    if not feed.never_block:
                        tasks.create_task(one(name, feed, never_block))
        return updates

    def _never_block(self, updates: Mapping[str, Update]) -> NeverBlock:
        with ExitStack() as stack:
            return never_block_of(self._sources(updates, stack), self.now)

    def _sources(self, updates: Mapping[str, Update], stack: ExitStack) -> list[Source]:
        return [
            source_of(name, feed, update.state, stack, self.store)
            for name, feed in self.feeds.items()
            if (update := updates.get(name)) is not None and update.state is not None
        ]

    def compile(self, updates: dict[str, Update]) -> RefreshReport:
        """Compile the copies, unless the snapshot in use is made of just these, and swap.

        Raises:
            OSError: a copy cannot be read, or the snapshot cannot be written.
        """
        path = self.store.snapshot
        with ExitStack() as stack:
            old = _open(path)
            if old is not None:
                stack.callback(old.close)
            if problem := self._obstacle(updates, old):
                self._write_down(updates)
                return RefreshReport(feeds=self._results(updates, ()), snapshot=path, problem=problem)
            sources = self._sources(updates, stack)
            if old is not None and _is_made_of(old, sources):
                self._write_down(updates)
                return RefreshReport(
                    feeds=self._results(updates, accounts_of(old.notes)), snapshot=path, octets=old.size
                )
            compiled = self._compile(sources)
            impact = None
            if old is not None and self.watcher is not None:
                compiled, impact = self._with_impact(old, compiled, updates, stack)
            if not self.preview:
                self._write_down(updates)
                write_atomically(path, compiled.data)
                versions = {(name, update.state.version) for name, update in updates.items() if update.state}
                with contextlib.suppress(OSError):  # what is left over is left for the next refresh
                    self.store.clean(versions)
                if self.watcher is not None:
                    with Snapshot.from_bytes(compiled.data) as new:
                        self.watcher.swapped(old, new)
        return RefreshReport(
            feeds=self._results(updates, compiled.accounts),
            snapshot=path,
            swapped=not self.preview,
            octets=len(compiled.data),
            impact=impact,
        )

    def _obstacle(self, updates: Mapping[str, Update], old: Snapshot | None) -> str:
        """Return why nothing may be compiled, or nothing.

        New lists are held back while a never-block list has no copy: they could deny what it protects, and the lists
        in use go on denying what they deny. Without lists in use there is nothing to hold on to, and a gateway
        without a snapshot serves nobody: then rather too much is denied than everything.
        """
        if self.feeds and all(update.state is None for update in updates.values()):
            return "no list could be had, so none was compiled"
        absent = [name for name, feed in self.feeds.items() if feed.never_block and updates[name].state is None]
        if absent and old is not None:
            return (
                f"never-block list {', '.join(absent)} has never been had, and new lists could deny what it "
                "protects: the lists in use stay until it can be had, or is taken out of the configuration"
            )
        return ""

    def _compile(self, sources: list[Source]) -> Compiled:
        def told(name: str, octets: int, of: int) -> None:
            self.progress(Progress(Step.COMPILING, name, octets, of))

        return compile_lists(sources, key=secrets.token_bytes(16), created=self.now, progress=told)

    def _with_impact(
        self, old: Snapshot, compiled: Compiled, updates: dict[str, Update], stack: ExitStack
    ) -> tuple[Compiled, Impact]:
        """Leave out the new copies that would deny too much of what was allowed of late; return what is left."""
        assert self.watcher is not None
        with Snapshot.from_bytes(compiled.data) as new:
            impact = self.watcher.impact(old, new)
        refused = False
        for name, denied in impact.by_feed().items():
            share, update = self.feeds[name].max_impact, updates[name]
            new_copy = update.state is not None and (
                update.previous is None or update.previous.version != update.state.version
            )
            if share is None or not new_copy or name in self.accept:
                continue
            if len(denied) > _A_FEW_DENIED and len(denied) > share * impact.destinations:
                shown = ", ".join(sorted(denied)[:3])
                reason = (
                    f"would newly deny {len(denied)} of {impact.destinations} destinations that were allowed in the "
                    f"last 24 hours ({shown} ...), more than max_impact ({render_percent(share)}); look at them with "
                    f"`gateway refresh --preview`, accept them with `--accept {name}`"
                )
                outcome = Outcome.MISSING if update.previous is None else Outcome.KEPT
                updates[name] = Update(outcome, reason, update.previous, update.previous, asked=True)
                refused = True
        if not refused or self.preview:
            return compiled, impact
        compiled = self._compile(self._sources(updates, stack))
        with Snapshot.from_bytes(compiled.data) as new:
            return compiled, self.watcher.impact(old, new)

    def _write_down(self, updates: Mapping[str, Update]) -> None:
        """Make the copies that were chosen the last good ones."""
        for name, update in updates.items():
            if not self.preview and update.state is not None and update.state != update.previous:
                self.store.save_state(name, update.state)

    def _results(self, updates: Mapping[str, Update], accounts: tuple[Account, ...]) -> tuple[FeedResult, ...]:
        by_name = {account.name: account for account in accounts}
        return tuple(
            FeedResult(
                name=name,
                outcome=updates[name].outcome,
                reason=updates[name].reason,
                version=state.version if (state := updates[name].state) is not None else "",
                age=(age := max(0.0, self.now - state.last_success)) if state is not None else None,
                is_stale=state is not None and feed.max_age is not None and age > feed.max_age,
                account=by_name.get(name),
            )
            for name, feed in self.feeds.items()
        )

    def status(self, report: RefreshReport, updates: Mapping[str, Update], seconds: float) -> Status:
        """Return what is to be remembered of this refresh."""
        results = {result.name: result for result in report.feeds}
        feeds = {
            name: self._feed_status(name, feed, updates[name], results.get(name))
            for name, feed in self.feeds.items()
            if name in updates
        }
        return Status(
            refreshed=self.now,
            swapped=self.now if report.swapped else self.before.swapped,
            problem=report.problem,
            exit_code=report.exit_code,
            seconds=round(seconds, 3),
            octets=report.octets or self.before.octets,
            feeds=feeds,
        )

    def _feed_status(self, name: str, feed: Feed, update: Update, result: FeedResult | None) -> FeedStatus:
        before = self.before.feeds.get(name) or FeedStatus(name=name)
        failed = update.outcome in (Outcome.KEPT, Outcome.MISSING)
        waiting = failed and not update.asked and before.failures > 0 and bool(feed.urls)
        known = result is not None and result.account is not None
        state = update.state
        # Offline nobody was asked, so what the last attempt has shown still holds.
        unasked = self.offline and bool(feed.urls) and state is not None and bool(before.outcome)
        return FeedStatus(
            name=name,
            outcome=before.outcome if unasked else update.outcome.value,
            # While it is left alone, what counts is why it failed.
            reason=before.reason if waiting or unasked else update.reason,
            version=state.version if state is not None else "",
            categories=feed.categories,
            never_block=feed.never_block,
            entries=result.entries if known and result is not None else before.entries,
            rejected=result.rejected if known and result is not None else before.rejected,
            dropped=result.dropped if known and result is not None else before.dropped,
            last_attempt=self.now if update.asked else before.last_attempt,
            last_success=state.last_success if state is not None else 0.0,
            last_change=state.last_change if state is not None else 0.0,
            failures=(before.failures + 1 if failed else 0) if update.asked else before.failures,
            retry_after=update.retry_after if update.asked else before.retry_after,
            max_age=feed.max_age,
        )


def source_of(name: str, feed: Feed, state: FeedState, stack: ExitStack, store: Store) -> Source:
    """Return a stored copy as something to compile. Raises OSError."""
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


def _open(path: Path) -> Snapshot | None:
    try:
        return Snapshot.open(path)
    except SnapshotError:
        return None  # none yet, or one that is of no use: it is made anew


def _is_made_of(snapshot: Snapshot, sources: list[Source]) -> bool:
    """Say whether compiling these sources again would give the same."""
    # Indicators of stix expire.
    return not any(source.format == "stix" for source in sources) and (
        snapshot.notes.get("fingerprint") == fingerprint(sources)
    )
