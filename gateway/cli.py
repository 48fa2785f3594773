"""The commands. Each reads its options, calls the part that does the work, and prints what came of it.

Exit codes: 0 good, 1 found what you should look at, 2 usage or configuration error.
"""

import asyncio
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
from pydantic import TypeAdapter, ValidationError

from gateway import __version__, console, reports
from gateway.addresses import IPAddress
from gateway.commands import tunnels
from gateway.commands.options import Address, config_option, fail, find, json_option, load_config
from gateway.config import Config, json_schema, load
from gateway.document import ConfigError
from gateway.explain import explain_destination, explain_name, parse_destination
from gateway.feeds.refresh import refresh
from gateway.feeds.report import Progress, RefreshReport, Step
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.ledger import Event
from gateway.ledger.line import render as render_event
from gateway.ledger.query import Grouping, parse, parse_time, summarize
from gateway.ledger.store import Store
from gateway.request import Client
from gateway.schema import QueryType
from gateway.service import EXIT_CONFIG, Supervisor, prepare_state_dir

_LOG = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """Filter what servers may reach: one policy for a proxy and a resolver, one ledger of decisions."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)


# -- serving -------------------------------------------------------------------------------------------------------


@main.command()
@config_option
def run(config_path: Path | None) -> None:
    """Run everything: resolver and proxy."""
    _serve(config_path, ("dns", "proxy"))


@main.command()
@config_option
def dns(config_path: Path | None) -> None:
    """Run the resolver alone."""
    _serve(config_path, ("dns",))


@main.command()
@config_option
def proxy(config_path: Path | None) -> None:
    """Run the proxy alone. It resolves names by itself and needs no `gateway dns` beside it."""
    _serve(config_path, ("proxy",))


def _serve(config_path: Path | None, roles: tuple[str, ...]) -> None:
    config = load_config(config_path)
    if problem := prepare_state_dir(config.state_dir):
        fail(problem)
    if problem := _prepare(config):
        fail(problem)

    def on_ready() -> None:
        for line in reports.welcome(config, roles, _shown(Path(sys.argv[0])), _shown(config.path)):
            console.say(line)

    supervisor = Supervisor(config, roles, on_ready, _prepare)
    raise SystemExit(asyncio.run(supervisor.run()))


def _shown(path: Path) -> str:
    """Return a path as one would type it from the current folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _prepare(config: Config) -> str | None:
    """Bring the snapshot up to date from what is on this disk, without any network.

    Returns why there is no snapshot to go on with, or None when there is one (or none is needed).
    """
    if not config.active_feeds:
        return None
    report = _refresh(config, offline=True)
    for line in reports.findings(report):
        _LOG.warning("%s", line)
    if not report.problem:
        return None
    try:
        Snapshot.open(config.snapshot_path).close()
    except SnapshotError as error:
        return f"no lists to filter with: {report.problem}; {error}"
    _LOG.warning("going on with the last good lists: %s", report.problem)
    return None


main.add_command(tunnels.tunnels)


# -- lists ---------------------------------------------------------------------------------------------------------


@main.command(name="refresh")
@config_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print only what needs attention: for cron.")
@click.option("--offline", is_flag=True, help="Use local files and the copies at hand; no network.")
@click.option("--force", is_flag=True, help="Ask for feeds before their interval is over.")
@click.option("--accept", multiple=True, metavar="FEED", help="Accept a feed's new copy whatever its size.")
def refresh_command(
    config_path: Path | None, *, as_json: bool, quiet: bool, offline: bool, force: bool, accept: tuple[str, ...]
) -> None:
    """Fetch feeds and compile all lists into the snapshot that workers use.

    Exit code 0: all lists are the newest; 1: some kept their last good copy; 2: nothing could be compiled.
    """
    config = load_config(config_path)
    if problem := prepare_state_dir(config.state_dir):
        fail(problem)
    report = _refresh(config, offline=offline, force=force, accept=accept, show=not (quiet or as_json))
    if as_json:
        console.as_json(reports.refresh_json(report))
    elif not quiet:
        console.table(*reports.refresh_table(report))
    if not as_json:
        for line in reports.findings(report):
            console.complain(line)
    raise SystemExit(report.exit_code)


def _refresh(
    config: Config, *, offline: bool, force: bool = False, accept: tuple[str, ...] = (), show: bool = False
) -> RefreshReport:
    def progress(event: Progress) -> None:
        if show and sys.stderr.isatty() and event.step is not Step.FETCHING:
            click.echo(f"{event.step} {event.name}".rstrip(), err=True)

    return asyncio.run(
        refresh(
            config.feeds,
            config.state_dir,
            now=time.time(),
            offline=offline,
            force=force,
            accept=accept,
            progress=progress,
        )
    )


# -- policy --------------------------------------------------------------------------------------------------------


@main.command()
@config_option
@json_option
def check(config_path: Path | None, *, as_json: bool) -> None:
    """Validate the policy file and its catalogues; print every problem.

    Exit code 0: good; 1: there are warnings; 2: it cannot be used.
    """
    path = find(config_path)
    try:
        config = load(path)
        problems, code = list(config.warnings), int(bool(config.warnings))
    except ConfigError as error:
        config, problems, code = None, error.problems, EXIT_CONFIG
    if as_json:
        console.as_json(reports.problems_json(problems))
    else:
        for problem in problems:
            console.complain(str(problem))
        if config is not None:
            rules, lists = (
                reports.counted(len(config.rules), "rule"),
                reports.counted(len(config.active_feeds), "list"),
            )
            console.say(f"{path}: good: {rules}, {lists}")
    raise SystemExit(code)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the policy file."""
    console.as_json(json_schema())


@main.command()
@config_option
@json_option
@click.argument("destination", required=False)
@click.option("--dns", "name", metavar="NAME", help="Explain a DNS question instead of a URL.")
@click.option("--type", "qtype", default="A", show_default=True, help="Its query type.")
@click.option("--client", type=Address(), default="127.0.0.1", show_default=True, help="Who asks.")
@click.option("--user", help="Proven user name.")
@click.option("--method", default="GET", show_default=True)
@click.option("--user-agent", default="", help="As the client would send it, in CONNECT too.")
@click.option("--address", "addresses", type=Address(), multiple=True, help="Assume that the name resolves to this.")
def explain(
    config_path: Path | None,
    *,
    as_json: bool,
    destination: str | None,
    name: str | None,
    qtype: str,
    client: IPAddress,
    user: str | None,
    method: str,
    user_agent: str,
    addresses: tuple[IPAddress, ...],
) -> None:
    """Say what would happen to a request, at each stage, and why. Sends nothing.

    DESTINATION is https://host/path, http://host/path or host:port. Exit code 0: allowed; 1: denied.
    """
    if (destination is None) == (name is None):
        raise click.UsageError("give a DESTINATION, or --dns NAME")
    config = load_config(config_path)
    snapshot = _open_snapshot(config)
    policy = config.policy(snapshot)
    who = Client(address=client, user=user)
    try:
        if name is not None:
            code = TypeAdapter(QueryType).validate_python(qtype)
            stages = list(explain_name(policy, who, name, code, addresses))
        else:
            target = parse_destination(destination or "")
            stages = list(
                explain_destination(
                    policy, who, target, method=method.upper(), user_agent=user_agent, addresses=addresses
                )
            )
    except ValidationError as error:
        raise click.UsageError(str(error.errors()[0]["ctx"]["error"])) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        console.as_json([reports.stage_json(stage, config) for stage in stages])
    else:
        console.table(*reports.stage_table(stages))
        for line in reports.stage_notes(stages, config, policy.groups_of(who), resolved=bool(addresses)):
            console.say(line)
    raise SystemExit(int(any(stage.decision.denied for stage in stages)))


def _open_snapshot(config: Config) -> Snapshot | None:
    if not config.active_feeds:
        return None
    try:
        return Snapshot.open(config.snapshot_path)
    except SnapshotError as error:
        fail(str(error))


# -- evidence ------------------------------------------------------------------------------------------------------


@main.command()
@config_option
@json_option
@click.option("--tail", is_flag=True, help="Go on with new decisions as they are made.")
@click.option("--since", default="", help="From then on: 1h, 7d, or 2026-01-31T12:00:00Z.")
@click.option("--until", default="", help="Until then.")
@click.option("--last", "last", type=click.IntRange(min=1), help="Only the last N.")
@click.option("--verdict", type=click.Choice(["allow", "deny"]), default=None)
@click.option("--reason", default="")
@click.option("--rule", default="")
@click.option("--client", default="", help="Address or network.")
@click.option("--name", default="", help="Destination: a.b, *.a.b or .a.b, or an address.")
@click.option("--role", default="", help="dns or proxy.")
@click.option("--technique", default="", help="ATT&CK technique, with its sub-techniques.")
@click.option("--list", "list_name", default="", help="List or feed that matched.")
@click.option("--id", "decision_id", default="", help="Decision id, as shown in a block page or DNS error.")
@click.option("--count", "grouping", type=click.Choice(list(get_args(Grouping.__value__))), help="Count by this.")
def ledger(
    config_path: Path | None,
    *,
    as_json: bool,
    tail: bool,
    since: str,
    until: str,
    last: int | None,
    verdict: str | None,
    reason: str,
    rule: str,
    client: str,
    name: str,
    role: str,
    technique: str,
    list_name: str,
    decision_id: str,
    grouping: Grouping | None,
) -> None:
    """Show recorded decisions. All conditions given must hold."""
    config = load_config(config_path)
    now = time.time()
    try:
        wanted = parse(
            now=now,
            since=since,
            until=until,
            verdict=verdict or "",
            reason=reason,
            rule=rule,
            client=client,
            name=name,
            role=role,
            technique=technique,
            list=list_name,
            id=decision_id,
        )
        start = parse_time(since, now) if since else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    store = Store(config.state_dir / "ledger")
    events: Iterator[Event] = filter(wanted.matches, store.follow(since=start) if tail else store.read(since=start))
    try:
        if grouping is not None:
            _print_counts(grouping, summarize(events, grouping), as_json=as_json)
            return
        if last is not None and not tail:
            events = iter(deque(events, maxlen=last))
        for event in events:
            click.echo(json.dumps(event) if as_json else render_event(event, date=not tail))
    except (KeyboardInterrupt, BrokenPipeError):
        return  # whoever was reading has seen enough


def _print_counts(grouping: str, counts: list[tuple[str, int]], *, as_json: bool) -> None:
    if as_json:
        console.as_json([{grouping: value, "count": count} for value, count in counts])
    else:
        console.table((grouping, "count"), counts)
