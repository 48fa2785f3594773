"""Quantities: what people write, and what is held."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from gateway.units import (
    Duration,
    Percent,
    Size,
    parse_duration,
    parse_percent,
    parse_size,
    render_duration,
    render_percent,
    render_size,
)


class Example(BaseModel):
    """A model with one of each."""

    duration: Duration = Field("1d", validate_default=True)
    size: Size = Field("64KiB", validate_default=True)
    percent: Percent | None = None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("5m", 300),
        ("24h", 86400),
        ("7d", 604800),
        ("2w", 1209600),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is read in seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("120B", 120),
        ("64KiB", 65536),
        ("10MiB", 10485760),
        ("1GiB", 1 << 30),
        ("1kB", 1000),
        ("1.5KiB", 1536),
        ("0B", 0),
    ],
)
def test_sizes(text: str, octets: int) -> None:
    """A size is read in octets, with binary and decimal units kept apart."""
    assert parse_size(text) == octets


@pytest.mark.parametrize("text", ["", "10", "10 parsecs", "-5s", "5M", "1e3s", "m", "5 m in", "٣s", "5s5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Text that is no duration is refused, and the message shows what one looks like."""
    with pytest.raises(ValueError, match="expected a duration such as 10s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "10", "10K", "10 mb", "-1B", "MiB", "10Mib"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Text that is no size, or could be one of two, is refused."""
    with pytest.raises(ValueError, match="expected a size such as 120B"):
        parse_size(text)


def test_a_size_is_a_whole_number_of_octets() -> None:
    """There is no half octet."""
    with pytest.raises(ValueError, match="not a whole number of octets"):
        parse_size("1.5B")


@pytest.mark.parametrize(("text", "fraction"), [("50%", 0.5), ("300%", 3.0), ("0%", 0), ("12.5%", 0.125)])
def test_percentages(text: str, fraction: float) -> None:
    """A percentage is read as a fraction."""
    assert parse_percent(text) == fraction


@given(st.integers(0, 10**12))
def test_sizes_and_durations_survive_writing(number: int) -> None:
    """What is written is read back as it was."""
    assert parse_size(render_size(number)) == number
    assert parse_duration(render_duration(number)) == number


@given(st.integers(0, 10**6))
def test_percentages_survive_writing(number: int) -> None:
    """What is written is read back as it was."""
    assert math.isclose(parse_percent(render_percent(number / 1000)), number / 1000)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"duration": 60}, "needs a unit, as in '1m'"),
        ({"duration": True}, "expected a duration"),
        ({"duration": None}, "expected a duration"),
        ({"percent": 50}, "needs a unit"),
        ({"size": -1}, "must not be negative"),
        ({"size": 1.5}, "valid integer"),
    ],
)
def test_numbers_without_units_are_refused(values: dict[str, object], message: str) -> None:
    """A bare number is refused where its unit could be guessed wrong."""
    with pytest.raises(ValidationError, match=message):
        Example.model_validate(values)


def test_zero_and_octets_need_no_unit() -> None:
    """Zero is zero in any unit, and a bare size is octets."""
    example = Example.model_validate({"duration": 0, "size": 100})
    assert (example.duration, example.size) == (0, 100)


def test_schema_shows_what_is_written() -> None:
    """The JSON Schema describes texts with units, their defaults too, and a dump writes them."""
    properties = Example.model_json_schema()["properties"]
    assert properties["duration"]["type"] == "string"
    assert properties["duration"]["default"] == "1d"
    assert properties["size"]["default"] == "64KiB"
    assert Example(percent=0).model_dump(mode="json") == {"duration": "1d", "size": "64KiB", "percent": "0%"}
