"""Tests for gateway.dns.exchange. How it deals with liars is in test_upstream.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.exchange import Fit, fit, random_case, random_id
from gateway.dns.message import encode_name

QUESTION = encode_name("www.example.com") + b"\0\1\0\1"
GOOD = b"\0\7\x81\x80\0\1\0\0\0\0\0\0" + QUESTION


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (GOOD, Fit.GOOD),
        (GOOD + b"more", Fit.GOOD),
        (GOOD[:12] + QUESTION.replace(b"www", b"wWw"), Fit.OTHER_CASE),
        (b"\0\7\x83\x80" + GOOD[4:], Fit.TRUNCATED),
        (b"\0\6" + GOOD[2:], Fit.STRAY),
        (b"\0\7\x01\x00" + GOOD[4:], Fit.STRAY),
        (b"\0\7\xa1\x80" + GOOD[4:], Fit.STRAY),
        (GOOD[:-1] + b"\3", Fit.STRAY),
        (GOOD[:-3] + b"\x41\0\1", Fit.STRAY),
        (GOOD[:-1], Fit.STRAY),
        (GOOD[:12], Fit.STRAY),
        (b"", Fit.STRAY),
        (b"\0\7\x81\x81\0\0\0\0\0\0\0\0", Fit.GOOD),
        (b"\0\7\x81\x80\0\0\0\0\0\0\0\0", Fit.STRAY),
    ],
)
def test_what_fits(packet: bytes, expected: Fit) -> None:
    """Only a response with our id and our question fits; errors may come without the question."""
    assert fit(packet, 7, QUESTION) is expected


@given(st.binary(max_size=80))
def test_any_octets_fit_or_not(packet: bytes) -> None:
    """Whatever comes in is put in its place."""
    assert fit(packet, 7, QUESTION) in Fit


def test_randomness() -> None:
    """Ids cover their range, and letter case changes nothing but letter case."""
    assert len({random_id() for _ in range(100)}) > 90
    name = encode_name("www.example-123.com")
    spellings = {random_case(name) for _ in range(50)}
    assert len(spellings) > 45
    assert {spelling.lower() for spelling in spellings} == {name}
