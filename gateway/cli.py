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
from gateway.commands import lists, tunnels
from gateway.commands.options import Address, config_option, fail, find, json_option, load_config
from gateway.config import Config, json_schema, load
from gateway.decision import Point, Reason
from gateway.document import ConfigError
from gateway.explain import explain_destination, explain_name, parse_destination
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.ledger import Event
from gateway.ledger.line import render as render_event
from gateway.ledger.query import Grouping, parse, parse_time, summarize
from gateway.ledger.store import Store
from gateway.proxy.ca import ensure_ca
from gateway.request import Client, Flaw
from gateway.schema import QueryType
from gateway.selfcheck.scripts import CAP
from gateway.selfcheck.session import POLICY, Setting, SetupError
from gateway.selfcheck.session import check as check_proxy
from gateway.service import EXIT_CONFIG, Supervisor, prepare_state_dir
from gateway.upkeep import run_refresh

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


@main.group(invoke_without_command=True)
@config_option
@click.pass_context
def proxy(context: click.Context, config_path: Path | None) -> None:
    """Run the proxy alone. It resolves names by itself and needs no `gateway dns` beside it."""
    context.obj = config_path
    if context.invoked_subcommand is None:
        _serve(config_path, ("proxy",))


@proxy.command(name="ca")
@config_option
@click.option("--export", is_flag=True, help="Print only the certificate, to be put into a file.")
@click.pass_obj
def proxy_ca(outer: Path | None, config_path: Path | None, *, export: bool) -> None:
    """Show the certificate that clients of inspected tunnels have to trust, and how; make it if there is none."""
    config = load_config(config_path or outer)
    if problem := prepare_state_dir(config.state_dir):
        fail(problem)
    certificate = ensure_ca(config.state_dir / "ca")
    if export:
        click.echo(certificate.read_text(), nl=False)
        return
    for line in reports.how_to_trust(certificate):
        console.say(line)


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
    report, _ = run_refresh(config, now=time.time(), offline=True, watch=False)
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


for _command in (lists.refresh_command, lists.feeds, lists.hunt, lists.export, tunnels.tunnels):
    main.add_command(_command)


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
@click.option("--user", help="User name, taken for proven.")
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    metavar="NAME",
    help="Name that a certificate proves: CN=..., DNS:...",
)
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
    certificates: tuple[str, ...],
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
    who = Client(
        address=client, user=user, certificate=certificates[0] if certificates else None, names=certificates[1:]
    )
    try:
        if name is not None:
            code = TypeAdapter(QueryType).validate_python(qtype)
            stages = list(explain_name(policy, who, name, code, addresses))
        else:
            target = parse_destination(destination or "")
            stages = list(
                explain_destination(
                    policy,
                    who,
                    target,
                    method=method.upper(),
                    user_agent=user_agent,
                    addresses=addresses,
                    unproven=_unproven(config, user),
                )
            )
    except ValidationError as error:
        raise click.UsageError(str(error.errors()[0]["ctx"]["error"])) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    point = Point.PROXY if name is None else Point.DNS
    if as_json:
        console.as_json([reports.stage_json(stage, config) for stage in stages])
    else:
        console.table(*reports.stage_table(stages))
        for line in reports.stage_notes(stages, config, policy.groups_of(who, point), resolved=bool(addresses)):
            console.say(line)
    raise SystemExit(int(any(stage.decision.denied for stage in stages)))


def _unproven(config: Config, user: str | None) -> Flaw | None:
    """Return why the proxy would not take a user's word, or ask for a user."""
    accounts = config.accounts
    if accounts is None:
        return None
    if user is not None and user not in accounts.hashes:
        return Flaw(Reason.AUTH_FAILED, f"the htpasswd file has no user {user}")
    return (
        Flaw(Reason.AUTH_REQUIRED, "user name and password are needed")
        if user is None and accounts.required
        else None
    )


def _open_snapshot(config: Config) -> Snapshot | None:
    if not config.active_feeds:
        return None
    try:
        return Snapshot.open(config.snapshot_path)
    except SnapshotError as error:
        fail(str(error))


# -- checking itself -----------------------------------------------------------------------------------------------


@main.command()
@json_option
@click.option("--proxy", default="", metavar="URL", help="Proxy to check; without it, a gateway is started for it.")
@click.option("--good", default="127.0.0.1", show_default=True, help="Address of the origin that is allowed.")
@click.option("--good-port", default=0, help="Its port; 0: any free one.")
@click.option("--dns-listen", default="127.0.0.1:0", show_default=True, help="Where its name server listens.")
@click.option("--patience", default=0.5, show_default=True, help="Seconds to wait for a silent proxy.")
@click.option(
    "--policy", "show_policy", is_flag=True, help="Print the policy that the proxy has to enforce, and end."
)
def selfcheck(
    *, as_json: bool, proxy: str, good: str, good_port: int, dns_listen: str, patience: float, show_policy: bool
) -> None:
    """Try a battery of known bypasses on a proxy, with origins and a name server of its own.

    Exit code 0: everything was resisted; 1: something got through; 2: it could not be tried.
    """
    host, _, port = dns_listen.rpartition(":")
    if not port.isdecimal():
        raise click.UsageError(f"--dns-listen: {dns_listen!r} is not address:port")
    if show_policy:
        click.echo(POLICY.format(port=3128, dns=dns_listen, good=good, good_port=good_port or 443, cap=CAP))
        return

    def progress(name: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{console.clean(name)[:78]}", nl=False, err=True)

    try:
        scores = asyncio.run(check_proxy(Setting(proxy, good, good_port, (host, int(port)), patience), progress))
    except SetupError as error:
        fail(str(error))
    progress("")
    if as_json:
        console.as_json(reports.selfcheck_json(scores))
    else:
        console.table(*reports.selfcheck_table(scores))
    raise SystemExit(int(any(not score.passed for score in scores)))


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
