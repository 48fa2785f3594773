"""Signed messages, against dnslib-free octets of our own; BIND is asked in tests/integration/test_rpz_transfer.py."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.message import encode_name
from gateway.dns.tsig import BADKEY, BADSIG, BADTIME, FUDGE, Signature, Signer, append, split, verify
from gateway.tsigkey import Key

KEY = Key("xfr.example", "hmac-sha256", bytes(range(32)))
NOW = 1_700_000_000.0
QUERY = struct.pack("!6H", 7, 0, 1, 0, 0, 0) + encode_name("rpz.example") + struct.pack("!2H", 252, 1)


def signed(message: bytes = QUERY, key: Key = KEY, now: float = NOW) -> bytes:
    """Sign a query."""
    bare = Signature(message, key.name, key.algorithm, int(now), FUDGE, b"", 7, 0)
    return append(message, replace(bare, mac=key.mac(message + bare.variables())))


def read(message: bytes) -> Signature:
    """Return the signature."""
    found = split(message)
    assert found is not None
    return found


def test_a_signed_query() -> None:
    """A query that is signed with a key we know is good, and is the query again without its signature."""
    found = read(signed())
    assert found.message == QUERY
    assert verify(found, {KEY.name: KEY}, NOW) == (KEY, 0)
    assert verify(found, {KEY.name: KEY}, NOW + FUDGE) == (KEY, 0)
    assert split(QUERY) is None


def test_the_id_that_was_signed() -> None:
    """A forwarder may have changed the id: the signature is about the original one (RFC 8945 section 5.3)."""
    found = read(b"\x12\x34" + signed()[2:])
    assert verify(found, {KEY.name: KEY}, NOW) == (KEY, 0)


def test_what_is_not_good() -> None:
    """Another key, another algorithm, another message, half a code, another time."""
    keys = {KEY.name: KEY}
    assert verify(read(signed()), {}, NOW) == (None, BADKEY)
    assert verify(read(signed(key=replace(KEY, algorithm="hmac-sha512"))), keys, NOW) == (None, BADKEY)
    assert verify(read(signed(key=replace(KEY, secret=bytes(32)))), keys, NOW) == (None, BADSIG)
    found = read(signed())
    assert verify(replace(found, message=found.message + b"x"), keys, NOW) == (None, BADSIG)
    assert verify(replace(found, mac=found.mac[:16]), keys, NOW) == (None, BADSIG)
    assert verify(replace(found, mac=b""), keys, NOW) == (None, BADSIG)
    assert verify(found, keys, NOW + FUDGE + 1) == (KEY, BADTIME)


def test_answers_are_chained() -> None:
    """Each answer's code covers that of the one before, and the first that of the query."""
    request = read(signed())
    signer = Signer(KEY, request)
    first, second = read(signer.sign(QUERY, NOW)), read(signer.sign(QUERY, NOW))
    prior = len(request.mac).to_bytes(2, "big") + request.mac
    assert first.mac == KEY.mac(prior + QUERY + first.variables())
    assert second.mac == KEY.mac(len(first.mac).to_bytes(2, "big") + first.mac + QUERY + second.timers())


@pytest.mark.parametrize("at", range(len(QUERY), len(signed())))
def test_cut_messages_are_refused(at: int) -> None:
    """A message that ends in the middle of its signature has none that could be read."""
    with pytest.raises(ValueError):
        split(signed()[:at])


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_octets_are_read_or_refused(data: bytes, at: int) -> None:
    """No message makes the reader do anything but answer or raise ValueError."""
    for message in (data, signed()[:at] + data, signed()[:at] + data + signed()[at:]):
        try:
            split(message)
        except ValueError:
            pass


def test_a_signature_is_the_last_record() -> None:
    """A record behind the signature would not be covered by it."""
    message = signed()
    more = message[:10] + b"\0\2" + message[12:] + b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    with pytest.raises(ValueError, match="not the last record"):
        split(more)


@pytest.mark.parametrize("long", ["name", "algorithm"])
def test_names_are_no_longer_than_names_may_be(long: str) -> None:
    """A key or an algorithm of 255 octets can be told back to its sender; a longer one is refused as it is read."""
    for last, fits in ((61, True), (62, False)):
        wire = b"".join(bytes((size,)) + b"a" * size for size in (63, 63, 63, last)) + b"\0"
        name, algorithm = (wire, b"\0") if long == "name" else (b"\0", wire)
        data = algorithm + struct.pack("!HIHHHHH", 0, int(NOW), FUDGE, 0, 7, 0, 0)
        record = name + struct.pack("!HHIH", 250, 255, 0, len(data)) + data
        message = QUERY[:10] + b"\0\1" + QUERY[12:] + record
        if fits:
            assert append(QUERY, read(message)).endswith(record)
        else:
            with pytest.raises(ValueError, match="longer than 255"):
                split(message)
