"""The command that reads the ledger."""

import json
import time
from collections import deque
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

import click

from gateway import console
from gateway.commands.options import config_option, json_option, load_config
from gateway.decision import Reason
from gateway.ledger import Event
from gateway.ledger.line import render
from gateway.ledger.query import Grouping, parse, parse_time, summarize
from gateway.ledger.store import Store

ROLES = ("dns", "proxy", "refresh")
"""What writes lines."""


def _known_reason(context: click.Context, option: click.Parameter, value: str) -> str:
    """Refuse a reason that no line can have: nothing found would look like good news."""
    reasons = [reason.value for reason in Reason]
    if not value or value in reasons:
        return value
    near = get_close_matches(value, reasons, 1)
    raise click.BadParameter(f"there is no reason {value!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


@click.command()
@config_option
@json_option
@click.option("--tail", is_flag=True, help="Go on with new decisions as they are made.")
@click.option("--since", default="", help="From then on: 1h, 7d, or 2026-01-31T12:00:00Z.")
@click.option("--until", default="", help="Until then.")
@click.option("--last", "last", type=click.IntRange(min=1), help="Only the last N.")
@click.option("--verdict", type=click.Choice(["allow", "deny"]), default=None)
@click.option("--reason", default="", callback=_known_reason, help="A reason of the README's table, as `listed`.")
@click.option("--rule", default="")
@click.option("--client", default="", help="Address or network.")
@click.option("--name", default="", help="Destination: a.b, *.a.b or .a.b, or an address.")
@click.option("--role", type=click.Choice(ROLES), default=None, help="What wrote the line.")
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
    role: str | None,
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
            role=role or "",
            technique=technique,
            list=list_name,
            id=decision_id,
        )
        start = parse_time(since, now) if since else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    store = Store(config.ledger_folder)
    events: Iterator[Event] = filter(wanted.matches, store.follow(since=start) if tail else store.read(since=start))
    try:
        if grouping is not None:
            _print_counts(grouping, summarize(events, grouping), as_json=as_json)
            return
        if last is not None and not tail:
            events = iter(deque(events, maxlen=last))
        found = False
        for event in events:
            found = True
            click.echo(json.dumps(event) if as_json else render(event, date=not tail))
        if not found:
            console.complain(
                "nothing in the ledger fits" if config.ledger_folder.exists() else "there is no ledger yet"
            )
    except (KeyboardInterrupt, BrokenPipeError):
        return  # whoever was reading has seen enough


def _print_counts(grouping: str, counts: list[tuple[str, int]], *, as_json: bool) -> None:
    if as_json:
        console.as_json([{grouping: value, "count": count} for value, count in counts])
    else:
        console.table((grouping, "count"), counts)
