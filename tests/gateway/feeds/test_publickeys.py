"""Public keys of those who sign lists."""

import base64

import pytest

from gateway.feeds.publickeys import MinisignKey, parse_ed25519_key, parse_minisign_key

KEY = bytes(range(32))
ID = b"12345678"


def test_keys() -> None:
    """A key is read with its number, whatever blanks are around it."""
    text = base64.b64encode(b"Ed" + ID + KEY).decode()
    assert parse_minisign_key(f" {text}\n") == MinisignKey(ID, KEY)
    assert parse_ed25519_key(base64.b64encode(KEY).decode()) == KEY


@pytest.mark.parametrize("text", ["", "RWQ", "!!!", base64.b64encode(b"Xd" + ID + KEY).decode()])
def test_keys_that_are_none(text: str) -> None:
    """A key that cannot be one is refused when the catalogue is read."""
    with pytest.raises(ValueError, match="expected a minisign public key"):
        parse_minisign_key(text)
    with pytest.raises(ValueError, match="expected an Ed25519 public key"):
        parse_ed25519_key(text)
