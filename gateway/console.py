"""How commands speak: tables on a terminal, plain text in a pipe, JSON when asked.

Everything printed may hold names from the network, so control characters never reach the terminal.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {"deny": "bold red", "allow": "green", "would deny": "yellow"}


def clean(text: str) -> str:
    """Return text with everything unprintable escaped, so that it cannot steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headings: a rich table on a terminal, aligned columns elsewhere."""
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        rich_table = Table(box=None, header_style="bold", pad_edge=False)
        for heading in headings:
            rich_table.add_column(heading, overflow="fold")
        for row in cells:
            rich_table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        Console().print(rich_table)
        return
    widths = [max(len(heading), *(len(row[i]) for row in cells), 0) for i, heading in enumerate(headings)]
    for line in (headings, *cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def as_json(data: Any) -> None:
    """Print data as JSON."""
    click.echo(json.dumps(data, indent=2, default=str))


def say(text: str) -> None:
    """Print one line to standard output."""
    click.echo(clean(text))


def complain(text: str) -> None:
    """Print one line to standard error."""
    click.echo(clean(text), err=True)
