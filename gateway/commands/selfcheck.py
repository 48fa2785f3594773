"""The command that tries known bypasses."""

import asyncio
import sys

import click

from gateway import console
from gateway.commands.options import fail, json_option
from gateway.reports import selfcheck as report
from gateway.selfcheck.scripts import CAP
from gateway.selfcheck.session import POLICY, Setting, SetupError, check


@click.command()
@json_option
@click.option("--proxy", default="", metavar="URL", help="Proxy to check; without it, a gateway is started for it.")
@click.option("--good", default="127.0.0.1", show_default=True, help="Address of the origin that is allowed.")
@click.option("--good-port", type=click.IntRange(0, 65535), default=0, help="Its port; 0: any free one.")
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
    if not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"--dns-listen: {dns_listen!r} is not address:port")
    if show_policy:
        if not int(port):
            raise click.UsageError("--policy: the proxy has to be told a port: give --dns-listen 127.0.0.1:5353")
        click.echo(POLICY.format(port=3128, dns=dns_listen, good=good, good_port=good_port or 443, cap=CAP))
        return

    def progress(name: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{console.clean(name)[:78]}", nl=False, err=True)

    try:
        scores = asyncio.run(check(Setting(proxy, good, good_port, (host, int(port)), patience), progress))
    except SetupError as error:
        fail(str(error))
    progress("")
    if as_json:
        console.as_json(report.as_json(scores))
    else:
        console.table(*report.table(scores))
    raise SystemExit(int(any(not score.passed for score in scores)))
