"""Tests for gateway.dns.hot."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.hot import Hot, HotAnswer, HotAnswers, hot_key
from gateway.dns.message import address_record, encode_name, encode_query, make_answer
from gateway.dns.wire import WireError, read_query
from tests.gateway.dns.support import ask

ANSWER = make_answer(
    encode_name("a.example"), [address_record(encode_name("a.example"), ip_address("192.0.2.1"), 60)], ttl=60
)


def test_room_is_bounded_and_what_is_used_stays() -> None:
    """However many entries come, no more than the room is kept, and one in use is never dropped."""
    table = HotAnswers(room=20)
    table.put(b"hot", Hot(b"", 0))
    for number in range(1000):
        entry = table.get(b"hot")
        assert entry is not None
        entry.used = True
        table.put(str(number).encode(), Hot(b"", 0))
        assert len(table) <= 20


def test_octets_are_bounded() -> None:
    """Long answers take the place of many short ones, and what is replaced or dropped gives its place back."""
    table = HotAnswers(room=1000, octets=100_000)
    for number in range(500):
        table.put(str(number).encode(), Hot(bytes(1200), 0))
        table.put(b"again", Hot(bytes(1200), 0))
        assert len(table) <= 100_000 // 1500
    for number in range(1000):
        table.put(f"short {number}".encode(), Hot(b"", 0))
    assert 250 <= len(table) <= 100_000 // 300


def test_a_put_looks_at_few_entries() -> None:
    """With every entry in use, one goes all the same: a put never walks the whole table."""
    table = HotAnswers(room=100)
    entries = [Hot(b"", 0) for _ in range(200)]
    for number, entry in enumerate(entries):
        entry.used = True
        table.put(str(number).encode(), entry)
        assert len(table) <= 100
    assert sum(not entry.used for entry in entries) <= 8 * 100


def test_ttls_count_down_second_by_second() -> None:
    """An answer is made anew each second, and no more once its time is over."""
    entry = HotAnswer(ANSWER, stored=10.0, expires=70.0, before=b"before", opt=b"opt", now=10.5)
    (at,) = ANSWER.ttls

    def ttl() -> int:
        assert entry.tail is not None
        assert entry.tail.startswith(b"before")
        assert entry.tail.endswith(b"opt")
        return int.from_bytes(entry.tail[6 + at : 10 + at], "big")

    assert (ttl(), entry.until) == (60, 11.0)
    assert entry.renew(12.25)
    assert (ttl(), entry.until) == (58, 13.0)
    assert entry.renew(69.5)
    assert (ttl(), entry.until) == (1, 70.0)
    assert not entry.renew(70.0)
    assert not Hot(b"", 0.0).renew(0.0)


NAMES = st.lists(st.sampled_from(["a", "A", "b", "www", "WwW", "x\\065"]), min_size=1, max_size=3).map(".".join)
QUESTIONS = st.builds(
    lambda name, qtype: encode_name(name) + bytes((0, qtype, 0, 1)), NAMES, st.sampled_from([1, 65, 97])
)
PACKETS = st.builds(
    encode_query,
    st.integers(0, 65535),
    QUESTIONS,
    dnssec_ok=st.booleans(),
    checking_disabled=st.booleans(),
    edns=st.booleans(),
)


@given(PACKETS, PACKETS | st.binary(min_size=13, max_size=60))
def test_equal_keys_mean_equal_questions(first: bytes, second: bytes) -> None:
    """Two packets have the same key only if they differ in nothing but id and letter case."""
    ends = [packet.find(0, 12) for packet in (first, second)]
    keys = [hot_key(b"view", packet, end) for packet, end in zip((first, second), ends, strict=True)]
    if keys[0] != keys[1]:
        return
    one = read_query(first)
    try:
        other = read_query(second)
    except WireError as error:
        raise AssertionError("a malformed packet has the key of a good one") from error
    assert one._replace(id=0, question=b"") == other._replace(id=0, question=b"")


def test_letter_case_and_id_do_not_matter() -> None:
    """The same question in other letters has the same key."""
    keys = {hot_key(b"", packet, packet.find(0, 12)) for packet in (ask("a.example"), ask("A.eXample", ident=9))}
    assert len(keys) == 1
