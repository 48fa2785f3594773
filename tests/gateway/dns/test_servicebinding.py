"""Tests for gateway.dns.servicebinding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.message import encode_name
from gateway.dns.servicebinding import read_service, without_ech
from gateway.dns.wire import WireError

type Parameters = list[tuple[int, bytes]]

HINT = (4, b"\xc0\0\2\1")
ALPN = (1, b"\2h2")
ECH = (5, b"\0\4key!")


def service(*parameters: tuple[int, bytes], target: str = "") -> bytes:
    """Return the RDATA of a record."""
    pieces = [key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for key, value in parameters]
    return b"\0\1" + encode_name(target) + b"".join(pieces)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([ALPN, ECH, HINT], [ALPN, HINT], id="between others"),
        pytest.param([ECH], [], id="alone"),
        pytest.param([ECH, ECH], [], id="twice"),
        pytest.param([ALPN, HINT], [ALPN, HINT], id="not there"),
        pytest.param([(0, b"\0\1\0\5"), ALPN, ECH], [(0, b"\0\1"), ALPN], id="mandatory beside another"),
        pytest.param([(0, b"\0\5"), ECH], [], id="mandatory alone"),
    ],
)
def test_keys_for_ech_are_taken_out(before: Parameters, after: Parameters) -> None:
    """Nothing of ECH is left, no list calls it mandatory, and all else stays as it was."""
    assert without_ech(service(*before, target="cdn.example")) == service(*after, target="cdn.example")


@given(st.lists(st.tuples(st.integers(1, 8), st.binary(max_size=20)), max_size=6))
def test_taking_out_is_done_once_and_for_all(parameters: Parameters) -> None:
    """What is left is every other parameter in order, and a second time changes nothing."""
    once = without_ech(service(*parameters))
    assert once == service(*(pair for pair in parameters if pair[0] != 5))
    assert without_ech(once) == once


@given(st.binary(max_size=60))
def test_any_octets_are_read_or_refused(rdata: bytes) -> None:
    """Octets of any kind are a record or malformed; nothing else is raised, and nothing grows."""
    for use in (read_service, without_ech):
        try:
            use(rdata)
        except WireError:
            continue
    try:
        assert len(without_ech(rdata)) <= len(rdata)
    except WireError:
        return


def test_what_is_judged() -> None:
    """Target and hints are read; the owner's own name is no target."""
    found = read_service(service(HINT, target="cdn.example"))
    assert found == (b"\3cdn\7example\0", (b"\xc0\0\2\1",))
    assert read_service(service()).target == b"\0"


@pytest.mark.parametrize(
    "rdata", [b"", b"\0\1", b"\0\1\3ab", b"\0\1\0\0\5\0\4abc", b"\0\1\0\0", service((4, b"abc")), service((6, b""))]
)
def test_what_is_cut_short_is_malformed(rdata: bytes) -> None:
    """A record that ends inside a name, a parameter or an address is malformed."""
    with pytest.raises(WireError):
        read_service(rdata)
