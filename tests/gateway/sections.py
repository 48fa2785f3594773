"""How tables of values that sections of the policy file accept and refuse become tests."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

type Accepted = list[tuple[type[BaseModel], dict[str, Any], Any]]
"""Rows of a section, a mapping, and what its last key is read into."""
type Refused = list[tuple[str, type[BaseModel], dict[str, Any], str]]
"""Rows of a title, a section, a mapping, and what is said to it: one of several texts, with `|` between them."""


def accepted(rows: Accepted) -> pytest.MarkDecorator:
    """Make a test of each row; its test gets `model`, `value` and `expected`."""
    return pytest.mark.parametrize(("model", "value", "expected"), rows, ids=[next(reversed(row[1])) for row in rows])


def refused(rows: Refused) -> pytest.MarkDecorator:
    """Make a test of each row; its test gets `model`, `value` and `why`."""
    return pytest.mark.parametrize(("model", "value", "why"), [row[1:] for row in rows], ids=[row[0] for row in rows])


def assert_accepted(model: type[BaseModel], value: dict[str, Any], expected: Any) -> None:
    """A value is read into what the product works with."""
    assert getattr(model.model_validate(value), next(reversed(value))) == expected


def assert_refused(model: type[BaseModel], value: dict[str, Any], why: str) -> None:
    """What cannot be meant is refused, with a message that says what is wrong or what is expected."""
    message = refusal(model, value)
    assert any(part in message for part in why.split("|")), message


def refusal(model: type[BaseModel], value: dict[str, Any]) -> str:
    """Return what is said to a value that is not accepted."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return "\n".join(detail["msg"] for detail in caught.value.errors())
