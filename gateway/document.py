"""YAML documents whose every value knows its line, so that a problem can be shown where it was written.

Reads files; knows nothing of what the documents mean.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeAliasType, Union, get_args, get_origin

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
        details = error.errors()
        # A list whose items are all wrong is also said to be too short: no news, and not what was written.
        wrong = {detail["loc"][:-1] for detail in details}
        raise ConfigError(
            [
                document.problem(*_reported(model, location, detail["loc"], detail))
                for detail in details
                if not (detail["type"] == "too_short" and detail["loc"] in wrong)
            ]
        ) from None


def _reported(
    model: type[BaseModel], base: Location, loc: tuple[str | int, ...], detail: Any
) -> tuple[Location, str]:
    kind, message = detail["type"], str(detail["msg"])
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[0].lower() + message[1:] if message[:1].isupper() and message[1:2].islower() else message
    message = message.removeprefix("input should be ")
    if kind in _EXPECTED or kind in ("literal_error", "enum"):
        message = f"expected {_EXPECTED.get(kind, message)}"
    if kind == "extra_forbidden":
        message = _unknown_key(str(loc[-1]), _keys_at(model, loc[:-1]))
    elif kind == "missing":
        message = "is missing"
    elif kind == "too_short" and not detail["input"]:
        message = "is empty"
    elif kind not in ("value_error", "assertion_error") and detail.get("input") is not None:
        shown = repr(detail["input"])
        message = f"{message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"
    return (*base, *loc), message


_EXPECTED = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_type": "text (in quotes)",
    "int_type": "a number",
    "int_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
"""Kinds of pydantic's errors, and what was expected, in words of the file and not of Python."""


def _unknown_key(key: str, known: list[str]) -> str:
    if near := get_close_matches(key, known, 1):
        return f"unknown key; did you mean {near[0]!r}?"
    return f"unknown key; there is: {', '.join(known)}" if known else "unknown key"


def _keys_at(model: type[BaseModel], loc: Location) -> list[str]:
    """Return the keys that exist where an error was found."""
    found: Any = model
    for step in loc:
        found = _inside(found, step)
    return list(here.model_fields) if (here := _model(found)) else []


def _inside(annotation: Any, step: str | int) -> Any:
    """Return the type of a key or item of what has this type; None where nothing is known of it."""
    model = _model(annotation)
    if model is not None:
        field = model.model_fields.get(str(step))
        return field.annotation if field is not None else None
    for kind in _variants(annotation):
        if get_origin(kind) in (dict, tuple, list):
            return get_args(kind)[get_origin(kind) is dict]
    return None


def _model(annotation: Any) -> type[BaseModel] | None:
    kinds = [kind for kind in _variants(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return kinds[0] if len(kinds) == 1 else None


def _variants(annotation: Any) -> Iterator[Any]:
    """Yield what a type stands for, without aliases, annotations and unions."""
    if isinstance(annotation, TypeAliasType):
        yield from _variants(annotation.__value__)
    elif get_origin(annotation) is Annotated:
        yield from _variants(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for variant in get_args(annotation):
            yield from _variants(variant)
    else:
        yield annotation


def _dotted(location: Location) -> str:
    parts: list[str] = []
    for step in location:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            parts.append(f".{step}" if parts else step)
    return "".join(parts)
