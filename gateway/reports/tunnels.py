"""What is told of DNS tunnels: who is suspect by the ledger, and what would have been denied in a recording."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from gateway.console import Rows, counted
from gateway.ledger.suspects import Suspect
from gateway.recordings.files import Recording
from gateway.tunnelling.analysis import Finding, Report

_BARS = "▁▂▃▄▅▆▇█"


def suspect_table(suspects: list[Suspect], states: list[str]) -> Rows:
    """Return one row for each client and zone."""
    rows: list[Sequence[object]] = [
        (
            suspect.client,
            suspect.zone,
            state,
            f"{suspect.score:.1f}",
            f"{suspect.told:.0f} of {suspect.budget:.0f}",
            f"{suspect.got:.0f}",
            spark(suspect.curve),
            suspect.denials,
            moment(suspect.first),
            moment(suspect.last),
            suspect.why,
            suspect.samples[0] if suspect.samples else "",
        )
        for suspect, state in zip(suspects, states, strict=True)
    ]
    headings = (
        "client",
        "zone",
        "state",
        "score",
        "told",
        "got",
        "leak",
        "denied",
        "first",
        "last",
        "why",
        "such as",
    )
    return headings, rows


def suspect_json(suspect: Suspect, state: str) -> dict[str, Any]:
    """Return all that is known of one for JSON."""
    return {**asdict(suspect), "state": state}


def moment(seconds: float) -> str:
    """Return a time as it is written in the policy file."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def spark(curve: Iterable[tuple[float, float]]) -> str:
    """Return a leak curve as a row of bars: how much had left, from the first octet to the denial.

    >>> spark([(0, 10), (5, 20), (60, 80)])
    '▁▂█'
    """
    octets = [amount for _, amount in curve]
    most = max(octets, default=0.0)
    return "".join(_BARS[min(7, max(0, round(amount / most * 8) - 1))] for amount in octets) if most else "-"


def finding_table(findings: list[Finding]) -> Rows:
    """Return one row for each client and zone of a recording."""
    rows: list[Sequence[object]] = [
        (
            _client(found.client),
            found.zone,
            found.reason,
            found.queries,
            found.denied,
            found.passed,
            f"{found.told:.0f}",
            found.characters,
            f"{found.got:.0f}",
            moment(found.first),
            found.why,
            found.samples[0] if found.samples else "",
        )
        for found in findings
    ]
    headings = ("client", "zone", "reason", "queries", "denied", "before", "told", "characters", "got", "from", "why")
    return (*headings, "such as"), rows


def _client(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def summary(report: Report, recording: Recording) -> Iterator[str]:
    """Yield what is told of a recording as a whole."""
    denied = sum(found.denied for found in report.findings)
    queries = "1 query" if report.queries == 1 else f"{report.queries} queries"
    yield (
        f"{queries} of {counted(report.clients, 'client')} for {counted(report.zones, 'zone')}: {denied} would have "
        f"been denied, of {len(report.findings)} of {counted(report.pairs, 'pair')} of client and zone"
    )
    if report.findings:
        told = sum(found.told for found in report.findings)
        got = sum(found.got for found in report.findings)
        characters = sum(found.characters for found in report.findings)
        yield (
            f"before and beside that, {told:.0f} octets of news would have left for those zones (in {characters} "
            f"characters of names), and {got:.0f} octets of answers come in"
        )
    if report.nearest is not None:
        near = report.nearest
        yield f"nearest to a denial without one: {near.client} and {near.zone}, at {near.score:.0%} of the budget"
    if recording.unreadable:
        lines = "1 line or packet" if recording.unreadable == 1 else f"{recording.unreadable} lines or packets"
        yield f"{lines} could not be read; the first is {recording.flaw}"
