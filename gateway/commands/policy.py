"""Commands about the policy file: what is wrong with it, what it may hold, what it makes of a request."""

from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from gateway import console
from gateway.addresses import IPAddress
from gateway.commands.options import Address, config_option, fail, find, json_option, load_config
from gateway.config import EXIT_CONFIG, Config, json_schema, load
from gateway.decision import Point, Reason
from gateway.dns.certificate import CertificateError, server_context
from gateway.document import ConfigError, Problem, read_document
from gateway.explain import Stage, explain_destination, explain_name, parse_destination
from gateway.feeds.snapshot import Snapshot, SnapshotError
from gateway.policy import Policy
from gateway.remedy import RuleText, remedy
from gateway.reports.policy import problems_json, remedy_lines, stage_json, stage_notes, stage_table
from gateway.request import Client, Flaw
from gateway.schema import QueryType, RuleSection


@click.command()
@config_option
@json_option
def check(config_path: Path | None, *, as_json: bool) -> None:
    """Validate the policy file and its catalogues; print every problem.

    Exit code 0: good; 1: there are warnings; 2: it cannot be used.
    """
    path = find(config_path)
    try:
        config = load(path)
        problems = [*config.warnings, *_not_at_hand(config)]
        code = int(bool(problems))
    except ConfigError as error:
        config, problems, code = None, error.problems, EXIT_CONFIG
    if as_json:
        console.as_json(problems_json(problems))
    else:
        for problem in problems:
            console.complain(str(problem))
        if config is not None:
            rules, lists = (
                console.counted(len(config.rules), "rule"),
                console.counted(len(config.active_feeds), "list"),
            )
            console.say(f"{path}: good: {rules}, {lists}")
    raise SystemExit(code)


def _not_at_hand(config: Config) -> Iterator[Problem]:
    """Yield files that are read only when the gateway starts or refreshes, and could not be now, by this user."""
    document = read_document(config.path)
    files = config.proxy_tls
    for section, pair in (("dns", config.dns_certificate), ("proxy", None if files is None else files[:2])):
        try:
            if pair is not None:
                server_context(*pair, (), f"{section}.certificate")
        except CertificateError as error:
            line = document.line((section, "certificate"))
            yield Problem(document.file, line, "", str(error), warning=True)
    for name in config.file.lists:
        feed = config.feeds[name]
        try:
            if feed.enabled and feed.path is not None:
                Path(feed.path).stat()
        except OSError as error:
            message = f"{feed.path}: cannot be read: {error.strerror}"
            yield document.problem(("lists", name, "path"), message, warning=True)


@click.command()
def schema() -> None:
    """Print the JSON Schema of the policy file."""
    console.as_json(json_schema())


@click.command()
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

    def stages_of(policy: Policy) -> list[Stage]:
        if name is not None:
            code = TypeAdapter(QueryType).validate_python(qtype)
            return list(explain_name(policy, who, name, code, addresses))
        return list(
            explain_destination(
                policy,
                who,
                parse_destination(destination or ""),
                method=method.upper(),
                user_agent=user_agent,
                addresses=addresses,
                unproven=_unproven(config, user),
            )
        )

    def with_rule(rule: RuleText) -> list[Stage]:
        try:
            section = RuleSection.model_validate(rule)
        except ValidationError:  # the file cannot say it, as of a method such as M-SEARCH
            return stages
        return stages_of(config.preceded_by(section).policy(snapshot))

    try:
        stages = stages_of(policy)
    except ValidationError as error:
        raise click.UsageError(str(error.errors()[0]["ctx"]["error"])) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    groups = policy.groups_of(who, Point.PROXY if name is None else Point.DNS)
    rule = remedy(stages, groups, with_rule, {known.name for known in config.rules})
    if as_json:
        found = [stage_json(stage, config) for stage in stages]
        found[-1]["remedy"] = rule
        console.as_json(found)
    else:
        console.table(*stage_table(stages))
        for line in (*stage_notes(stages, config, groups, resolved=bool(addresses)), *remedy_lines(stages, rule)):
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
