"""Tests of `gateway.proxy.clienthello`."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.clienthello import (
    MAX_ENTRIES,
    MAX_HELLO,
    MAX_RECORDS,
    Hello,
    HelloReader,
    Malformed,
    NotTls,
    _Broken,
    _parse,
    _remembering,
)
from tests.gateway.proxy.samples import (
    CAPTURED,
    Extension,
    a_hello,
    a_message,
    alpn,
    in_records,
    numbers,
    server_name,
    versions,
)


def read(data: bytes, step: int = 1 << 20) -> Hello | NotTls | Malformed | None:
    """Feed a reader and return its first answer."""
    reader = HelloReader()
    for at in range(0, len(data), step):
        found = reader.feed(data[at : at + step])
        if found is not None:
            return found
    return None


@pytest.mark.parametrize("program", sorted(CAPTURED))
@pytest.mark.parametrize("step", [1 << 20, 1, 7])
def test_captured(program: str, step: int) -> None:
    """A real program's hello is read alike whole, octet by octet and in small pieces."""
    hello = read(CAPTURED[program], step)
    assert isinstance(hello, Hello)
    assert hello == read(CAPTURED[program])
    assert hello.ciphers
    assert not hello.ech


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("step", [1 << 20, 1])
def test_records(size: int, step: int) -> None:
    """A hello cut into records of any size says the same."""
    message = a_message(server_name(b"good.test"), alpn(b"h2", b"http/1.1"), versions(0x0A0A, 0x0304))
    hello = read(in_records(message, size), step)
    assert isinstance(hello, Hello)
    assert hello.server_names == ("good.test",)
    assert hello.alpn == (b"h2", b"http/1.1")
    assert hello.versions == (0x0A0A, 0x0304)


def test_received_keeps_everything() -> None:
    """What was fed, the octets after the hello included, is there to be passed on."""
    reader = HelloReader()
    data = a_hello() + b"\x14\x03\x03\x00\x01\x01"
    assert isinstance(reader.feed(data), Hello)
    assert bytes(reader.received) == data


@pytest.mark.parametrize("length", range(1, 60, 7))
def test_incomplete(length: int) -> None:
    """A part of a hello is neither a hello nor refused."""
    assert read(a_hello()[:length]) is None


@pytest.mark.parametrize(
    ("extensions", "names"),
    [
        ((), ()),
        ((server_name(),), ()),
        ((server_name(b"Good.Test."),), ("Good.Test.",)),
        ((server_name(b"good.test", b"evil.test"),), ("good.test", "evil.test")),
        ((server_name(b"good.test"), server_name(b"evil.test")), ("good.test", "evil.test")),
        ((server_name(b"\xc3\xa9.test"),), ("\\xc3\\xa9.test",)),
        ((server_name(b"good.test\0evil"),), ("good.test\0evil",)),
        ((server_name(b""),), ("",)),
    ],
    ids=["none", "empty list", "spelling", "two in one", "two extensions", "not ASCII", "NUL", "empty"],
)
def test_server_names(extensions: tuple[Extension, ...], names: tuple[str, ...]) -> None:
    """Server names are told as they were sent, all of them."""
    hello = read(in_records(a_message(*extensions)))
    assert isinstance(hello, Hello)
    assert hello.server_names == names


@pytest.mark.parametrize("kind", [0xFFCE, 0xFE08, 0xFE0C, 0xFE0D])
def test_names_hidden_as_drafts_had_it(kind: int) -> None:
    """Before ECH had its number, drafts of it had others, and there are tools that use those."""
    hello = HelloReader().feed(a_hello(b"good.test", (kind, b"x")))
    assert isinstance(hello, Hello)
    assert hello.ech


def test_ech() -> None:
    """An encrypted ClientHello is seen."""
    hello = read(a_hello(b"public.test", (0xFE0D, b"\0" * 40)))
    assert isinstance(hello, Hello)
    assert hello.ech


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x05\x01\x00",
        b"\x80\x2e\x01\x03\x01",
        b"\x00\x1d" + bytes(29),
        b"\0" + a_hello(),
        b"\x16\x02\x00",
        b"\x16\xfe\xfd",
        b"\x17\x03\x03",
        b"\x15\x03\x03\x00\x02",
    ],
    ids=["ssh", "http", "socks", "sslv2", "dns", "junk before", "tls 2?", "dtls", "data", "alert"],
)
def test_not_tls(data: bytes) -> None:
    """Anything that does not begin a TLS handshake is told from TLS at its first octets."""
    assert isinstance(read(data), NotTls)
    assert isinstance(read(data, 1), NotTls)


MALFORMED: dict[str, bytes] = {
    "not a hello": b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
    "too long": b"\x16\x03\x01\x40\x00\x01" + (MAX_HELLO + 1).to_bytes(3, "big"),
    "empty record": b"\x16\x03\x01\x00\x00",
    "record too long": b"\x16\x03\x01\x40\x01",
    "data in between": in_records(a_message(), 10)[:15] + b"\x17\x03\x03\x00\x01x",
    "old version in between": in_records(a_message(), 10)[:15] + b"\x16\x02",
    "too many records": in_records(a_message((21, bytes(3000))), 1),
    "extension twice": in_records(a_message(alpn(b"h2"), alpn(b"h2"))),
    "second message": in_records(a_message() + a_message()),
    "trailing octets": in_records(a_message(server_name(b"a.test"), trailing=b"xx")),
    "name past the end": in_records(a_message((0, b"\x00\x04\x00\x00\x09a"))),
    "name list length": in_records(a_message((0, b"\x00\x09\x00\x00\x01a"))),
    "name type": in_records(a_message((0, b"\x00\x04\x01\x00\x01a"))),
    "alpn length": in_records(a_message((16, b"\x00\x03\x09h2"))),
    "alpn empty name": in_records(a_message((16, b"\x00\x01\x00"))),
    "versions length": in_records(a_message((43, b"\x03\x03\x04"))),
    "versions odd": in_records(a_message((43, b"\x01\x03"))),
    "algorithms length": in_records(a_message((13, b"\x00\x05\x04\x03"))),
    "too many ciphers": in_records(a_message(ciphers=range(MAX_ENTRIES + 1))),
    "too many extensions": in_records(a_message(*((1000 + each, b"") for each in range(MAX_ENTRIES + 1)))),
    "too many names": in_records(a_message(server_name(*[b"a"] * (MAX_ENTRIES + 1)))),
    "too many protocols": in_records(a_message(alpn(*[b"h2"] * (MAX_ENTRIES + 1)))),
    "too many algorithms": in_records(a_message(numbers(13, *range(MAX_ENTRIES + 1)))),
    "cut off": in_records(b"\x01\x00\x00\x10" + bytes(16)),
}


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_malformed(name: str) -> None:
    """A hello that breaks the rules is refused, however it arrives."""
    assert isinstance(read(MALFORMED[name]), Malformed)
    assert isinstance(read(MALFORMED[name], 1), Malformed)


def test_limits() -> None:
    """A hello at the limit passes, in one record an octet as long as there are not too many of them."""
    frame = len(a_message((21, b"")))
    assert isinstance(read(in_records(a_message((21, bytes(MAX_HELLO + 4 - frame))))), Hello)
    assert isinstance(read(in_records(a_message((21, bytes(MAX_RECORDS - frame))), 1)), Hello)
    longest = a_message(alpn(*[b"h2"] * MAX_ENTRIES), ciphers=range(MAX_ENTRIES))
    assert isinstance(read(in_records(longest)), Hello)


def test_long_hello_is_refused_early() -> None:
    """A hello that announces more than the limit is refused before the rest of it comes."""
    assert isinstance(read(b"\x16\x03\x01\x02\x00\x01\xff\xff\xff"), Malformed)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_octets(data: bytes, step: int) -> None:
    """Any octets are answered, and never with an exception."""
    read(data, step)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_hello(body: bytes, step: int) -> None:
    """Any handshake message is answered once it is complete."""
    assert read(in_records(b"\x01" + len(body).to_bytes(3, "big") + body), step) is not None


@given(st.data())
def test_damaged(data: st.DataObject) -> None:
    """A real hello with octets changed is answered with no exception."""
    octets = bytearray(CAPTURED["curl"])
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(octets))


def test_signature_algorithms() -> None:
    """Signature algorithms keep their order."""
    hello = read(a_hello(b"a.test", numbers(13, 0x0804, 0x0403)))
    assert isinstance(hello, Hello)
    assert hello.signature_algorithms == (0x0804, 0x0403)


_SHARE = b"\x00\x24\x00\x1d\x00\x20" + bytes(32)
_SHARES = {
    "X25519": _SHARE,
    "X25519MLKEM768 and X25519": b"\x04\xe8\x11\xec\x04\xc0" + bytes(1216) + b"\x00\x1d\x00\x20" + bytes(32),
}
_MESSAGES = [
    *(data[5:] for data in CAPTURED.values()),
    *(a_message(server_name(b"good.test"), (0x33, share), alpn(b"h2")) for share in _SHARES.values()),
    # A name that looks like the beginning of a key: what follows it must not be taken for random octets.
    a_message(server_name(b"\x00\x33\x00\x26" + _SHARE[:6] + b"good.test." + b"x" * 40), (0x33, _SHARE)),
]


@given(
    st.lists(
        st.tuples(st.sampled_from(_MESSAGES), st.integers(0, 1700), st.integers(0, 255), st.integers(1, 40)),
        max_size=6,
    )
)
def test_what_is_remembered_is_what_is_read(asked: list[tuple[bytes, int, int, int]]) -> None:
    """Whatever hellos came before, each one says what it says itself, whichever of its octets are different."""
    read_again = _remembering(_parse)
    for message in _MESSAGES:
        assert outcome(read_again, message) == outcome(_parse, message)
    for message, at, octet, run in asked * 2:
        at %= len(message)
        changed = message[:at] + bytes([octet]) * len(message[at : at + run]) + message[at + run :]
        assert outcome(read_again, changed) == outcome(_parse, changed)


def outcome(read_message: Callable[[bytes], Hello], message: bytes) -> Hello | str:
    """Return what was read, or why not."""
    try:
        return read_message(message)
    except _Broken as error:
        return str(error)


@pytest.mark.parametrize("share", _SHARES.values(), ids=_SHARES)
def test_a_hello_again_is_the_same_object(share: bytes) -> None:
    """What differs in random octets alone is not read a second time."""
    read_again = _remembering(_parse)
    first = a_message(server_name(b"good.test"), (0x33, share))
    other = first[:6] + bytes(range(32)) + first[38 : -len(share)] + share.replace(bytes(32), bytes(range(32)))
    assert other != first
    assert read_again(other) is read_again(first)


@pytest.mark.parametrize("name", CAPTURED)
def test_real_programs_are_remembered(name: str) -> None:
    """Whatever a program's keys look like, its next hello is found: old TLS without any, several, post-quantum."""
    message = CAPTURED[name][5:]
    read_again = _remembering(_parse)
    first = read_again(message)
    start, end = first.keys
    other = message[:6] + bytes(32) + message[38:start] + bytes(end - start) + message[end:]
    assert read_again(other) is first
