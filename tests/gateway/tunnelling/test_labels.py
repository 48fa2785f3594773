"""Labels: their numbers, and what of them is known by its parts."""

from collections.abc import Callable
from hashlib import blake2b

import pytest

from gateway.tunnelling.data import character_model
from gateway.tunnelling.labels import CHEAP, Labels, below


@pytest.fixture(name="labels")
def _labels() -> Labels:
    return Labels(character_model(), _hashed())


def _hashed() -> Callable[[str], int]:
    return lambda text: int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def test_names_have_numbers_of_their_own(labels: Labels) -> None:
    """Other labels, another order, another zone: another number. The same name has the same one."""
    names = ["a", "b", "a.b", "b.a", "a.a", "a.b.a", "b.a.a", "a.a.b"]
    numbers = {(zone, name): labels.number(zone, name) for zone in (1, 2) for name in names}
    assert len(set(numbers.values())) == len(numbers)
    assert (
        labels.number(labels.number(1, "b"), "a")
        == numbers[1, "a.b"]
        == Labels(character_model(), _hashed()).number(1, "a.b")
    )
    assert all(0 <= number < 2**64 for number in numbers.values())


def test_what_a_label_is_taken_for_has_another_number(labels: Labels) -> None:
    """A label, its row, the same elsewhere and its words are never one thing under one parent."""
    for text in ("blovexi", "0", "zurq07", "zurq07-blovex"):
        label = labels.of(text)
        own = [label.value, *(each for each in (label.row, label.elsewhere, *label.words) if each)]
        assert len({below(7, value) for value in own}) == len(own)


def test_machines_share_their_words_and_rows(labels: Labels) -> None:
    """A word is the same wherever it is, and so is a row, whatever the number."""
    one, two, alone = labels.of("zurq07-blovex"), labels.of("zurq12-blovex"), labels.of("blovex")
    assert one.row == two.row != 0
    assert one.words == two.words
    assert alone.words == (one.words[1],)
    assert one.words_octets < CHEAP < one.octets


def test_what_needs_no_closer_look(labels: Labels) -> None:
    """An ordinary label has no words, and one with many digits is no machine."""
    assert labels.of("www").octets < CHEAP
    assert labels.of("www").words == ()
    assert labels.of("k8sx9f2a77").words == ()
    assert labels.of("1234567890123").row == 0


def test_labels_at_hand_are_bounded(labels: Labels) -> None:
    """However many labels clients make up, some thousand are kept."""
    for number in range(20_000):
        labels.of(f"n{number}")
    assert len(labels.at_hand) <= 8192
