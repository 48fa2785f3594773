"""Hostile text, made fit for a record."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.text import LONGEST, redact_query, timestamp, visible, without_userinfo
from tests.gateway.ledger.samples import hostile


@given(hostile)
def test_visible_text_prints_and_is_bounded(text: str) -> None:
    """Whatever comes in, what goes out prints, is bounded and is left alone the second time."""
    shown = visible(text)
    assert shown.isprintable()
    assert len(shown) <= LONGEST
    assert visible(shown) == shown


def test_what_prints_is_kept() -> None:
    """Ordinary text, in any script, is not changed."""
    assert visible("bücher.example /α?β") == "bücher.example /α?β"


def test_bidirectional_overrides_and_surrogates_are_escaped() -> None:
    """Characters that turn text around, or are none, come out as escapes."""
    assert visible("a\u202eb\ud800\x00") == "a\\u202eb\\ud800\\x00"


def test_userinfo_is_struck_out() -> None:
    """Neither a password with quotes nor a bare token survives, and the host does."""
    assert without_userinfo("Host 'me:pa\"ss@host' x") == "Host '*@host' x"
    assert without_userinfo("t0ken@host") == "*@host"
    assert without_userinfo("no sign of it") == "no sign of it"


@given(
    st.lists(st.tuples(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.from_regex(r"[A-Z0-9]{3,9}", fullmatch=True)))
)
def test_values_of_a_query_are_never_kept(parameters: list[tuple[str, str]]) -> None:
    """No value of a parameter is in the redacted query."""
    redacted = redact_query("&".join(f"{name}={value}" for name, value in parameters))
    assert not any(value in redacted for _, value in parameters)


def test_a_query_of_many_parameters_is_cut() -> None:
    """Parameters beyond the limit are not kept, and it shows."""
    assert redact_query("&".join(["a=1"] * 1000)) == "&".join([*["a=*"] * 32, "..."])


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_times_sort_as_their_texts(one: float, other: float) -> None:
    """An earlier time never has the greater text."""
    assert (timestamp(one) <= timestamp(other)) or one > other
    assert len(timestamp(one)) == 24
