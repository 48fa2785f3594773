"""The `tunnelling` section of the policy file: what each kind of value accepts, and what it says to the rest."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from gateway.tunnellingsection import TunnellingSection
from tests.gateway.sections import Accepted, Refused, accepted, assert_accepted, assert_refused, refused

ACCEPTED: Accepted = [
    (TunnellingSection, {"action": False}, "off"),
    (TunnellingSection, {"action": "report"}, "report"),
    (TunnellingSection, {"clients": {"web": "report"}}, {"web": "report"}),
    (TunnellingSection, {"leak_budget": ["64B/10m", "1KiB/1d"]}, ((64, 600), (1024, 86400))),
    (TunnellingSection, {"exempt": ["*.Example.com"]}, ("*.example.com",)),
]


@accepted(ACCEPTED)
def test_accepted(model: type[BaseModel], value: dict[str, Any], expected: Any) -> None:
    """A value is read into what the product works with."""
    assert_accepted(model, value, expected)


REFUSED: Refused = [
    ("another action", TunnellingSection, {"action": "maybe"}, "expected 'deny', 'report' or 'off'"),
    ("a budget without a time", TunnellingSection, {"leak_budget": ["120B"]}, "is no budget: give octets and a time"),
    ("a budget of nothing", TunnellingSection, {"leak_budget": ["0B/1h"]}, "is no budget: give octets and a time"),
]


@refused(REFUSED)
def test_refused(model: type[BaseModel], value: dict[str, Any], why: str) -> None:
    """What cannot be meant is refused, with a message that says what is wrong or what is expected."""
    assert_refused(model, value, why)


def test_releases_have_a_time() -> None:
    """A release is a client, a zone and a moment, in UTC unless it says otherwise; other texts are refused."""
    entry = {"client": "10.0.0.7", "zone": "Example.com", "at": "2026-01-31T12:00:00Z"}
    (found,) = TunnellingSection.model_validate({"released": [entry]}).released
    assert (str(found.client), found.zone, found.at) == ("10.0.0.7", "example.com", "2026-01-31T12:00:00+00:00")
    with pytest.raises(ValidationError, match="is no time"):
        TunnellingSection.model_validate({"released": [{**entry, "at": "now"}]})
