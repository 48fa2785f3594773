"""Tests for gateway.dns.cache."""

import tracemalloc

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
    keys = [KEY._replace(qtype=number) for number in range(1, 5)]
    for key in keys[:3]:
        cache.put(key, answer(), 0)
    cache.get(keys[0], 1)
    cache.put(keys[3], answer(), 1)
    assert [cache.get(key, 2) is not None for key in keys] == [True, False, True, True]


def test_memory_is_bounded_in_octets() -> None:
    """Large answers push out others before memory does not suffice, and replacing one counts it once."""
    cache = Cache(1000, octets=10_000)
    for number in range(1, 51):
        cache.put(KEY._replace(qtype=number), answer(size=3000), 0)
        cache.put(KEY._replace(qtype=number), answer(size=3000), 0)
    assert len(cache) == 2
    assert cache.octets <= 10_000


def test_many_large_answers_take_no_more_than_allowed() -> None:
    """A cache for 200,000 answers that gets as many of 64 KiB keeps within its octets, as the process sees them."""
    cache = Cache(200_000, octets=4 << 20)
    tracemalloc.start()
    try:
        for number in range(1000):
            records = number.to_bytes(2, "big") * (32 << 10)
            cache.put(KEY._replace(name=f"n{number}.example"), Answer(0, (1, 0), records, (), 60), 0)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 50 < len(cache) < 64
    assert cache.octets <= 4 << 20
    assert used < 1.05 * (4 << 20) + (64 << 10)


def test_expired_answers_help_out_for_a_while() -> None:
    """An expired answer is no longer current, but is at hand for as long as stale ones may be."""
    cache = Cache(10, stale=100)
    cache.put(KEY, answer(60), 1000)
    assert cache.get_stale(KEY, 1059) is None
    assert cache.get(KEY, 1060) is None
    assert cache.get_stale(KEY, 1159.9) is not None
    assert cache.get_stale(KEY, 1160) is None


def test_of_expired_answers_the_later_one_counts() -> None:
    """A name that was found not to exist any more does not come back by what was known of another type."""
    cache = Cache(10, stale=1000)
    other = KEY._replace(qtype=28)
    cache.put(other, answer(), 0)
    cache.put(KEY, Answer(3, (0, 1), b"soa", (), 60), 100)
    found = cache.get_stale(other, 500)
    assert found is not None
    assert found.answer.rcode == 3
    cache.put(other, answer(), 600)
    found = cache.get_stale(other, 700)
    assert found is not None
    assert found.answer.rcode == 0


def test_what_does_not_exist_has_no_type() -> None:
    """NXDOMAIN answers for every type of the name (RFC 2308 section 5), until one of them turns out to exist."""
    cache = Cache(10)
    absent = Answer(3, (0, 1), b"soa", (), 60)
    cache.put(KEY, absent, 0)
    other = KEY._replace(qtype=28)
    assert [entry.answer for key in (KEY, other) if (entry := cache.get(key, 1))] == [absent, absent]
    assert cache.get(KEY._replace(dnssec_ok=True), 1) is None
    cache.put(other, answer(), 2)
    assert cache.get(KEY, 3) is None
    cache.put(other, absent, 4)
    found = cache.get(other, 5)
    assert found is not None
    assert found.answer is absent


def test_an_alias_to_nothing_is_kept_for_its_type() -> None:
    """NXDOMAIN at the end of a CNAME chain says nothing of other types of the first name."""
    cache = Cache(10)
    cache.put(KEY, Answer(3, (1, 1), b"cname soa", (), 60), 0)
    assert cache.get(KEY, 1) is not None
    assert cache.get(KEY._replace(qtype=28), 1) is None


def test_newer_news_replace_older_ones_even_for_one_use_only() -> None:
    """An answer with a TTL of zero takes what was known before with it."""
    cache = Cache(10, stale=1000)
    cache.put(KEY, answer(60), 0)
    cache.put(KEY, answer(0), 1)
    assert cache.get(KEY, 2) is None
    assert cache.get_stale(KEY, 100) is None


def test_hot_answers_are_renewed_once() -> None:
    """An answer that was used before wants renewal in the last tenth of its time, others do not."""
    cache = Cache(10)
    cache.put(KEY, answer(100), 0)
    first = cache.get(KEY, 95)
    assert first is not None
    assert not first.wants_renewal(95)
    second = cache.get(KEY, 95)
    assert second is not None
    assert (second.wants_renewal(89), second.wants_renewal(95), second.wants_renewal(100)) == (False, True, False)
    second.renewed = True
    assert (second.wants_renewal(95), second.ageing) == (False, 100)


def test_short_lived_answers_are_not_renewed() -> None:
    """A tenth of a few seconds is not enough to ask anybody."""
    cache = Cache(10)
    cache.put(KEY, answer(9), 0)
    entries = [cache.get(KEY, 8.5) for _ in range(5)]
    assert not any(entry is None or entry.wants_renewal(8.5) for entry in entries)
