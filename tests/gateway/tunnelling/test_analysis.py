"""What the detector would have done with a recording."""

from gateway.tunnelling.analysis import Recorded, analyse
from gateway.tunnelling.data import character_model, popular
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.priors import Priors

A, TXT = 1, 16


def a_detector() -> Detector:
    """Return a detector with the shipped data."""
    return Detector(character_model(), Priors(popular()))


def test_a_tunnel_and_an_ordinary_client() -> None:
    """The tunnel is found with what had left before; the other client is not, and is told as the nearest."""
    tunnel = [Recorded(index, "10.0.0.7", f"{index:04x}7b3a9f21.evilzone.com", A) for index in range(50)]
    honest = [
        Recorded(index + 0.5, "10.0.0.8", name, A) for index, name in enumerate(("www.ownsite.org", "heise.de"))
    ]
    report = analyse(a_detector(), sorted([*tunnel, *honest]))
    (found,) = report.findings
    assert (found.client, found.zone, found.queries) == ("10.0.0.7", "evilzone.com", 50)
    assert found.passed + found.denied == 50
    assert 0 < found.told <= 120
    assert found.characters == 12 * found.passed
    assert (report.queries, report.clients, report.zones) == (52, 2, 3)
    assert report.nearest is not None
    assert report.nearest.client == "10.0.0.8"


def test_answers_count_too() -> None:
    """A download in TXT records is found by the size of its answers, and what came in before is at most 4 KB."""
    names = ("alpha", "beta", "gamma", "delta", "left", "right", "north", "south", "east", "west", "web", "mail")
    recording = [Recorded(index * 60, "c", f"{name}.evilzone.com", TXT, 0, 1000) for index, name in enumerate(names)]
    (found,) = analyse(a_detector(), recording).findings
    assert "answers" in found.why
    assert 2000 < found.got <= 4096


def test_time_does_not_go_back() -> None:
    """A recording put together from several may jump: nobody gets a new budget by it."""
    recording = [
        Recorded(9e9 if index % 2 else 0, "c", f"{index:04x}7b3a9f21.evilzone.com", A) for index in range(50)
    ]
    assert analyse(a_detector(), recording).findings[0].told <= 240


def test_nothing_recorded() -> None:
    """An empty recording has no findings and nobody near to one."""
    report = analyse(a_detector(), [])
    assert (report.findings, report.queries, report.nearest) == ([], 0, None)
