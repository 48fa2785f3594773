"""From lists as published to one snapshot: parse, take out what no feed may deny, and account for every line.

Pure: no I/O, no clock; the random key and the time are arguments.
"""

from collections import Counter
from collections.abc import Buffer, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from gateway import __version__
from gateway.feeds.entry import SAMPLE_LENGTH, SAMPLES, Entry, NameEntry, ParseReport, RangeEntry, Sample
from gateway.feeds.formats import parse
from gateway.feeds.layout import VERSION
from gateway.feeds.protected import NeverBlock, objection
from gateway.feeds.runs import range_text
from gateway.feeds.writer import SourceList, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A list to compile: what the catalogue says about it, and its content."""

    name: str
    version: str
    format: str
    data: Buffer
    column: str | None = None
    categories: tuple[str, ...] = ()
    never_block: bool = False
    stored_as: str = ""
    """File name of the copy that `data` is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of the lines of one list."""

    name: str
    version: str
    lines: int = 0
    entries: int = 0
    """In the snapshot; of a never-block list, those that were heeded."""
    duplicates: int = 0
    """Entries that the list has more than once, beyond the first."""
    unsupported: Mapping[str, int]
    """Why and how often: lines that a gateway has no use for."""
    rejected: Mapping[str, int]
    """Why and how often: lines that could not be read."""
    dropped: Mapping[str, int]
    """Why and how often: entries that no feed may have (`gateway.feeds.protected`)."""
    samples: Mapping[str, tuple[tuple[int, str], ...]]
    """Line number and text of the first lines of each reason, safe to print."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A snapshot, not yet written anywhere."""

    data: bytes
    accounts: tuple[Account, ...]
    """In the order of the sources."""


def compile_lists(
    sources: Sequence[Source],
    *,
    key: bytes,
    created: float,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Compiled:
    """Compile lists to a snapshot, whose lists are the sources in their order, without the never-block lists.

    `progress` hears which list is next, how many octets were read, and of how many.

    Raises:
        ValueError: a source has a format that does not exist, or together they have too many lines.
    """
    now = datetime.fromtimestamp(created, UTC)
    reports = {source.name: ParseReport() for source in sources}
    writer = Writer(key)
    drops: dict[str, Counter[str]] = {source.name: Counter() for source in sources}
    protected = _never_block(sources, now, reports, drops)
    octets, done = sum(len(memoryview(source.data)) for source in sources), 0
    for source in sources:
        progress(source.name, done, octets)
        done += len(memoryview(source.data))
        if source.never_block:
            continue
        report = reports[source.name]
        entries = parse(source.data, source.format, report, column=source.column, now=now)
        entries = _admitted(entries, protected, drops[source.name], report)
        writer.add(SourceList(source.name, source.version, source.categories, entries, source.stored_as))
    progress("", done, octets)
    repeated = writer.settle()
    accounts = tuple(
        _account(source, reports[source.name], drops[source.name], repeated.get(source.name, 0)) for source in sources
    )
    notes = {"fingerprint": fingerprint(sources), "accounts": [asdict(account) for account in accounts]}
    return Compiled(writer.finish(created, notes), accounts)


def never_block_of(sources: Sequence[Source], now: float) -> NeverBlock:
    """Return what the never-block lists among the sources protect."""
    reports = {source.name: ParseReport() for source in sources}
    return _never_block(sources, datetime.fromtimestamp(now, UTC), reports, {name: Counter() for name in reports})


def _never_block(
    sources: Sequence[Source],
    now: datetime,
    reports: Mapping[str, ParseReport],
    drops: Mapping[str, Counter[str]],
) -> NeverBlock:
    """Return what is protected. What nobody may deny whole, such as `.com`, nobody may protect whole either.

    A never-block list that was tampered with could otherwise switch off all others.
    """
    nothing = NeverBlock()
    return NeverBlock(
        entry
        for source in sources
        if source.never_block
        for entry in _admitted(
            parse(source.data, source.format, reports[source.name], column=source.column, now=now),
            nothing,
            drops[source.name],
            reports[source.name],
        )
    )


def admitted(source: Source, protected: NeverBlock, now: float) -> Iterator[Entry]:
    """Yield the entries of a list that were compiled: those that it may have."""
    report = ParseReport()
    entries = parse(source.data, source.format, report, column=source.column, now=datetime.fromtimestamp(now, UTC))
    return _admitted(entries, protected, Counter(), report)


def fingerprint(sources: Sequence[Source]) -> str:
    """Return a digest of all that a snapshot is made of: with the same one, compiling again would change nothing."""
    digest = blake2b(f"{VERSION} {__version__}".encode(), digest_size=16)
    for source in sources:
        parts = (source.name, source.version, source.format, source.column, source.categories, source.never_block)
        digest.update(repr(parts).encode())
    return digest.hexdigest()


def accounts_of(notes: Mapping[str, Any]) -> tuple[Account, ...]:
    """Return the accounts that were written into a snapshot."""
    return tuple(
        Account(
            **{
                **account,
                "samples": {
                    reason: tuple((int(line), str(text)) for line, text in samples)
                    for reason, samples in account["samples"].items()
                },
            }
        )
        for account in notes.get("accounts", ())
    )


def _admitted(
    entries: Iterator[Entry], protected: NeverBlock, dropped: Counter[str], report: ParseReport
) -> Iterator[Entry]:
    """Yield the entries that may be compiled; count and show the others."""
    for entry in entries:
        reason = objection(entry, protected)
        if not reason:
            yield entry
            continue
        dropped[reason] += 1
        if dropped[reason] <= SAMPLES:
            report.samples.setdefault(reason, []).append(Sample(entry.line, _describe(entry)[:SAMPLE_LENGTH]))


def _describe(entry: Entry) -> str:
    if isinstance(entry, NameEntry):
        return entry.name
    if isinstance(entry, RangeEntry):
        return range_text(entry.first, entry.last, entry.version)
    return entry.host + entry.path


def _account(source: Source, report: ParseReport, dropped: Counter[str], duplicates: int) -> Account:
    return Account(
        name=source.name,
        version=source.version,
        lines=report.lines,
        entries=report.entries - dropped.total() - duplicates,
        duplicates=duplicates,
        unsupported=dict(report.unsupported),
        rejected=dict(report.rejected),
        dropped=dict(dropped),
        samples={
            reason: tuple((sample.line, sample.text) for sample in samples)
            for reason, samples in report.samples.items()
        },
    )
