"""The `control` section of the policy file."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.section import Section, check_listener


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


type ControlListeners = Annotated[
    tuple[Annotated[str, AfterValidator(check_listener)], ...],
    BeforeValidator(_several),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "examples": ["127.0.0.1:9353"],
        }
    ),
]


class ControlSection(Section):
    """Where the gateway itself is looked at: `/healthz` for everybody, `/metrics` for who has the token."""

    listen: ControlListeners = ("127.0.0.1:9353",)
    """Where to answer over HTTP: `address:port`, one or several."""
