"""Tests of `gateway.proxy.accept`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.accept import preferred

OFFERED = ("text/plain", "application/json", "text/html")

WANTED = {
    "nothing": ("", "text/plain"),
    "anything, as curl says": ("*/*", "text/plain"),
    "a browser": ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
    "axios": ("application/json, text/plain, */*", "application/json"),
    "JSON alone": ("application/json", "application/json"),
    "in capitals, with spaces": (" Application/JSON ; Q=0.7 ,text/html;q=0.5", "application/json"),
    "a range": ("text/plain;q=0.1, application/*", "application/json"),
    "a range but for one of its types": ("text/*, text/plain;q=0, text/html;q=0.2", "text/html"),
    "everything but text": ("*/*;q=0.5, text/*;q=0", "application/json"),
    "what is not offered": ("image/png, application/vnd.github+json", "text/plain"),
    "none of it": ("*/*;q=0", "text/plain"),
    "a weight that is none": ("text/html;q=x, application/json;q=0.1", "application/json"),
    "too great a weight": ("text/html;q=7, application/json;q=nan, */*;q=0.1", "text/plain"),
}


@pytest.mark.parametrize("name", WANTED)
def test_wanted(name: str) -> None:
    """The type with the greatest weight is chosen, and plain text for who has no wish."""
    accept, kind = WANTED[name]
    assert preferred(accept, OFFERED) == kind


@given(st.text(alphabet="textplainhm/*;q=0.15, ", max_size=200))
def test_total(accept: str) -> None:
    """Whatever a client sends, one of the offered types is chosen."""
    assert preferred(accept, OFFERED) in OFFERED
