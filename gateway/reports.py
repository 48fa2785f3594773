"""What commands print: from values to rows, lines and JSON.

Pure, but for reading the stored copy of a list to show the line that matched.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.config import Config
from gateway.decision import Decision
from gateway.document import Problem
from gateway.explain import Stage, summary, terms
from gateway.feeds.catalog import Feed
from gateway.feeds.hunt import Sighting
from gateway.feeds.impact import Impact
from gateway.feeds.report import Outcome, RefreshReport
from gateway.feeds.status import Status
from gateway.feeds.store import read_line
from gateway.selfcheck.battery import Score
from gateway.units import render_duration
from gateway.upkeep import describe, sighting_fields

type Rows = tuple[Sequence[str], list[Sequence[object]]]
"""Headings, and rows under them."""

_MOST = 20
"""Lines printed of one kind of finding."""


def welcome(config: Config, roles: tuple[str, ...], program: str, path: str) -> Iterator[str]:
    """Yield what a newcomer sees when everything serves: where, and what to try."""
    rules, lists = counted(len(config.rules), "rule"), counted(len(config.active_feeds), "list")
    yield f"gateway is running with {path} ({rules}, {lists})"
    dns = config.file.dns.listen if "dns" in roles else ()
    proxy = config.file.proxy.listen if "proxy" in roles else ()
    if dns:
        yield f"  DNS    {'  '.join(dns)}"
    if proxy:
        yield f"  proxy  {'  '.join(proxy)}"
    yield "try, in another terminal:"
    if proxy:
        place = proxy[0].replace("tls://", "https://") if proxy[0].startswith("tls://") else f"http://{proxy[0]}"
        yield f"  curl -x {place} https://example.com/"
        yield f"  curl -v -x {place} https://pastebin.com/"
    if dns:
        host, _, port = dns[0].partition("://")[2].rpartition(":")
        yield f"  dig @{host.strip('[]')} -p {port} dns.google"
    yield f"  {program} explain -c {path} https://pastebin.com/"
    yield f"  {program} ledger -c {path} --tail"
    yield "Ctrl-C stops it."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, singular or plural.

    >>> counted(1, "rule"), counted(0, "list")
    ('1 rule', '0 lists')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def problems_json(problems: list[Problem]) -> list[dict[str, Any]]:
    """Return problems for JSON."""
    return [asdict(problem) for problem in problems]


# -- refresh -------------------------------------------------------------------------------------------------------


def refresh_table(report: RefreshReport) -> Rows:
    """Return one row for each list."""
    rows: list[Sequence[object]] = [
        (
            feed.name,
            feed.outcome.value,
            feed.entries,
            feed.rejected,
            feed.dropped,
            "-" if feed.age is None else render_duration(round(feed.age)),
            feed.version[:12] or "-",
            feed.reason,
        )
        for feed in report.feeds
    ]
    return ("list", "state", "entries", "rejected", "dropped", "age", "version", "note"), rows


def findings(report: RefreshReport) -> Iterator[str]:
    """Yield one line for everything about a refresh that needs attention."""
    if report.problem:
        yield f"nothing compiled: {report.problem}"
    yield from report.warnings
    for feed in report.feeds:
        if feed.is_stale and feed.age is not None:
            yield f"{feed.name}: its copy is {render_duration(round(feed.age))} old, more than max_age"
        if feed.outcome is Outcome.MISSING:
            yield f"{feed.name}: not in force: {feed.reason}; run `gateway refresh` when it can be had"
        elif feed.outcome is Outcome.KEPT:
            yield f"{feed.name}: kept its last good copy: {feed.reason}"
        if feed.account is None:
            continue
        for kind, counts in (("rejected", feed.account.rejected), ("dropped", feed.account.dropped)):
            for reason, count in counts.items():
                samples = feed.account.samples.get(reason, ())
                shown = f", as in line {samples[0][0]}: {samples[0][1]!r}" if samples else ""
                yield f"{feed.name}: {kind} {count}: {reason}{shown}"


def impact_lines(impact: Impact) -> Iterator[str]:
    """Yield what new lists would deny, or do deny now, that was allowed of late: by feed and client."""
    counted_all = counted(impact.destinations, "destination")
    if not impact.denials:
        yield f"none of {counted_all} of the last 24 hours would newly be denied"
        return
    targets = {denial.target for denial in impact.denials}
    yield f"newly denied: {len(targets)} of {counted_all} that were allowed in the last 24 hours"
    for denial in impact.denials[:_MOST]:
        yield (
            f"  {denial.client} -> {denial.target}: feed {denial.feed}, line {denial.line} ({denial.entry}), "
            f"rule {denial.rule or '-'}"
        )
    if len(impact.denials) > _MOST:
        yield f"  and {len(impact.denials) - _MOST} more"
    if not impact.complete:
        yield "  not everything was looked at: too many destinations"


def hunt_lines(sightings: Sequence[Sighting]) -> Iterator[str]:
    """Yield who has already been where the new lists point."""
    for found in sightings[:_MOST]:
        times = f", {found.count} times" if found.count > 1 else ""
        yield f"{describe(found)}: {found.first[:19]} to {found.last[:19]}{times}"
    if len(sightings) > _MOST:
        yield f"and {len(sightings) - _MOST} more: run `gateway hunt`"


def hunt_table(sightings: Sequence[Sighting]) -> Rows:
    """Return one row for each client and indicator."""
    rows: list[Sequence[object]] = [
        (
            found.match.list,
            f"{found.user}@{found.client}" if found.user else found.client,
            found.how,
            found.indicator,
            found.match.entry,
            found.first[:19],
            found.last[:19],
            found.count,
        )
        for found in sightings
    ]
    return ("list", "client", "how", "what", "entry", "first", "last", "count"), rows


def hunt_json(sightings: Sequence[Sighting]) -> list[dict[str, object]]:
    """Return findings for JSON."""
    return [sighting_fields(found) for found in sightings]


def refresh_json(report: RefreshReport, sightings: Sequence[Sighting] = ()) -> dict[str, Any]:
    """Return a refresh for JSON."""
    impact = report.impact
    return {
        "exit_code": report.exit_code,
        "problem": report.problem,
        "snapshot": str(report.snapshot),
        "swapped": report.swapped,
        "octets": report.octets,
        "entries": report.entries,
        "warnings": list(report.warnings),
        "impact": None
        if impact is None
        else {
            "destinations": impact.destinations,
            "complete": impact.complete,
            "denials": [denial._asdict() for denial in impact.denials],
        },
        "hunt": hunt_json(sightings),
        "feeds": [
            {
                "name": feed.name,
                "outcome": feed.outcome.value,
                "reason": feed.reason,
                "version": feed.version,
                "age": feed.age,
                "entries": feed.entries,
                "rejected": dict(feed.account.rejected) if feed.account else {},
                "unsupported": dict(feed.account.unsupported) if feed.account else {},
                "dropped": dict(feed.account.dropped) if feed.account else {},
            }
            for feed in report.feeds
        ],
    }


# -- feeds ---------------------------------------------------------------------------------------------------------


def feeds_table(status: Status, now: float) -> Rows:
    """Return one row for each feed, as of the last refresh."""
    rows: list[Sequence[object]] = [
        (
            feed.name,
            "stale" if feed.is_stale(now) else feed.outcome,
            feed.entries,
            feed.rejected,
            feed.dropped,
            _ago(feed.last_success, now),
            _ago(feed.last_change, now),
            feed.version or "-",
            "never-block" if feed.never_block else ",".join(feed.categories) or "-",
            feed.reason,
        )
        for feed in status.feeds.values()
    ]
    return (
        ("list", "state", "entries", "rejected", "dropped", "fresh", "changed", "version", "categories", "note"),
        rows,
    )


def _ago(time: float, now: float) -> str:
    if not time:
        return "never"
    seconds = max(0, round(now - time))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"


def feeds_notes(status: Status, active: Mapping[str, Feed], now: float) -> Iterator[str]:
    """Yield what a table of feeds has no room for."""
    if status.problem:
        yield f"the last refresh ({_ago(status.refreshed, now)}) compiled nothing: {status.problem}"
    for name in active.keys() - status.feeds.keys():
        yield f"{name}: not refreshed yet: run `gateway refresh`"
    for feed in status.feeds.values():
        if feed.is_stale(now):
            yield f"{feed.name}: its copy is older than max_age ({render_duration(feed.max_age or 0)})"


def feeds_json(status: Status, now: float) -> dict[str, Any]:
    """Return the state of the feeds for JSON."""
    data = asdict(status)
    data["feeds"] = [
        {**asdict(feed), "age": feed.age(now), "stale": feed.is_stale(now)} for feed in status.feeds.values()
    ]
    return data


# -- explain -------------------------------------------------------------------------------------------------------


def stage_table(stages: list[Stage]) -> Rows:
    """Return one row for each stage."""
    rows: list[Sequence[object]] = [
        (
            stage.name,
            _verdict(stage.decision),
            stage.decision.reason.value,
            stage.decision.rule or "-",
            f"{stage.decision.tls}: {summary(stage.decision)}" if stage.decision.tls else summary(stage.decision),
        )
        for stage in stages
    ]
    return ("stage", "verdict", "reason", "rule", "why"), rows


def _verdict(decision: Decision) -> str:
    return decision.verdict.value if decision.enforced else "would deny"


def stage_notes(stages: list[Stage], config: Config, groups: tuple[str, ...], *, resolved: bool) -> Iterator[str]:
    """Yield what a table has no room for: list lines, techniques, rules on trial, what was not judged."""
    for stage in stages:
        decision = stage.decision
        if matched := decision.matched:
            categories = ", ".join(matched.categories)
            yield f"list {matched.list} ({categories}), version {matched.version}, line {matched.line}:"
            yield f"    {read_line(config.state_dir, matched.list, matched.version, matched.line) or matched.entry}"
        for reported in decision.reported:
            yield f"rule {reported.rule} is on trial: it would deny at stage {stage.name} ({reported.reason})"
        if decision.technique:
            yield f"ATT&CK: {', '.join(decision.technique)}"
    if config.clients:
        yield f"client groups: {', '.join(groups) or 'none'}"
    last = stages[-1]
    if not last.decision.denied and (found := "; ".join(terms(last.decision))):
        yield f"rule {last.decision.rule}: {found}"
    if not last.decision.denied and last.decision.pending and not resolved:
        yield "The name was not resolved: addresses are judged before connecting. Give --address to see how."


def stage_json(stage: Stage, config: Config) -> dict[str, Any]:
    """Return a stage for JSON."""
    decision = stage.decision
    matched = None
    if decision.matched:
        matched = asdict(decision.matched)
        matched["text"] = read_line(
            config.state_dir, decision.matched.list, decision.matched.version, decision.matched.line
        )
    return {
        "stage": stage.name,
        "verdict": decision.verdict.value,
        "enforced": decision.enforced,
        "reason": decision.reason.value,
        "rule": decision.rule,
        "detail": decision.detail,
        "tls": decision.tls.value if decision.tls else None,
        "pending": [fact.value for fact in decision.pending],
        "matched": matched,
        "technique": list(decision.technique),
        "terms": list(terms(decision)),
        "reported": [reported.rule for reported in decision.reported],
    }


def how_to_trust(certificate: Path) -> Iterator[str]:
    """Yield where the inspection CA is, and how programs on a client are told to trust it."""
    data = certificate.read_bytes()
    fingerprint = x509.load_pem_x509_certificate(data).fingerprint(hashes.SHA256()).hex(":").upper()
    there = "/usr/local/share/ca-certificates/egress-gateway.crt"
    yield f"certificate  {certificate}"
    yield f"SHA-256      {fingerprint}"
    yield f"copy it to every client as {there}, compare the fingerprint there, and:"
    yield "  Debian   update-ca-certificates          (then curl, wget, apt, git and Python's ssl trust it)"
    yield f"  Java     keytool -importcert -cacerts -storepass changeit -noprompt -alias egress-gateway -file {there}"
    yield f"  Node     export NODE_EXTRA_CA_CERTS={there}"
    yield "  pip      pip config set global.cert /etc/ssl/certs/ca-certificates.crt"
    yield "  requests export REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt"
    yield f"  git      git config --system http.https://HOST/.sslCAInfo {there}   (for one host alone)"
    yield "Who has the key beside it can be any server for these clients: keep the state directory to its owner."


# -- selfcheck -----------------------------------------------------------------------------------------------------


def selfcheck_table(scores: Sequence[Score]) -> Rows:
    """Return the battery's score, a row for each number."""
    rows: list[Sequence[object]] = []
    for score in scores:
        resisted = score.tried - len(score.failures)
        first = score.failures[0] if score.failures else ""
        rows.append(
            (score.number, score.title, f"{resisted}/{score.tried}", "pass" if score.passed else "FAIL", first)
        )
    passed = sum(score.passed for score in scores)
    rows.append(("", "all", f"{passed}/{len(scores)}", "pass" if passed == len(scores) else "FAIL", ""))
    return ("number", "bypass", "resisted", "verdict", "first that got through"), rows


def selfcheck_json(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the battery's score with every failure."""
    return [
        {"number": s.number, "title": s.title, "tried": s.tried, "passed": s.passed, "failures": s.failures}
        for s in scores
    ]
