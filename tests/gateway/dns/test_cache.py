"""Tests for gateway.dns.cache."""

from gateway.dns.cache import Cache, Key
from gateway.dns.message import Answer

KEY = Key("a.example", 1, False, False)


def answer(ttl: int = 60, size: int = 10) -> Answer:
    """Return an answer that may be kept for some seconds."""
    return Answer(0, (1, 0), b"x" * size, (), ttl)


def test_an_answer_lives_as_long_as_its_ttl() -> None:
    """An entry is there until its TTL is over, and leaves no trace after it."""
    cache = Cache(10)
    cache.put(KEY, answer(60), 1000)
    found = cache.get(KEY, 1059.9)
    assert found is not None
    assert (found.stored, found.expires) == (1000, 1060)
    assert cache.get(KEY, 1060) is None
    assert (len(cache), cache.octets) == (0, 0)


def test_a_ttl_of_zero_is_not_kept() -> None:
    """An answer for one use only is not kept."""
    cache = Cache(10)
    cache.put(KEY, answer(0), 1000)
    assert len(cache) == 0


def test_no_room_means_no_cache() -> None:
    """With zero entries nothing is kept."""
    cache = Cache(0)
    cache.put(KEY, answer(), 1000)
    assert cache.get(KEY, 1000) is None


def test_every_part_of_the_key_counts() -> None:
    """Name, type, DO and CD each lead to an answer of their own."""
    cache = Cache(10)
    keys = [KEY, KEY._replace(name="b"), KEY._replace(qtype=28), KEY._replace(dnssec_ok=True)]
    keys.append(KEY._replace(checking_disabled=True))
    for number, key in enumerate(keys, 1):
        cache.put(key, answer(number), 0)
    assert [entry.answer.ttl for key in keys if (entry := cache.get(key, 0))] == [1, 2, 3, 4, 5]


def test_the_least_recently_used_goes_first() -> None:
    """A full cache forgets what was not asked for the longest."""
    cache = Cache(3)
    keys = [KEY._replace(qtype=number) for number in range(4)]
    for key in keys[:3]:
        cache.put(key, answer(), 0)
    cache.get(keys[0], 1)
    cache.put(keys[3], answer(), 1)
    assert [cache.get(key, 2) is not None for key in keys] == [True, False, True, True]


def test_memory_is_bounded_in_octets() -> None:
    """Large answers push out others before memory does not suffice, and replacing one counts it once."""
    cache = Cache(1000, octets=10_000)
    for number in range(50):
        cache.put(KEY._replace(qtype=number), answer(size=3000), 0)
        cache.put(KEY._replace(qtype=number), answer(size=3000), 0)
    assert len(cache) == 2
    assert cache.octets <= 10_000
