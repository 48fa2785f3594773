"""The account of a parse: what is counted where, and what is kept of hostile lines."""

import pytest

from gateway.feeds.entry import SAMPLE_LENGTH, SAMPLES, ParseReport, Scope, Unsupported, printable


def test_scope_is_a_set_of_parts() -> None:
    """A tree is the name itself and what is below."""
    assert Scope.EXACT | Scope.BELOW == Scope.TREE
    assert Scope.EXACT not in Scope.BELOW


def test_flaws_are_counted_by_kind() -> None:
    """Rules of no use, wrong lines and parts of accepted lines are counted apart."""
    report = ParseReport()
    report.leave_out(1, "a", Unsupported("of no use"))
    report.leave_out(2, "b", ValueError("wrong"))
    report.leave_out(3, "c", ValueError("wrong"), accepted=True)
    assert (report.unsupported, report.rejected, report.partial) == ({"of no use": 1}, {"wrong": 1}, {"wrong": 1})


def test_reasons_are_few() -> None:
    """What a reason says of one value after its colon makes no reason of its own."""
    report = ParseReport()
    for line in range(10):
        report.leave_out(line, "x", ValueError(f"not a name: the {line}th"))
    assert report.rejected == {"not a name": 10}
    assert [sample.line for sample in report.samples["not a name"]] == list(range(SAMPLES))


def test_bad_bytes_are_the_reason_when_there_are_any() -> None:
    """A line that is not UTF-8 is rejected for that, whatever else is wrong; one of no use is still of no use."""
    report = ParseReport()
    report.leave_out(1, "caf\udce9", ValueError("wrong"))
    report.leave_out(2, "caf\udce9", Unsupported("cosmetic rule"))
    assert (report.rejected, report.unsupported) == ({"not UTF-8": 1}, {"cosmetic rule": 1})


@pytest.mark.parametrize("text", ["\x1b[31m", "\u202eevil", "caf\udce9", "\0", "a\nb"])
def test_samples_are_harmless(text: str) -> None:
    """A sample can be printed and stored: controls, bidirectional marks and broken UTF-8 are escaped."""
    assert printable(text).isprintable()
    assert printable(text).encode("utf-8")
    assert "\\" in printable(text)


def test_samples_are_short() -> None:
    """A hostile line does not fill a log."""
    report = ParseReport()
    report.leave_out(1, "x" * 1000, ValueError("wrong"))
    assert report.samples["wrong"][0].text == "x" * SAMPLE_LENGTH
