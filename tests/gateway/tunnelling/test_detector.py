"""The detector: tunnels, honest clients, the law, and the controls."""

import random
import statistics
from collections import Counter

import pytest

from gateway.decision import Reason
from gateway.tunnelling.data import popular
from gateway.tunnelling.priors import Prior, Priors
from gateway.tunnelling.state import STRICT
from gateway.tunnelling.structure import Controls
from gateway.tunnelling.window import Limit
from tests.benign import SITES
from tests.false_alarms import FALSE_ALARMS
from tests.leaks import Leak, a_detector
from tests.tools import QUIET, TOOLS
from tests.tunnels import FAST, SLOW, WORDS, Encoder

A, NULL, TXT, AAAA, PTR = 1, 10, 16, 28, 12
NOW = 1e9


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
    assert statistics.median(Leak(encoder, 7, only_until_denied=True).queries for encoder in FAST.values()) <= 1


@pytest.mark.parametrize("encoder", list(TOOLS.values()), ids=list(TOOLS))
@pytest.mark.parametrize("seed", [1, 2])
def test_known_tools(encoder: Encoder, seed: int) -> None:
    """The same for the names that known tools and malware build."""
    leak = Leak(encoder, seed)
    assert leak.denied
    assert leak.queries <= 6
    assert leak.payload <= 200


def test_known_tools_at_the_median() -> None:
    """Half of them get one query out, or none."""
    assert statistics.median(Leak(encoder, 7, only_until_denied=True).queries for encoder in TOOLS.values()) <= 1


@pytest.mark.parametrize("encoder", list(QUIET.values()), ids=list(QUIET))
def test_quiet_tools(encoder: Encoder) -> None:
    """What is so slow that it may never be denied gets at most 1000 octets out in a day."""
    assert Leak(encoder, 1).payload <= 1000


@pytest.mark.parametrize("encoder", list(SLOW.values()), ids=list(SLOW))
def test_slow_spread_and_wordy_tunnels(encoder: Encoder) -> None:
    """What is slow, spread over domains or clients, or made of words gets at most 1000 octets out."""
    leak = Leak(encoder, 1)
    assert leak.denied
    assert leak.payload <= 1000


HONEST = SITES | FALSE_ALARMS


@pytest.mark.parametrize("site", list(HONEST), ids=list(HONEST))
@pytest.mark.parametrize("seed", [1, 2])
def test_honest_clients(site: str, seed: int) -> None:
    """Nothing that an honest client asks for in a day is denied."""
    detector = a_detector()
    denied: Counter[str] = Counter()
    for query in HONEST[site](random.Random(seed)):
        found = detector.query(query.at, query.client, query.name, query.qtype)
        if not found.denied:
            found = detector.response(query.at, query.client, query.name, query.qtype, query.answer)
        if found.denied:
            denied[f"{query.name} {found.why}"] += 1
    assert not denied


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


def test_what_is_only_reported_is_counted() -> None:
    """In report mode the account shows all that left, and the suspect how much of it came after the first alarm."""
    detector, random_ = a_detector(), random.Random(1)
    found = [
        detector.query(second, "c", f"{random_.randbytes(16).hex()}.evilzone.com", TXT, enforced=False)
        for second in range(50)
    ]
    assert all(assessed.denied for assessed in found[6:])
    assert found[-1].told > 50 * 16
    for number in range(30):
        got = detector.response(50, "d", f"{number}.evilzone.com", TXT, 400, enforced=False)
    assert got.denied
    assert got.got == 30 * 400


def test_other_budgets_keep_what_was_accounted() -> None:
    """A reload with other windows or limits gives nobody a fresh budget, and opens nothing."""
    detector = a_detector()
    told = [detector.query(NOW + n, "c", f"order{n * 7919 % 10**4}.shopfloor.biz", A).octets for n in range(9)]
    detector.query(NOW, "d", "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com", TXT)
    priors = Priors(popular())
    detector.use(NOW + 10, priors, (Limit(sum(told) + 3, 7200),), Controls())
    assert detector.query(NOW + 11, "d", "www.evilzone.com", A).denied
    light = [detector.query(NOW + 11, "c", f"{word}-{word}.shopfloor.biz", A) for word in WORDS[:40]]
    assert sum(found.octets for found in light if not found.denied) <= 3
    assert light[-1].reason is Reason.LEAK_BUDGET


def test_an_operator_releases() -> None:
    """A released client begins anew."""
    detector = a_detector()
    detector.query(0, "c", "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com", TXT)
    assert detector.release(1, "c", "evilzone.com")
    assert not detector.query(1, "c", "www.evilzone.com", A).denied
    assert not detector.release(1, "c", "evilzone.com")


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
    for name in rows:
        assert detector.is_strict(0, name) is (detector.prior(0, name) in STRICT)


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
