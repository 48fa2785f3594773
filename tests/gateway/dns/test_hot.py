"""Tests for gateway.dns.hot."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.hot import HotAnswer, HotAnswers, hot_key
from gateway.dns.message import Answer, encode_name, encode_query
from gateway.dns.wire import WireError, read_query
from tests.gateway.dns.support import ask

ENTRY = HotAnswer(None, Answer(0, (0, 0), b"", (), 60), 0, 60, b"", b"")


def test_room_is_bounded_and_what_is_used_stays() -> None:
    """However many entries come, at most twice the room is kept, and one in use is never dropped."""
    table = HotAnswers(room=10)
    table.put(b"hot", ENTRY)
    for number in range(1000):
        table.put(str(number).encode(), ENTRY)
        assert table.get(b"hot") is ENTRY
    assert sum(table.get(str(number).encode()) is not None for number in range(1000)) <= 20


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
