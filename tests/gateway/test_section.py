"""What the sections of the policy file are made of."""

from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.section import Conditions, Section, Workers, check_listener, split_listener


class Sample(Section):
    """A section."""

    workers: Workers = "auto"


class Wanted(Conditions):
    """Conditions."""

    names: tuple[str, ...] = ()


def test_a_section_takes_its_keys_and_no_others() -> None:
    """A key that a section does not have is refused."""
    assert Sample.model_validate({"workers": 2}) == Sample(workers=2)
    with pytest.raises(ValidationError, match="Extra inputs"):
        Sample.model_validate({"worker": 2})


def test_a_section_does_not_change() -> None:
    """What was read stays as it is."""
    with pytest.raises(ValidationError):
        Sample().workers = 3  # type: ignore[misc]  # on purpose


def test_a_place_to_listen_is_taken_apart() -> None:
    """Address and port, with and without brackets."""
    assert split_listener("127.0.0.1:9353") == (ip_address("127.0.0.1"), 9353)
    assert split_listener("[::1]:80") == (ip_address("::1"), 80)


def test_an_empty_condition_is_refused() -> None:
    """An empty list does not come to mean everything."""
    assert Wanted.model_validate({}).names == ()
    with pytest.raises(ValidationError, match="is empty, which would mean any"):
        Wanted.model_validate({"names": []})


@pytest.mark.parametrize("value", [0, 257, True, "many", 1.5])
def test_workers(value: Any) -> None:
    """A number of processes is one that a machine could have, or `auto`."""
    with pytest.raises(ValidationError, match="expected 'auto' or a number"):
        Sample.model_validate({"workers": value})


@pytest.mark.parametrize(
    ("place", "good"),
    [
        ("127.0.0.1:3128", True),
        ("[::1]:0", True),
        ("127.0.0.1", False),
        ("localhost:53", False),
        ("127.0.0.1:65536", False),
        ("127.0.0.1:", False),
    ],
)
def test_places_to_listen(place: str, good: bool) -> None:
    """A place to listen is an address and a port."""
    if good:
        assert check_listener(place) == place
        return
    with pytest.raises(ValueError, match="is no place to listen"):
        check_listener(place)
