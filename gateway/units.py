"""Quantities as people write them in configuration: durations `10s`, sizes `64KiB`, percentages `50%`.

Pure: no I/O, no clock. A bare number is refused where its unit could be guessed wrong: `interval: 60` is seconds to
one program and minutes to the next. The annotated types are for pydantic models; they accept these texts, hold plain
numbers, and appear in the JSON Schema as what is written. For a default that does too, write
`Field("1d", validate_default=True)`.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_OCTETS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,6})?"
_QUANTITY = re.compile(rf"({_NUMBER}) ?([A-Za-z%]*)").fullmatch
_DURATION_PATTERN = rf"^{_NUMBER} ?(?:ms|s|m|h|d|w)$"
_SIZE_PATTERN = rf"^{_NUMBER} ?(?:B|kB|KB|MB|GB|KiB|MiB|GiB)$"
_PERCENT_PATTERN = rf"^{_NUMBER} ?%$"


def parse_duration(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: it is no duration.

    >>> parse_duration("5m"), parse_duration("1.5h"), parse_duration("250ms")
    (300, 5400, 0.25)
    """
    seconds = _amount(text, _SECONDS, "a duration such as 10s, 5m, 24h or 7d")
    return int(seconds) if seconds == int(seconds) else seconds


def parse_size(text: str) -> int:
    """Return a size in octets. `KiB` is 1024 octets, `KB` is 1000.

    Raises:
        ValueError: it is no size, or no whole number of octets.

    >>> parse_size("64KiB"), parse_size("120B")
    (65536, 120)
    """
    octets = _amount(text, _OCTETS, "a size such as 120B, 64KiB or 10MiB")
    if octets != int(octets):
        raise ValueError(f"is not a whole number of octets: {text!r}")
    return int(octets)


def parse_percent(text: str) -> float:
    """Return a percentage as a fraction: `50%` is 0.5.

    Raises:
        ValueError: it is no percentage.

    >>> parse_percent("50%"), parse_percent("300%")
    (0.5, 3.0)
    """
    return _amount(text, {"%": 1}, "a percentage such as 50%") / 100


def _amount(text: str, units: dict[str, float] | dict[str, int], expected: str) -> float:
    match = _QUANTITY(text.strip())
    if match is None or match[2] not in units:
        raise ValueError(f"expected {expected}, not {text!r}")
    number, unit = match.groups()
    return (float(number) if "." in number else int(number)) * units[unit]


def render_duration(seconds: float) -> str:
    """Write a duration in the largest unit that holds it as a whole number.

    >>> render_duration(5400), render_duration(86400), render_duration(0.25)
    ('90m', '1d', '250ms')
    """
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    return "0s" if not seconds else f"{round(seconds * 1000, 6):.15g}ms"


def render_size(octets: int) -> str:
    """Write a size in the largest binary unit that holds it as a whole number.

    >>> render_size(65536), render_size(120)
    ('64KiB', '120B')
    """
    for unit in ("GiB", "MiB", "KiB"):
        if octets and octets % _OCTETS[unit] == 0:
            return f"{octets // _OCTETS[unit]}{unit}"
    return f"{octets}B"


def render_percent(fraction: float) -> str:
    """Write a fraction as a percentage.

    >>> render_percent(0.5)
    '50%'
    """
    return f"{round(fraction * 100, 6):.15g}%"


def _reader(parse: Callable[[str], float], render: Callable[[Any], str], *, bare: bool = False) -> BeforeValidator:
    def read(value: object) -> object:
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return parse(str(value))  # to be refused, with what was expected
        if value < 0:
            raise ValueError("must not be negative")
        if value and not bare:
            raise ValueError(f"needs a unit, as in {render(value)!r}")
        return value

    return BeforeValidator(read)


Duration = Annotated[
    float,
    _reader(parse_duration, render_duration),
    PlainSerializer(render_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN, "examples": ["10s", "5m", "24h", "7d"]}),
]
"""A duration, held in seconds. Zero needs no unit."""

Size = Annotated[
    int,
    _reader(parse_size, render_size, bare=True),
    PlainSerializer(render_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": _SIZE_PATTERN}, {"type": "integer", "minimum": 0}],
            "examples": ["120B", "64KiB", "10MiB"],
        }
    ),
]
"""A size, held in octets; a bare number is octets."""

Percent = Annotated[
    float,
    _reader(parse_percent, render_percent),
    PlainSerializer(render_percent, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _PERCENT_PATTERN, "examples": ["50%", "300%"]}),
]
"""A percentage, held as a fraction."""
