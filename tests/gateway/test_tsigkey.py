"""Keys that servers share."""

import base64

import pytest

from gateway.tsigkey import parse_keys

SECRET = base64.b64encode(bytes(range(32))).decode()


def test_keys_as_tsig_keygen_writes_them() -> None:
    """Names are taken in normal form, comments are passed over, and a secret is not shown by accident."""
    keys = parse_keys(
        f'# ours\nkey "Xfr.Example." {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'
        f"key two {{ algorithm HMAC-SHA512; secret {SECRET}; }}; // and another\n"
    )
    assert list(keys) == ["xfr.example", "two"]
    assert keys["xfr.example"].secret == bytes(range(32))
    assert len(keys["two"].mac(b"x")) == 64
    assert "secret" not in repr(keys["two"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected what tsig-keygen writes"),
        (
            f'key "a" {{ algorithm hmac-sha256; secret "{SECRET}"; }}; include "x";',
            "expected what tsig-keygen writes",
        ),
        (f'key "a" {{ algorithm hmac-md5; secret "{SECRET}"; }};', "algorithm 'hmac-md5' is not one of"),
        ('key "a" { algorithm hmac-sha256; secret "AAAA"; };', "no base64 of 16 octets or more"),
        ('key "a" { algorithm hmac-sha256; secret "AAA"; };', "no base64 of 16 octets or more"),
    ],
)
def test_what_is_no_key(text: str, problem: str) -> None:
    """A key that protects nothing is refused when the policy is read."""
    with pytest.raises(ValueError, match=problem):
        parse_keys(text)
