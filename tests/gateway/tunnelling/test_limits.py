"""The law: what a client tells a zone stays within the budget."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tunnelling.state import Bounds
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
