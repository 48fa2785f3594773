"""How surprising a label is: bits under a character trigram model of ordinary host names.

Pure: no I/O, no clock. Letters, hyphen and underscore are symbols of their own, all digits are one (and cost another
log2(10) bits each), everything else is one. A table of 31^3 octets holds -log2 P in sixteenths of a bit.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
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
_EXTRA = [0.0] * _SIZE
_EXTRA[_DIGIT_CODE] = _DIGIT
_EXTRA[_OTHER] = _STRANGE_BITS


class CharacterModel:
    """The table, and the labels that are so usual that they have a price of their own."""

    def __init__(self, table: bytes, usual: Mapping[str, float]) -> None:
        """Take a table and the bits of usual labels.

        Raises:
            ValueError: it is no such table.
        """
        if len(table) != TABLE_SIZE:
            raise ValueError(f"a table of {TABLE_SIZE} octets is expected, not {len(table)}")
        self._bits = [value / _STEP + _EXTRA[index % _SIZE] for index, value in enumerate(table)]
        self._usual = usual

    def bits(self, label: str) -> float:
        """Return the bits that a label carries, its end included.

        >>> CharacterModel(bytes([32]) * TABLE_SIZE, {"www": 1.0}).bits("www")
        1.0
        """
        usual = self._usual.get(label)
        if usual is not None:
            return usual
        bits = self._bits
        total = 0.0
        context = _EDGE * _SIZE + _EDGE
        for code in label.encode("latin-1", "replace").translate(_CODES):
            context = context % _SQUARE * _SIZE + code
            total += bits[context]
        return total + bits[context % _SQUARE * _SIZE + _EDGE]


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
