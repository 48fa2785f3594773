"""YAML documents whose every value knows its line, so that a problem can be shown where it was written.

Reads files; knows nothing of what the documents mean.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

type Location = tuple[str | int, ...]
"""Keys and positions from the top of the document to a value."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file."""

    file: str
    line: int
    path: str
    """Dotted path in the document, as in `policy.rules[2].to`; empty for the file as a whole."""
    message: str
    """What is wrong, and what is expected."""
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        kind = "warning: " if self.warning else ""
        return f"{self.file}:{self.line}: {kind}{where}{self.message}"


class ConfigError(Exception):
    """The configuration cannot be used. Carries every problem found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.file, problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed YAML file."""

    file: str
    data: Any
    """Dictionaries, lists and scalars as YAML gives them."""
    lines: dict[Location, int] = field(default_factory=dict)
    """Line (from 1) of every key and item."""

    def line(self, location: Location) -> int:
        """Return the line of a value, or of the nearest thing around it that was written."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def problem(self, location: Location, message: str, *, warning: bool = False) -> Problem:
        """Return a problem with the value at a location."""
        return Problem(self.file, self.line(location), _dotted(location), message, warning)


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, is not YAML, or says the same key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), 1, "", f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), 1, "", f"is not UTF-8 text (octet {error.start})")]) from None
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Document:
    """Parse YAML text. Raises as `read_document`."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([Problem(file, line, "", f"is not valid YAML: {error.reason}")]) from None
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(file, None, {(): 1})
        lines: dict[Location, int] = {}
        problems: list[Problem] = []
        _walk(node, (), lines, problems, file)
        if problems:
            raise ConfigError(problems)
        return Document(file, loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError([Problem(file, line, "", f"is not valid YAML: {error.problem or error}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError([Problem(file, 1, "", f"is not valid YAML: {message}")]) from None
    finally:
        loader.dispose()


def _walk(
    node: yaml.Node, location: Location, lines: dict[Location, int], problems: list[Problem], file: str
) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else str(key)
            if name in seen and name != "<<":
                line = key.start_mark.line + 1
                problems.append(Problem(file, line, _dotted((*location, name)), "is given twice; keep one of them"))
            seen.add(name)
            lines[*location, name] = key.start_mark.line + 1
            _walk(value, (*location, name), lines, problems, file)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines[*location, position] = item.start_mark.line + 1
            _walk(item, (*location, position), lines, problems, file)


def validate[M: BaseModel](model: type[M], document: Document, location: Location = ()) -> M:
    """Read a document (or the part of it at a location) into a model.

    Raises:
        ConfigError: with every problem that the model found, each at its line.
    """
    data = document.data
    for step in location:
        data = data[step]
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        raise ConfigError(
            [document.problem(*_reported(location, detail["loc"], detail)) for detail in error.errors()]
        ) from None


def _reported(base: Location, loc: tuple[str | int, ...], detail: Any) -> tuple[Location, str]:
    kind, message = detail["type"], str(detail["msg"])
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[0].lower() + message[1:] if message[:1].isupper() and message[1:2].islower() else message
    if kind == "extra_forbidden":
        message = "unknown key; see `gateway schema` for the keys that exist here"
    elif kind == "missing":
        message = "is missing"
    elif kind not in ("value_error", "assertion_error") and detail.get("input") is not None:
        shown = repr(detail["input"])
        message = f"{message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"
    return (*base, *loc), message


def _dotted(location: Location) -> str:
    parts: list[str] = []
    for step in location:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            parts.append(f".{step}" if parts else step)
    return "".join(parts)
