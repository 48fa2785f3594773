"""Tests for gateway.dns.hot."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.hot import Aging, Block, HotAnswers, View, as_of, hot_key, is_good
from gateway.dns.message import Answer, address_record, encode_name, encode_query, make_answer
from gateway.dns.wire import WireError, read_query
from gateway.ledger.rollup import Repeats
from tests.gateway.dns.support import ask

ANSWER = make_answer(
    encode_name("a.example"), [address_record(encode_name("a.example"), ip_address("192.0.2.1"), 60)], ttl=60
)
OWN = View()
"""What is kept for a client alone."""


@pytest.fixture
def view() -> View:
    """What a client shares with others."""
    return View()


@pytest.fixture
def repeats() -> Repeats:
    """Where a denial is counted."""
    return Repeats("id", {"message": "first"}, 0.0)


def aging(room: int = 0, expires: float = 70.0) -> Aging:
    """An answer that was stored at 10."""
    return Aging(ANSWER, 10.0, expires, b"before", b"opt" + bytes(room))


def test_room_is_bounded_and_what_is_used_stays(view: View, repeats: Repeats) -> None:
    """However many entries come, no more than the room is kept, and one in use is never dropped."""
    table = HotAnswers(room=20)
    table.block(view, b"denied", Block(OWN, b"no", repeats))
    table.keep(view, b"allowed", aging(), 10.0)
    for number in range(1000):
        denied = view.get(b"denied")
        assert isinstance(denied, Block)
        denied.used = True
        assert table.renew(view, b"allowed", 11.0)
        table.keep(view, str(number).encode(), aging(), 10.0)
        assert len(table) <= 20


def test_answers_in_use_outlive_those_that_are_not(view: View) -> None:
    """However quickly new answers take the place of old ones, those that are given now and then stay once the table
    has looked at them, though they are given as they are and not made anew."""
    table = HotAnswers(room=100)
    used = [f"used {number}".encode() for number in range(5)]
    lost = 0
    for number in range(10_000):
        if number % 4 == 0:
            for key in used:
                entry = view.get(key)
                if entry is None:
                    lost += 1
                    table.keep(view, key, aging(), 10.0)
                    continue
                assert isinstance(entry, bytes)
                given = entry if is_good(entry, 11.0) else table.renew(view, key, 11.0)
                assert given is not None
                assert ttls(as_of(given, 11.0), ANSWER) == [59]
        table.keep(view, str(number).encode(), aging(), 10.0)
    assert lost <= 30  # of 100 times 5


def test_octets_are_bounded(view: View, repeats: Repeats) -> None:
    """Long answers take the place of many short ones, and what is replaced or dropped gives its place back."""
    table = HotAnswers(room=1000, octets=100_000)
    for number in range(500):
        table.block(view, str(number).encode(), Block(OWN, bytes(1200), repeats))
        table.keep(view, b"again", aging(1200), 10.0)
        assert len(table) <= 100_000 // 1500
        assert 1200 <= table.octets <= 100_000
    for number in range(1000):
        table.block(view, f"short {number}".encode(), Block(OWN, b"", repeats))
    assert 250 <= len(table) <= 100_000 // 300


def test_a_put_looks_at_few_entries(view: View, repeats: Repeats) -> None:
    """With every entry in use, one goes all the same: a put never walks the whole table."""
    table = HotAnswers(room=100)
    entries = [Block(OWN, b"", repeats) for _ in range(200)]
    for number, entry in enumerate(entries):
        entry.used = True
        table.block(view, str(number).encode(), entry)
        assert len(table) <= 100
    assert sum(not entry.used for entry in entries) <= 8 * 100


def test_a_denial_takes_the_place_of_an_answer(view: View, repeats: Repeats) -> None:
    """What was allowed and is denied now is never made anew."""
    table = HotAnswers()
    table.keep(view, b"key", aging(), 10.0)
    block = Block(OWN, b"no", repeats)
    table.block(view, b"key", block)
    assert view.get(b"key") is block
    with pytest.raises(KeyError):
        table.renew(view, b"key", 11.0)


def test_clients_of_a_view_each_have_their_denial(view: View, repeats: Repeats) -> None:
    """What one client is told is never found for another, and is found by one look-up as long as it is good."""
    table = HotAnswers()
    first, second, third, fourth = (View() for _ in range(4))
    for _ in range(2):
        blocks = [Block(own, b"no", repeats) for own in (first, second, third)]
        for block in blocks:
            table.block(view, b"key", block)
        assert view.get(b"key") is blocks[0]
        assert [own.get(b"key") for own in (second, third, fourth)] == [*blocks[1:], None]
    assert second.get(b"other") is None
    assert len(table) == 3


def test_who_asks_no_more_makes_room_for_others(view: View, repeats: Repeats) -> None:
    """When the denial of a client has to be recorded anew, that of another may take its place."""
    table = HotAnswers()
    over = Repeats("id", {"message": "first"}, 0.0, open=False)
    table.block(view, b"key", Block(View(), b"no", over))
    second = Block(View(), b"no", repeats)
    table.block(view, b"key", second)
    assert view.get(b"key") is second
    assert len(table) == 1


def test_views_share_the_room() -> None:
    """However many views there are, and what the last of them is told pushes out what the first was told."""
    table = HotAnswers(room=10)
    views = [View() for _ in range(50)]
    octets = []
    for view in views:
        table.keep(view, b"key", aging(), 10.0)
        octets.append(table.octets)
    assert len(table) == 10
    assert octets[9:] == [10 * octets[0]] * 41
    assert [view.get(b"key") is not None for view in views] == [False] * 40 + [True] * 10


def ttls(octets: bytes, answer: Answer) -> list[int]:
    """Return the TTLs in what an entry says."""
    assert octets.startswith(b"before")
    assert octets.endswith(b"opt")
    assert len(octets) == len(b"before" + answer.records + b"opt")
    return [int.from_bytes(octets[6 + at : 10 + at], "big") for at in answer.ttls]


def test_a_ttl_counts_down_second_by_second(view: View) -> None:
    """An answer with one TTL is good until that is over and never made anew; the TTL goes down each second."""
    table = HotAnswers()
    table.keep(view, b"key", aging(), 10.5)
    told, made = [], 0
    now = 10.5
    while True:
        entry = view.get(b"key")
        assert isinstance(entry, bytes)
        if not is_good(entry, now):
            renewed = table.renew(view, b"key", now)
            if renewed is None:
                break
            entry, made = renewed, made + 1
        told += ttls(as_of(entry, now), ANSWER)
        now += 0.25
    assert told == [60, 60, *(ttl for ttl in range(59, 0, -1) for _ in range(4))]
    assert now == 70.0
    assert made == 0


def test_several_ttls_count_down_second_by_second(view: View) -> None:
    """An answer with several TTLs is made anew each second, and no more once its time is over."""
    owner = encode_name("a.example")
    records = [address_record(owner, ip_address(f"192.0.2.{ttl}"), ttl) for ttl in (60, 30)]
    answer = make_answer(owner, records, ttl=30)
    table = HotAnswers()
    table.keep(view, b"key", Aging(answer, 10.75, 40.75, b"before", b"opt"), 10.75)
    told = []
    for now in (10.75, 11.0, 12.5, 39.9, 40.5):
        entry = view.get(b"key")
        assert isinstance(entry, bytes)
        assert is_good(entry, now) is (now == 10.75)
        entry = table.renew(view, b"key", now)
        assert entry is not None
        told.append(ttls(as_of(entry, now), answer))
    assert told == [[60, 30], [59, 29], [58, 28], [31, 1], [30, 0]]
    assert table.renew(view, b"key", 40.75) is None


@pytest.mark.parametrize("ttl", [0, 5, (1 << 31) - 1, (1 << 32) - 1])
def test_any_ttl_counts_down(view: View, ttl: int) -> None:
    """A TTL that is over before the answer stays at zero, and the longest that fits a record does as others do."""
    owner = encode_name("a.example")
    answer = make_answer(owner, [address_record(owner, ip_address("192.0.2.1"), ttl)], ttl=60)
    table = HotAnswers()
    table.keep(view, b"key", Aging(answer, 10.0, 70.0, b"before", b"opt"), 10.0)
    for age in range(60):
        entry = view.get(b"key")
        assert isinstance(entry, bytes)
        if not is_good(entry, 10.0 + age):
            entry = table.renew(view, b"key", 10.0 + age)
            assert entry is not None
        assert ttls(as_of(entry, 10.0 + age), answer) == [max(ttl - age, 0)]


def test_what_has_no_ttl_stays_as_it_is(view: View) -> None:
    """An answer without records is the same as long as it is good."""
    answer = make_answer(encode_name("a.example"), [], ttl=60)
    table = HotAnswers()
    table.keep(view, b"key", Aging(answer, 10.0, 70.0, b"before", b"opt"), 10.0)
    for now in (10.0, 35.0, 69.9):
        entry = table.renew(view, b"key", now)
        assert entry is not None
        assert as_of(entry, now) == b"beforeopt"
    assert table.renew(view, b"key", 70.0) is None


def test_what_is_over_is_not_kept(view: View) -> None:
    """An answer that must not be given any more is not there at all."""
    table = HotAnswers()
    table.keep(view, b"key", aging(expires=12.0), 12.0)
    assert view.get(b"key") is None


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
    keys = [hot_key(packet, end) for packet, end in zip((first, second), ends, strict=True)]
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
    keys = {hot_key(packet, packet.find(0, 12)) for packet in (ask("a.example"), ask("A.eXample", ident=9))}
    assert len(keys) == 1
