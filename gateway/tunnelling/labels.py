"""What a label is by itself, whatever zone it is under: worked out once, since one zone after the other has it.

Pure: no I/O, no clock. A name is known by a number that is made of those of its labels, so that of `www.example.com`
only `example` needs hashing when that is new.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from gateway.memo import Memo
from gateway.tunnelling.charmodel import CharacterModel, numbered

_LABELS = 8192
_PARTS_AT_HAND = 4096
_TEMPLATE_DIGITS = 10
_WORDS = re.compile(r"[a-z]+")
CHEAP = 1.0
"""Octets of a label that need no closer look."""
_MACHINE_DIGITS = 3
"""Digits of a machine's number."""
_WORD, SYLLABLE, _SHORT = 0.2, 0.4, 3
"""Octets of a word that the zone has in other labels: `web`, `-fra` and a number make as many machines as one likes.
Shorter ones are more: there are but a few letters, and a tunnel would soon have told them all. So is a whole label
that the zone has elsewhere: `05a79b52.token` and `05a79b52.captcha`."""
_DIGITS = str.maketrans("0123456789", "0000000000")
_BELOW = 0x9E3779B97F4A7C15
_HASHES = 2**64 - 1
_ROW, _ELSEWHERE, _AS_WORD = 0xD1B54A32D192ED03, 0x5851F42D4C957F2D, 0xAEF17502108EF2D9
"""What tells the numbers of a text apart, by what it is taken for."""


class Label(NamedTuple):
    """What a label is by itself. Numbers of zero stand for what it has not."""

    value: int
    octets: float
    """What it carries under the character model."""
    row: int
    """The numbered row it may be of, by its number: `cdn12`, `cdn13`."""
    row_octets: float
    """What it carries where that row is known."""
    elsewhere: int
    """The same label, whatever is above it; only of one that carries more than a little."""
    words: tuple[int, ...]
    """Its words, if it may be a machine's name."""
    words_octets: float
    """What it carries where they are known."""


def below(parent: int, value: int) -> int:
    """Return the number of what has that value under a parent.

    Sums of keyed hashes are as hard to foresee as those are, and of two orders of labels they differ.
    """
    return parent * _BELOW + value & _HASHES


class Labels:
    """Labels at hand, up to a bound."""

    def __init__(self, model: CharacterModel, hash_of: Callable[[str], int]) -> None:
        self._model = model
        self._hash_of = hash_of
        self.at_hand = Memo[str, Label](_LABELS)
        """Where to look first: `of` works out what is not there."""
        self._parts = Memo[str, int](_PARTS_AT_HAND)

    def of(self, text: str) -> Label:
        """Return what a label is."""
        found = self.at_hand.get(text)
        return self.at_hand.keep(text, self._made(text)) if found is None else found

    def number(self, zone: int, rest: str) -> int:
        """Return the number of a name: of what is in front of a zone's that has a number."""
        for text in reversed(rest.split(".")):
            zone = below(zone, self.of(text).value)
        return zone

    def _made(self, text: str) -> Label:
        octets, value = self._model.octets(text), self._hash_of(text)
        template = text.translate(_DIGITS)
        digits = template.count("0")
        row, row_octets = 0, octets
        if 0 < digits <= _TEMPLATE_DIGITS:
            row, row_octets = self._part(template) ^ _ROW, min(octets, numbered(digits))
        if octets <= CHEAP:
            return Label(value, octets, row, row_octets, 0, (), octets)
        words = _WORDS.findall(text) if digits <= _MACHINE_DIGITS else ()
        of_words = sum([_WORD if len(word) >= _SHORT else SYLLABLE for word in words]) + numbered(digits)
        numbers = tuple([(value if word == text else self._part(word)) ^ _AS_WORD for word in words])
        return Label(value, octets, row, row_octets, value ^ _ELSEWHERE, numbers, min(octets, of_words))

    def _part(self, text: str) -> int:
        found = self._parts.get(text)
        return self._parts.keep(text, self._hash_of(text)) if found is None else found
