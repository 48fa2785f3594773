"""What answers carry in: bounded for unknown zones, whatever the record."""

import random
from collections.abc import Callable

import pytest

from gateway.tunnelling.downloads import ANSWER_BUDGET
from tests.leaks import Leak, a_detector
from tests.tools import FETCHES
from tests.tunnels import DOWNLOADS, Encoder

A, TXT, AAAA = 1, 16, 28


@pytest.mark.parametrize("encoder", list(DOWNLOADS.values()), ids=list(DOWNLOADS))
def test_downloads(encoder: Encoder) -> None:
    """Answers that can carry data are cut off at 4 KB."""
    leak = Leak(encoder, 1)
    assert leak.denied
    assert leak.answers <= ANSWER_BUDGET.octets


@pytest.mark.parametrize("encoder", list(FETCHES.values()), ids=list(FETCHES))
def test_downloads_of_known_tools(encoder: Encoder) -> None:
    """The same for what known tools fetch."""
    leak = Leak(encoder, 1)
    assert leak.denied
    assert leak.answers <= ANSWER_BUDGET.octets


CONTENTS: dict[str, Callable[[random.Random], tuple[int, int, bytes]]] = {
    "addresses of IPv6": lambda random_: (AAAA, 0, random_.randbytes(16)),
    "addresses of IPv4": lambda random_: (A, 0, random_.randbytes(4)),
    "aliases in front of an address": lambda random_: (5, 0, random_.randbytes(200)),
    "the SOA of what does not exist": lambda random_: (6, 3, random_.randbytes(200)),
    "signatures": lambda random_: (46, 0, random_.randbytes(64)),
}


@pytest.mark.parametrize("content", list(CONTENTS.values()), ids=list(CONTENTS))
def test_downloads_in_any_record(content: Callable[[random.Random], tuple[int, int, bytes]]) -> None:
    """What the records of answers carry is cut off at 4 KB, whatever the question; signatures at four times that."""
    detector, random_ = a_detector(), random.Random(1)
    carried = 0
    for index in range(5000):
        rtype, rcode, data = content(random_)
        name = f"{index % 100}.evilzone.com"
        found = detector.response(index / 10, "c", name, A, 300, rcode=rcode, contents=[(rtype, data)])
        carried += 0 if found.denied else len(data)
    assert found.denied
    assert carried <= ANSWER_BUDGET.octets * (4 if rtype == 46 else 1)


def test_many_names_with_the_same_addresses() -> None:
    """A site with a thousand names and a few servers tells its clients nothing but those servers' addresses."""
    detector, servers = a_detector(), [bytes([number]) * 16 for number in range(8)]
    for index in range(1000):
        contents = [(AAAA, address) for address in random.Random(index).sample(servers, 4)]
        assert not detector.response(index, "c", f"shop{index}.ownsite.org", AAAA, 200, contents=contents).denied


@pytest.mark.parametrize("contents", [None, [(TXT, b"v=spf1 -all" * 80)]])
def test_the_same_answer_again_is_no_news(contents: list[tuple[int, bytes]] | None) -> None:
    """A mail server may read the same TXT record all day."""
    detector = a_detector()
    for index in range(100):
        assert not detector.response(index, "c", "ownsite.org", TXT, 900, contents=contents).denied
