"""What commands have in common: how they find their policy file, and how they give up."""

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

import click

from gateway import console
from gateway.addresses import IPAddress
from gateway.config import EXIT_CONFIG, Config, load
from gateway.document import ConfigError

_PLACES = (Path("gateway.yaml"), Path("/etc/gateway/gateway.yaml"))


def config_option[F: Callable[..., Any]](function: F) -> F:
    """Add --config."""
    return click.option(
        "--config",
        "-c",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="GATEWAY_CONFIG",
        help="Policy file. Without it: $GATEWAY_CONFIG, ./gateway.yaml, /etc/gateway/gateway.yaml.",
    )(function)


def json_option[F: Callable[..., Any]](function: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


class Address(click.ParamType[IPAddress]):
    """An address as a parameter."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPAddress:
        """Read it, or say what is wrong."""
        try:
            return ip_address(value)
        except ValueError:
            self.fail(f"{value!r} is no IP address", param, ctx)


def find(path: Path | None) -> Path:
    """Return the policy file: the one given, or where it usually is."""
    if path is not None:
        return path
    for place in _PLACES:
        if place.exists():
            return place
    raise click.UsageError("no policy file: give --config FILE, set GATEWAY_CONFIG, or create ./gateway.yaml")


def load_config(path: Path | None) -> Config:
    """Load the policy file, or print everything wrong with it and exit."""
    try:
        config = load(find(path))
    except ConfigError as error:
        fail(*(str(problem) for problem in error.problems))
    for warning in config.warnings:
        console.complain(str(warning))
    return config


def fail(*messages: str) -> NoReturn:
    """Print what is wrong, and exit with 2."""
    for message in messages:
        console.complain(message)
    raise SystemExit(EXIT_CONFIG)
