"""Metrics as text: the format of Prometheus, version 0.0.4.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.control.cells import PREFIX, Labels

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number."""

    labels: Labels
    value: float
    suffix: str = ""
    """Of its name: the parts of a histogram have one."""


@dataclass(slots=True)
class Family:
    """The numbers of one name, which is given without the prefix that all have."""

    name: str
    type: str
    help: str
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, *labels: tuple[str, str], suffix: str = "") -> None:
        """Add a number."""
        self.samples.append(Sample(labels, value, suffix))


def render(families: Iterable[Family]) -> bytes:
    """Return the text; families without a number are left out."""
    return "".join(line for family in families if family.samples for line in _lines(family)).encode()


def _lines(family: Family) -> Iterator[str]:
    name = PREFIX + family.name
    yield f"# HELP {name} {_escaped(family.help)}\n# TYPE {name} {family.type}\n"
    for sample in family.samples:
        inside = ",".join(f'{key}="{_quoted(value)}"' for key, value in sample.labels)
        yield f"{name}{sample.suffix}{f'{{{inside}}}' if inside else ''} {_number(sample.value)}\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
