"""State over a restart."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tunnelling.data import character_model, popular
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.priors import Priors
from gateway.tunnelling.saved import key_in, restore, save


def a_detector(key: bytes = b"k") -> Detector:
    """Return a detector that knows nothing yet."""
    return Detector(character_model(), Priors(popular()), key=key)


def test_nothing_is_lost() -> None:
    """Budgets, known names and denials are as before."""
    before = a_detector()
    for index in range(30):
        before.query(float(index), "c", f"{index * 7919}.numbers.evilzone.com", 1)
    before.query(31.0, "d", "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com", 16)
    before.response(31.0, "c", "www.evilzone.com", 16, 800)
    data = save(before)
    after = a_detector(key_in(data))
    restore(after, data)
    assert save(after) == data
    for client, name in (("c", "0.numbers.evilzone.com"), ("c", "5551.numbers.evilzone.com"), ("d", "evilzone.com")):
        assert after.query(40, client, name, 1) == before.query(40, client, name, 1)


def test_another_key_is_refused() -> None:
    """Hashes of another key mean nothing."""
    with pytest.raises(ValueError, match="another key"):
        restore(a_detector(b"other"), save(a_detector()))


@given(st.binary(max_size=200))
def test_any_octets_are_refused(data: bytes) -> None:
    """What is no state is refused with a `ValueError`, packed or not."""
    for octets in (data, zlib.compress(data), zlib.compress(b'{"version":1,"key":"6b","zones":[{}]}')):
        with pytest.raises(ValueError, match="state"):
            restore(a_detector(), octets)
