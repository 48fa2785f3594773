"""Commands about DNS tunnels: who is suspect, how to let them go, and what would have been denied in a recording."""

import secrets
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import yaml

from gateway import console
from gateway.addresses import IPAddress, client_key
from gateway.commands.options import Address, config_option, fail, find, json_option, load_config
from gateway.config import Config
from gateway.dns.accounts import open_table, table_path
from gateway.dns.leakage import make_detector
from gateway.dns.settings import Tunnelling, make_tunnelling
from gateway.domainset import parse_pattern
from gateway.ledger.query import parse_time
from gateway.ledger.store import Store
from gateway.ledger.suspects import gather, owner_of
from gateway.names import normalize, registered_domain
from gateway.recordings.files import Recording
from gateway.reports.tunnels import finding_table, moment, summary, suspect_json, suspect_table
from gateway.tunnelling.analysis import analyse
from gateway.tunnelling.detector import windows
from gateway.tunnelling.zones import classify

_RELOAD = "then send SIGHUP to the process that runs 'gateway run': all its workers load the file again"
_NOT_RUNNING = "it counts as well when the gateway starts the next time"


class Owner(Address):
    """An address, or the network of an IPv6 client as `gateway tunnels` shows it."""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> IPAddress:
        """Read it."""
        return super().convert(value.removesuffix("/64") if ":" in str(value) else value, param, context)


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.option("--since", default="", help="From then on: 1h, 7d, or 2026-01-31T12:00:00Z. Without it: all there is.")
@click.pass_context
def tunnels(context: click.Context, config_path: Path | None, *, as_json: bool, since: str) -> None:
    """Show clients that told zones too much, as the ledger has it: what left, and what was denied.

    Exit code 0: no zone is closed to any client; 1: some are.
    """
    if context.invoked_subcommand is not None:
        context.obj = config_path
        return
    config, now = load_config(config_path), time.time()
    try:
        start = parse_time(since, now) if since else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    suspects = gather(Store(config.ledger_folder).read(since=start))
    released = _released(config)
    states = [suspect.state(now, released) for suspect in suspects]
    if as_json:
        console.as_json([suspect_json(*pair) for pair in zip(suspects, states, strict=True)])
    else:
        console.table(*suspect_table(suspects, states))
    raise SystemExit(int("closed" in states))


def _released(config: Config) -> dict[tuple[str, str], float]:
    """Return when clients were released, as the policy file has it."""
    found: dict[tuple[str, str], float] = {}
    for entry in config.file.tunnelling.released:
        key = (owner_of(str(entry.client)), classify(entry.zone).zone)
        found[key] = max(found.get(key, 0.0), datetime.fromisoformat(entry.at).timestamp())
    return found


# -- letting go ----------------------------------------------------------------------------------------------------


@tunnels.command()
@config_option
@click.option(
    "--now", "at_once", is_flag=True, help="Release at once, in the accounts of the gateway on this machine."
)
@click.argument("client", type=Owner())
@click.argument("zone")
@click.pass_context
def release(context: click.Context, config_path: Path | None, client: IPAddress, zone: str, *, at_once: bool) -> None:
    """Print what to add to the policy file so that CLIENT may ask about ZONE again.

    The client's account begins anew. It is denied again as soon as it tells the zone too much again. With --now
    nothing needs to be added or loaded: all workers go by that account. Exit code 1: nothing was closed.
    """
    config = load_config(config_path or context.obj)
    if at_once:
        _release_now(config, client, _name(zone))
        return
    kept = [
        {"client": str(entry.client), "zone": entry.zone, "at": entry.at} for entry in config.file.tunnelling.released
    ]
    entry = {"client": str(client), "zone": classify(_name(zone)).zone, "at": moment(time.time())}
    _print_configuration(config, {"released": [*kept, entry]})


@tunnels.command()
@config_option
@click.argument("zone")
@click.pass_context
def exempt(context: click.Context, config_path: Path | None, zone: str) -> None:
    """Print what to add to the policy file so that nothing is accounted for ZONE and below.

    ZONE is a name, or a pattern: `*.a.b` for what is below it alone.
    """
    config = load_config(config_path or context.obj)
    try:
        name, exact, below = parse_pattern(zone)
    except ValueError as error:
        raise click.UsageError(f"{zone!r}: {error}") from None
    if not registered_domain(name):
        console.complain(f"warning: anybody may have a name below {name}: none of them would be accounted for")
    pattern = f"*.{name}" if below and not exact else f".{name}"
    _print_configuration(config, {"exempt": list(dict.fromkeys([*config.file.tunnelling.exempt, pattern]))})


def _release_now(config: Config, client: IPAddress, name: str) -> None:
    settings = make_tunnelling(config.file.tunnelling, config.file.dns)
    now, seconds = time.time(), windows(settings.budget)
    if not table_path(config.state_dir, seconds).exists():
        fail(f"{table_path(config.state_dir, seconds)}: there is no such file: no gateway has counted here")
    table = open_table(config.state_dir, seconds, now)
    if table is None:
        fail(f"{config.state_dir}: the accounts cannot be opened")
    who, zone = owner_of(str(client)), classify(name).zone
    if not make_detector(settings, table.key, table).release(now, client_key(client), name):
        console.say(f"{zone} was not closed to {who}")
        raise SystemExit(1)
    console.say(f"{who} may ask about {zone} again, as from now")


def _name(text: str) -> str:
    try:
        return normalize(text)
    except ValueError as error:
        raise click.UsageError(f"{text!r}: {error}") from None


def _print_configuration(config: Config, section: dict[str, Any]) -> None:
    console.say(f"# in {config.path}, beside what else is under tunnelling:")
    for line in yaml.safe_dump({"tunnelling": section}, sort_keys=False).splitlines():
        console.say(line)
    console.say(f"# {_RELOAD};")
    console.say(f"# {_NOT_RUNNING}")


# -- trying out ----------------------------------------------------------------------------------------------------


@tunnels.command(name="analyse")
@config_option
@json_option
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_context
def analyse_command(context: click.Context, config_path: Path | None, *, as_json: bool, file: Path) -> None:
    """Say what would have been denied of recorded queries, and what would have left before.

    FILE is a ledger of ours (complete with `allowed_dns: true`), JSON lines with t, client, qname and qtype, a
    dns.log of Zeek as text or JSON, or a pcap; with gzip or without. Budgets, exemptions and controls are those of
    the policy file, if there is one. Exit code 0: nothing would have been denied; 1: something would.
    """
    recording = Recording(file)
    try:
        report = analyse(make_detector(_settings(config_path or context.obj), secrets.token_bytes(16)), recording)
    except (OSError, ValueError) as error:
        fail(f"{file}: {error}")
    if as_json:
        console.as_json({**asdict(report), "unreadable": recording.unreadable, "flaw": recording.flaw})
    else:
        if report.findings:
            console.table(*finding_table(report.findings))
        for line in summary(report, recording):
            console.say(line)
    if not report.queries:
        fail(f"{file}: no query found in it" + (f"; {recording.flaw}" if recording.flaw else ""))
    raise SystemExit(int(bool(report.findings)))


def _settings(path: Path | None) -> Tunnelling:
    """Return what the policy file says, or what holds without one."""
    try:
        place = find(path)
    except click.UsageError:
        return Tunnelling()
    file = load_config(place).file
    return make_tunnelling(file.tunnelling, file.dns)
