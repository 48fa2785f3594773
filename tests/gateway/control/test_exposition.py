"""The text format, read back by the library of those who made it."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.control.exposition import Family, render

texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(texts, texts, st.one_of(st.integers(0, 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False)))
def test_what_is_rendered_is_read(label: str, words: str, value: float) -> None:
    """Label values and help of any characters, and every number, come back as they were."""
    family = Family("things", "gauge", words)
    family.add(value, ("what", label))
    (found,) = text_string_to_metric_families(render([family]).decode())
    (sample,) = found.samples
    assert (sample.name, sample.labels) == ("egress_gateway_things", {"what": label})
    assert sample.value == value
    assert found.type == "gauge"


def test_lines() -> None:
    """Help and type come once and first; a family without a number is left out."""
    family = Family("things_total", "counter", "Things.")
    family.add(3, ("kind", 'a"b'), ("of", "x"))
    family.add(0.5)
    assert render([family, Family("others", "gauge", "None.")]).decode().splitlines() == [
        "# HELP egress_gateway_things_total Things.",
        "# TYPE egress_gateway_things_total counter",
        r'egress_gateway_things_total{kind="a\"b",of="x"} 3',
        "egress_gateway_things_total 0.5",
    ]
