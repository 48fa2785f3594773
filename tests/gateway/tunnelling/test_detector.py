"""The detector: tunnels, honest clients, the law, and the controls."""

import random
import statistics
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Reason
from gateway.tunnelling.data import character_model, popular, services
from gateway.tunnelling.detector import ANSWER_BUDGET, DEFAULT_BUDGET, Detector
from gateway.tunnelling.priors import Prior, Priors
from gateway.tunnelling.state import Bounds
from gateway.tunnelling.structure import Controls
from tests.benign import SITES
from tests.tunnels import DOWNLOADS, FAST, SLOW, Encoder

A, NULL, TXT, AAAA, PTR = 1, 10, 16, 28, 12


def a_detector(
    exempt: tuple[str, ...] = (), bounds: Bounds | None = None, controls: Controls | None = None
) -> Detector:
    """Return a detector with the shipped data."""
    return Detector(
        character_model(),
        Priors(popular(), [service.suffix for service in services()], exempt),
        bounds=bounds or Bounds(),
        controls=controls or Controls(),
    )


class Leak:
    """What a tunnel got past a detector."""

    def __init__(self, encoder: Encoder, seed: int) -> None:
        detector = a_detector()
        self.queries = self.payload = self.answers = self.passed = 0
        denied = False
        for asked in encoder(random.Random(seed)):
            found = detector.query(asked.at, asked.client, asked.name, asked.qtype)
            denied |= found.denied
            if found.denied:
                continue
            self.queries += not denied
            self.payload += asked.payload
            if not detector.response(asked.at, asked.client, asked.name, asked.qtype, asked.answer).denied:
                self.answers += asked.answer
            else:
                denied = True
        self.denied = denied


@pytest.mark.parametrize("encoder", list(FAST.values()), ids=list(FAST))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fast_tunnels(encoder: Encoder, seed: int) -> None:
    """A tunnel is denied within 6 queries and 200 octets, and stays so."""
    leak = Leak(encoder, seed)
    assert leak.denied
    assert leak.queries <= 6
    assert leak.payload <= 200


def test_fast_tunnels_at_the_median() -> None:
    """Half of the tunnels get one query out, or none."""
    assert statistics.median(Leak(encoder, 7).queries for encoder in FAST.values()) <= 1


@pytest.mark.parametrize("encoder", list(SLOW.values()), ids=list(SLOW))
def test_slow_spread_and_wordy_tunnels(encoder: Encoder) -> None:
    """What is slow, spread over domains or clients, or made of words gets at most 1000 octets out."""
    leak = Leak(encoder, 1)
    assert leak.denied
    assert leak.payload <= 1000


@pytest.mark.parametrize("encoder", list(DOWNLOADS.values()), ids=list(DOWNLOADS))
def test_downloads(encoder: Encoder) -> None:
    """Answers that can carry data are cut off at 4 KB."""
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


@pytest.mark.parametrize("site", list(SITES), ids=list(SITES))
@pytest.mark.parametrize("seed", [1, 2])
def test_honest_clients(site: str, seed: int) -> None:
    """Nothing that an honest client asks for in a day is denied."""
    detector = a_detector()
    denied: Counter[str] = Counter()
    for query in SITES[site](random.Random(seed)):
        found = detector.query(query.at, query.client, query.name, query.qtype)
        if not found.denied:
            found = detector.response(query.at, query.client, query.name, query.qtype, query.answer)
        if found.denied:
            denied[f"{query.name} {found.why}"] += 1
    assert not denied


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
    detector = a_detector(bounds=Bounds(4, 20, 2, 3, 2) if tight else None)
    now, told = 0.0, []
    for name, pause, qtype in queries:
        now += pause
        found = detector.query(now, "10.0.0.1", name, qtype)
        if found.zone == "evilzone.com" and not found.denied:
            told.append((now, found.octets))
    for limit in DEFAULT_BUDGET:
        for end, _ in told:
            assert sum(octets for at, octets in told if end - limit.seconds < at <= end) <= limit.octets + 1e-6


def test_a_denial_lasts() -> None:
    """After a denial the zone is closed to that client for a day, even for names known before, and open to others."""
    detector = a_detector()
    assert not detector.query(0, "10.0.0.1", "www.evilzone.com", A).denied
    assert (
        detector.query(1, "10.0.0.1", "ab" * 30 + "." + "kx7q" * 15 + ".evilzone.com", A).reason is Reason.DNS_TUNNEL
    )
    assert detector.query(80000, "10.0.0.1", "www.evilzone.com", A).denied
    assert not detector.query(80000, "10.0.0.2", "www.evilzone.com", A).denied
    assert not detector.query(86402, "10.0.0.1", "www.evilzone.com", A).denied


def test_an_operator_releases() -> None:
    """A released client begins anew."""
    detector = a_detector()
    detector.query(0, "c", "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com", TXT)
    assert detector.release(1, "c", "evilzone.com")
    assert not detector.query(1, "c", "www.evilzone.com", A).denied
    assert not detector.release(1, "c", "evilzone.com")


def test_what_is_known_costs_nothing() -> None:
    """A name that was asked for is no news, whoever asks again."""
    detector = a_detector()
    assert detector.query(0, "c", "deep.host.evilzone.com", A).octets > 0
    assert detector.query(9, "d", "deep.host.evilzone.com", A).octets == 0
    assert detector.query(9, "d", "host.evilzone.com", AAAA).octets == 0


def test_priors() -> None:
    """Exempt zones, services, private and leading domains are told apart from the unknown."""
    detector = a_detector(exempt=("*.corp.evilzone.com",))
    digest = "726f6f743a783a303a303a726f6f743a" * 2
    rows = {
        f"{digest}.corp.evilzone.com": False,
        f"{digest}.evilzone.com": True,
        f"{digest}.v.sophosxl.net": False,
        f"{digest}.cluster.local": False,
        f"{digest}.google.com": False,
        f"{digest}.duckdns.org": False,  # the registered name itself: it goes to the registry
        f"{digest}.me.duckdns.org": True,
        f"dnscat.{digest}": True,
    }
    assert {name: detector.query(0, name, name, A).denied for name in rows} == rows


@pytest.mark.parametrize(
    ("name", "qtype", "controls"),
    [
        ("www.evilzone.com", NULL, Controls(types=False)),
        ("a\\200b.evilzone.com", A, Controls(octets=False)),
    ],
)
def test_controls_are_switchable(name: str, qtype: int, controls: Controls) -> None:
    """What a control refuses passes when it is off, and leaves the zone open when it is on."""
    strict = a_detector()
    assert strict.query(0, "c", name, qtype).denied
    assert not strict.query(1, "c", "www.evilzone.com", A).denied
    assert not a_detector(controls=controls).query(0, "c", name, qtype).denied


def test_expansions_of_search_lists() -> None:
    """A well-known name with a search domain behind it is hardly news."""
    detector = a_detector()
    detector.query(0, "c", "corp.evilzone.com", A)
    assert detector.query(1, "c", "api.github.com.corp.evilzone.com", A).octets < 0.5


def test_an_established_zone() -> None:
    """A zone that several clients have used on several days has a larger budget."""
    detector = a_detector()
    for day in range(4):
        for client in ("a", "b", "c"):
            found = detector.query(day * 86400.0, client, f"www{day}.ownsite.org", A)
    assert found.prior is Prior.ESTABLISHED


def test_evidence_for_analysts() -> None:
    """A denial says what an analyst wants to know."""
    detector = a_detector()
    detector.query(0, "c", "www.evilzone.com", A)
    detector.response(0, "c", "www.evilzone.com", A, 90, rcode=3)
    found = detector.query(60, "c", "726f6f743a783a303a303a726f6f743a" * 2 + ".evilzone.com", TXT)
    features = found.features
    assert features is not None
    assert features.entropy > 2
    assert features.bits > 200
    assert (features.queries, features.nxdomain, features.answers) == (2, 1.0, 90)
    assert dict(features.types) == {A: 1, TXT: 1}
    assert found.score >= 1


def test_another_worker_is_told() -> None:
    """What another worker has allowed counts here."""
    one, two = a_detector(), a_detector()
    for index in range(200):
        name = f"{random.Random(index).randrange(10**6)}.orders.shopfloor.biz"
        if not one.query(index, "c", name, A).denied:
            two.observe(index, "c", name, A)
    assert two.query(201, "c", "918273.orders.shopfloor.biz", A).denied


@pytest.mark.parametrize("contents", [None, [(TXT, b"v=spf1 -all" * 80)]])
def test_the_same_answer_again_is_no_news(contents: list[tuple[int, bytes]] | None) -> None:
    """A mail server may read the same TXT record all day."""
    detector = a_detector()
    for index in range(100):
        assert not detector.response(index, "c", "ownsite.org", TXT, 900, contents=contents).denied
