"""Tests of `gateway.proxy.credentials`."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.credentials import Credentials, read_credentials


def basic(text: bytes, scheme: str = "Basic") -> str:
    """Return the value of a field."""
    return f"{scheme} {base64.b64encode(text).decode()}"


GOOD = [
    ("usual", basic(b"Aladdin:open sesame"), "Aladdin", b"open sesame"),
    ("any case of the scheme", basic(b"u:p", "bAsIc"), "u", b"p"),
    ("colons in the password", basic(b"u:p:q::"), "u", b"p:q::"),
    ("no password", basic(b"u:"), "u", b""),
    ("UTF-8", basic("wörk:pässwörd".encode()), "wörk", "pässwörd".encode()),
    ("a password that is no UTF-8", basic(b"u:\xff\xfe"), "u", b"\xff\xfe"),
]
BAD = [
    ("no field", [], "more than once"),
    ("two", [basic(b"u:p"), basic(b"u:p")], "more than once"),
    ("another scheme", ["Bearer abcdef"], "Basic scheme"),
    ("Digest", ['Digest username="batch", response="x"'], "Basic scheme"),
    ("nothing behind it", ["Basic"], "Basic scheme"),
    ("nothing", [""], "Basic scheme"),
    ("a list", [basic(b"u:p") + ", " + basic(b"v:p")], "Basic scheme"),
    ("a tab", [basic(b"u:p").replace(" ", "\t")], "Basic scheme"),
    ("base64 of the web", ["Basic dTpw_-=="], "Basic scheme"),
    ("short base64", ["Basic dTpwc"], "base64"),
    ("no colon", [basic(b"user")], "user:password"),
    ("no user", [basic(b":password")], "user:password"),
    ("NUL", [basic(b"u:p\0q")], "control characters"),
    ("line break in the name", [basic(b"u\nv:p")], "control characters"),
    ("a name that is no UTF-8", [basic(b"\xff:p")], "UTF-8"),
    ("huge", [basic(b"u:" + b"p" * 60000)], "more than 2048"),
]


@pytest.mark.parametrize(("value", "user", "password"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_good(value: str, user: str, password: bytes) -> None:
    """What RFC 7617 allows is read as it says."""
    assert read_credentials([value]) == Credentials(user, password)


@pytest.mark.parametrize(("values", "told"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad(values: list[str], told: str) -> None:
    """Anything else is refused with what was expected, and with nothing of what was sent."""
    with pytest.raises(ValueError, match=told):
        read_credentials(values)


@given(st.text(max_size=100))
def test_any_text(text: str) -> None:
    """Any value is credentials or a ValueError."""
    try:
        found = read_credentials([f"Basic {text}"])
    except ValueError:
        return
    assert found.user
