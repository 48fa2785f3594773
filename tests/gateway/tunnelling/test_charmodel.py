"""The character model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tunnelling.charmodel import TABLE_SIZE, CharacterModel, numbered, train
from gateway.tunnelling.data import character_model


def test_what_was_seen_is_cheaper() -> None:
    """A label like those of the sample costs less than one of other letters."""
    model = CharacterModel(train(["server", "servers", "service"] * 20), {})
    assert model.bits("server") < model.bits("xqzvkw") / 2


def test_usual_labels_have_their_own_price() -> None:
    """A usual label costs what the list says."""
    assert CharacterModel(bytes(TABLE_SIZE), {"www": 3.5}).bits("www") == 3.5


def test_another_table_is_refused() -> None:
    """A table of another size is none."""
    with pytest.raises(ValueError, match="octets is expected"):
        CharacterModel(b"short", {})


@given(st.text(max_size=80))
def test_any_text_has_a_price(text: str) -> None:
    """Whatever the characters, bits are finite and not negative."""
    assert 0 <= character_model().bits(text) < 16 * 2 * (len(text) + 1)


@pytest.mark.parametrize("data", ["726f6f743a783a30", "k2bdxqvwzjhnfpyr", "vaaaakaxbyq"])
@pytest.mark.parametrize("ordinary", ["images", "graph-fallback", "elephant", "autodiscover", "staging-api"])
def test_data_costs_more_than_words(data: str, ordinary: str) -> None:
    """Encoded data have more bits a character than ordinary labels."""
    model = character_model()
    assert model.bits(data) / len(data) > model.bits(ordinary) / len(ordinary)


@given(st.text(min_size=1, max_size=63))
def test_no_label_has_more_than_its_characters_hold(text: str) -> None:
    """A label counts for no more than its length in 37 symbols."""
    assert 0 <= character_model().octets(text) <= 5.25 * len(text) / 8


@pytest.mark.parametrize(
    ("label", "least", "most"),
    [
        ("726f6f743a783a30", 8, 10.5),
        ("k2bdxqvwzjhnfpyr", 9, 10.5),
        ("web12-fra", 0, 1.5),
        ("api19-core-useast8", 0, 3),
        ("scontent-fra3-2", 0, 3),
        ("839201", 2, 4),
    ],
)
def test_what_counts(label: str, least: float, most: float) -> None:
    """Data count in full, machines that are numbered and words hardly, long numbers for what they hold."""
    assert least <= character_model().octets(label) <= most


def test_words_inside_labels() -> None:
    """A word that is usual is cheaper than its letters."""
    table = train(["server"] * 20)
    label = "qzxjkvw-blorpquux"
    assert CharacterModel(table, {}, {"qzxjkvw": 8.0}).octets(label) < CharacterModel(table, {}).octets(label) - 2


def test_one_more_of_a_row() -> None:
    """A machine number is less than the same digits in a long number."""
    assert numbered(3) < numbered(4) / 2
