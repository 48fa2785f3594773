"""How surprising a label is: bits under a character trigram model of ordinary host names, and what of it counts.

Pure: no I/O, no clock. Letters, hyphen and underscore are symbols of their own, all digits are one (and cost another
log2(10) bits each), everything else is one. A table of 31^3 octets holds -log2 P in sixteenths of a bit.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import log2

_ORDER = "abcdefghijklmnopqrstuvwxyz0-_"
_OTHER = len(_ORDER)
_EDGE = _OTHER + 1
_SIZE = _EDGE + 1
_SQUARE = _SIZE * _SIZE
TABLE_SIZE = _SIZE**3
"""Octets of a table."""
_STEP = 16
_DIGIT = log2(10)
_CODES = bytes(
    0 * index
    + (
        _ORDER.index("0" if chr(index).isdigit() else chr(index).lower())
        if index < 128 and (chr(index).isdigit() or chr(index).lower() in _ORDER)
        else _OTHER
    )
    for index in range(256)
)
_STRANGE_BITS = 4.0
"""What an octet that host names do not have costs beyond its symbol: there are 218 of them."""
_DIGIT_CODE = _ORDER.index("0")
_LOW_RATE, _RATE_SPAN, _BEND, _LEAST_WEIGHT = 3.6, 1.6, 1.5, 0.08
"""Ordinary labels have 3.2 to 4.3 bits a character (quartiles of popular names held out), hexadecimal text 5 and
more: the weight goes from least to 1 between."""
_MOST_BITS = 5.25
"""A character of a name that is not case-sensitive carries no more (37 symbols)."""
_PARTS = re.compile(r"[a-z]+|[0-9]+|[^a-z0-9]+")
_LETTERS = re.compile(r"[a-z]+")
_CHEAP = 1.0
"""Octets of a label that is not looked at part by part."""
_WORD_WEIGHT = 0.3
_WORDS = 4096
"""Whose bits are at hand: the letters between the digits of hexadecimal text recur as well as words do."""
_WITHOUT_DIGITS = dict.fromkeys(map(ord, "0123456789"))
_FEW_DIGITS, _FEW_WEIGHT = 3, 0.35
"""A label with no more digits numbers machines, as `web12-fra`; with more they count in full."""
_CHANGE_BITS, _HYPHEN_BITS = 2.5, 1.5
"""From letters to digits or back, and what is neither: names change seldom, hexadecimal text at every other digit.
With these, 16 hexadecimal digits keep nine tenths of what they have by the trigrams alone, and half as many names of
zones held out look like data."""
_EXTRA = [0.0] * _SIZE
_EXTRA[_DIGIT_CODE] = _DIGIT
_EXTRA[_OTHER] = _STRANGE_BITS


class CharacterModel:
    """The table, and the labels and words that are so usual that they have a price of their own."""

    def __init__(self, table: bytes, usual: Mapping[str, float], words: Mapping[str, float] | None = None) -> None:
        """Take a table, the bits of usual labels, and those of words inside labels: `core` in `api19-core-useast8`.

        Raises:
            ValueError: it is no such table.
        """
        if len(table) != TABLE_SIZE:
            raise ValueError(f"a table of {TABLE_SIZE} octets is expected, not {len(table)}")
        bits = [value / _STEP + _EXTRA[index % _SIZE] for index, value in enumerate(table)]
        rows = [bits[index : index + _SIZE] for index in range(0, TABLE_SIZE, _SIZE)]
        self._bits = [rows[index : index + _SIZE] for index in range(0, _SQUARE, _SIZE)]
        self._usual = usual
        self._words = words or {}
        self._word = lru_cache(_WORDS)(self._bits_of_word)
        self._cheap = {label: _weighted(bits, len(label)) / 8 for label, bits in usual.items()}

    def bits(self, label: str) -> float:
        """Return the bits that a label carries, its end included.

        >>> CharacterModel(bytes([32]) * TABLE_SIZE, {"www": 1.0}).bits("www")
        1.0
        """
        usual = self._usual.get(label)
        if usual is not None:
            return usual
        return self._spelled(label)

    def octets(self, label: str) -> float:
        """Return the octets that a label carries, weighted by how unlike an ordinary one it is."""
        cheap = self._cheap.get(label)
        if cheap is not None:
            return cheap
        octets = _weighted(self._spelled(label), len(label)) / 8
        if octets <= _CHEAP:
            return octets
        if _LETTERS.fullmatch(label):  # one part: what it has as a word, or else the same again
            usual = self._words.get(label)
            return octets if usual is None else min(octets, usual * _WORD_WEIGHT / 8)
        return min(octets, self._by_parts(label) / 8)

    def _by_parts(self, label: str) -> float:
        """Return the weighted bits of a label as words, numbers and what is between them."""
        parts = _PARTS.findall(label)
        digits = len(label) - len(label.translate(_WITHOUT_DIGITS))
        of_digits = _FEW_WEIGHT if digits <= _FEW_DIGITS else 1.0
        bits, before = 0.0, ""
        for part in parts:
            if "0" <= part[0] <= "9":
                bits += _DIGIT * len(part) * of_digits
                kind = "0"
            elif "a" <= part[0] <= "z":
                bits += self._word(part)
                kind = "a"
            else:
                bits += _HYPHEN_BITS * len(part)
                kind = ""
            if kind and before and kind != before:
                bits += _CHANGE_BITS * of_digits
            before = kind
        return bits

    def _bits_of_word(self, word: str) -> float:
        """Return the weighted bits of a word inside a label."""
        usual = self._words.get(word)
        return _weighted(self._spelled(word), len(word)) if usual is None else usual * _WORD_WEIGHT

    def _spelled(self, label: str) -> float:
        bits = self._bits
        total, before, last = 0.0, bits[_EDGE], _EDGE
        for code in label.encode("latin-1", "replace").translate(_CODES):
            total += before[last][code]
            before, last = bits[last], code
        return total + before[last][_EDGE]


def numbered(digits: int) -> float:
    """Return the octets of one more number of so many digits in a row of names that is known (`cdn12`, `cdn13`)."""
    return digits * _DIGIT * (_FEW_WEIGHT if digits <= _FEW_DIGITS else 1.0) / 8


def _weighted(bits: float, length: int) -> float:
    above = (bits / length - _LOW_RATE) / _RATE_SPAN
    weight = 1.0 if above >= 1.0 else max(_LEAST_WEIGHT, above**_BEND) if above > 0 else _LEAST_WEIGHT
    return min(bits, _MOST_BITS * length) * weight


def train(labels: Iterable[str]) -> bytes:
    """Return the table for a sample of labels: counts of one, two and three symbols, interpolated."""
    one: Counter[int] = Counter()
    two: Counter[int] = Counter()
    three: Counter[int] = Counter()
    for label in labels:
        codes = [_EDGE, _EDGE, *label.encode("latin-1", "replace").translate(_CODES), _EDGE]
        for before, last, code in zip(codes, codes[1:], codes[2:], strict=False):
            one[code] += 1
            two[last * _SIZE + code] += 1
            three[(before * _SIZE + last) * _SIZE + code] += 1
    total = sum(one.values())
    after_two: Counter[int] = Counter()
    after_one: Counter[int] = Counter()
    for key, count in three.items():
        after_two[key // _SIZE] += count
    for key, count in two.items():
        after_one[key // _SIZE] += count
    table = bytearray(TABLE_SIZE)
    for key in range(TABLE_SIZE):
        context, code = divmod(key, _SIZE)
        last = context % _SIZE
        p = 0.15 / _SIZE + 0.85 * one[code] / total if total else 1 / _SIZE
        p = _mixed(two[last * _SIZE + code], after_one[last], 30, p)
        p = _mixed(three[key], after_two[context], 12, p)
        table[key] = min(255, round(-log2(p) * _STEP))
    return bytes(table)


def _mixed(count: int, total: int, weight: float, lower: float) -> float:
    """Return a frequency, drawn towards that of a shorter context as if that had been seen `weight` times."""
    return (count + weight * lower) / (total + weight)
