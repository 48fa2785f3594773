"""The law: what a client tells a zone stays within the budget. And what is a tunnel before that."""

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Reason
from gateway.tunnelling import data
from gateway.tunnelling.accounts import Room
from gateway.tunnelling.window import DEFAULT_BUDGET
from tests.leaks import a_detector

LABELS = st.one_of(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=40),
    st.sampled_from(["www", "api", "cdn12", "mail", "elephant", "_domainkey", "com", "google"]),
)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(lambda labels: ".".join(labels) + ".evilzone.com")
JUNK = st.integers(0, 200).map(lambda number: f"ab{number}xq.junk{number}.net")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(NAMES, JUNK), st.floats(0, 900), st.sampled_from([1, 16, 28, 5])), max_size=120),
    st.booleans(),
)
def test_the_law(queries: list[tuple[str, float, int]], tight: bool) -> None:
    """Whatever names a client chooses, what it tells an unknown zone in a window stays within the budget.

    Also with hardly any memory, so that accounts and zones are forgotten all the time.
    """
    detector = a_detector(room=Room(2, 1, 1, 1) if tight else None)
    now, told = 0.0, []
    for name, pause, qtype in queries:
        now += pause
        found = detector.query(now, "10.0.0.1", name, qtype)
        if found.zone == "evilzone.com" and not found.denied:
            told.append((now, found.octets))
    for limit in DEFAULT_BUDGET:
        for end, _ in told:
            assert sum(octets for at, octets in told if end - limit.seconds < at <= end) <= limit.octets + 1e-6


def test_one_random_name_is_none_unless_it_is_asked_for_text() -> None:
    """Twenty random octets under an unknown zone may be a host once; nobody asks for their TXT."""
    name = "9f86d081884c7d659a2feaa0c55ad0153e744bcf.evilzone.com"
    assert not a_detector().query(0, "c", name, 1).denied
    assert a_detector().query(0, "c", name, 16).reason is Reason.DNS_TUNNEL


def test_slow_random_names() -> None:
    """Six octets an hour, and nothing else, are found the same day."""
    detector, random_ = a_detector(), random.Random(1)
    names = [f"{random_.randbytes(6).hex()}.evilzone.com" for _ in range(8)]
    assert any(detector.query(hour * 3600.0, "c", name, 1).denied for hour, name in enumerate(names))


def test_many_zones_with_a_random_name_each() -> None:
    """A client with a name of 20 octets for each of 100 zones is stopped; one that has a thousand others is not."""

    def told(others: int) -> int:
        detector, random_ = a_detector(), random.Random(1)
        for number in range(others):
            detector.query(number / 10, "c", f"press.junk{number}shop.net", 1)
        names = [f"{random_.randbytes(20).hex()}.domain{number}name.com" for number in range(100)]
        return sum(not detector.query(others / 10 + index, "c", name, 1).denied for index, name in enumerate(names))

    assert told(0) < 40
    assert told(1000) == 100


@pytest.mark.parametrize(("per_name", "joint"), [(1, "."), (3, "-"), (5, "-"), (3, ".")])
@pytest.mark.parametrize("every", [1.0, 60.0])
@pytest.mark.parametrize("book", ["words.txt", "labels.txt"])
def test_what_is_cheap_is_no_code_book(book: str, per_name: int, joint: str, every: float) -> None:
    """A tunnel written in the very words that the model takes for usual gets 1200 octets out in a day at most.

    Names that the zone knows do not count: which of them is asked for is bounded by the clock (`controls.min_ttl`).
    """
    lines = (Path(data.__file__).parent / "known" / book).read_text(encoding="ascii").splitlines()
    words, detector, random_ = [line.split()[0] for line in lines], a_detector(), random.Random(1)
    passed, asked = 0, set[str]()
    for index in range(int(86400 / max(every, 30.0))):
        name = joint.join(random_.choices(words, k=per_name)) + ".evilzone.com"
        passed += not detector.query(index * every, "c", name, 1).denied and name not in asked
        asked.add(name)
    assert passed * per_name * math.log2(len(words)) / 8 <= 1200
