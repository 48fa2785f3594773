"""The `control` section of the policy file: what each kind of value accepts, and what it says to the rest."""

from typing import Any

from pydantic import BaseModel

from gateway.controlsection import ControlSection
from tests.gateway.sections import Accepted, Refused, accepted, assert_accepted, assert_refused, refused

ACCEPTED: Accepted = [
    (ControlSection, {"listen": "127.0.0.1:9353"}, ("127.0.0.1:9353",)),
    (ControlSection, {"listen": ["127.0.0.1:9353", "[::1]:9353"]}, ("127.0.0.1:9353", "[::1]:9353")),
]


@accepted(ACCEPTED)
def test_accepted(model: type[BaseModel], value: dict[str, Any], expected: Any) -> None:
    """A value is read into what the product works with."""
    assert_accepted(model, value, expected)


REFUSED: Refused = [
    ("nowhere", ControlSection, {"listen": []}, "at least 1 item"),
    ("a listener by name", ControlSection, {"listen": "localhost:9353"}, "is no place to listen"),
    ("a listener without a port", ControlSection, {"listen": ["127.0.0.1"]}, "is no place to listen"),
    ("a key that does not exist", ControlSection, {"dashboard": True}, "Extra inputs"),
]


@refused(REFUSED)
def test_refused(model: type[BaseModel], value: dict[str, Any], why: str) -> None:
    """What cannot be meant is refused, with a message that says what is wrong or what is expected."""
    assert_refused(model, value, why)
