"""How commands speak: tables on a terminal, plain text in a pipe, JSON when asked.

Everything printed may hold names from the network, so control characters never reach the terminal.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

type Rows = tuple[Sequence[str], list[Sequence[object]]]
"""Headings, and rows under them."""

_STYLES = {"deny": "bold red", "allow": "green", "would deny": "yellow"}

_NARROWEST = 20
"""Columns that the last column of a table keeps; with less, its rows are drawn one below the other."""


def clean(text: str) -> str:
    """Return text with everything unprintable escaped, so that it cannot steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, singular or plural.

    >>> counted(1, "rule"), counted(0, "list")
    ('1 rule', '0 lists')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headings: a rich table on a terminal, aligned columns elsewhere."""
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headings, cells)
        return
    widths = [max(len(heading), *(len(row[i]) for row in cells), 0) for i, heading in enumerate(headings)]
    for line in (headings, *cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _draw(headings: Sequence[str], cells: list[list[str]]) -> None:
    from rich.console import Console  # not at the top: only a terminal needs it, and it takes 40 ms
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    if cells and sum(widths[:-1]) + 2 * len(widths[:-1]) + min(widths[-1], _NARROWEST) > console.width:
        _draw_records(headings, cells)
        return
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for heading, width in zip(headings[:-1], widths, strict=False):
        drawn.add_column(heading, min_width=width)
    drawn.add_column(headings[-1], overflow="fold")  # notes are there, and may be long
    for row in cells:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(drawn)


def _draw_records(headings: Sequence[str], cells: list[list[str]]) -> None:
    """Print each row as lines of its own: columns of a table that is too wide would be cut into syllables."""
    left = max(map(len, headings))
    for row in cells:
        for heading, cell in zip(headings, row, strict=True):
            if cell:
                click.echo(f"{heading.rjust(left)}  {cell}")
        click.echo()


def as_json(data: Any) -> None:
    """Print data as JSON."""
    click.echo(json.dumps(data, indent=2, default=str))


def say(text: str) -> None:
    """Print one line to standard output."""
    click.echo(clean(text))


def complain(text: str) -> None:
    """Print one line to standard error."""
    click.echo(clean(text), err=True)
