"""Tests of `gateway.proxy.head`."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.head import INSIDE, PLAIN, TO_PROXY, Form, Head, HeadError, Limits, check_fields, read_head
from gateway.request import Host
from gateway.selfcheck.framing import HEADS

LIMITS = Limits(octets=1024, fields=10)
GOOD = b"GET http://good.test/a?b HTTP/1.1\r\nHost: good.test\r\nUser-Agent: x\r\n\r\n"
CONNECT = b"CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n\r\n"


def head_of(data: bytes, forms: frozenset[Form] = TO_PROXY) -> Head:
    """Return the head that the octets hold."""
    head = read_head(data, LIMITS, forms=forms)
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("target", "host", "port", "path"),
    [
        (b"http://good.test", "good.test", 80, "/"),
        (b"http://good.test/", "good.test", 80, "/"),
        (b"http://GOOD.test.:8080/x//y", "good.test", 8080, "/x//y"),
        (b"http://good.test?q", "good.test", 80, "/?q"),
        (b"http://192.0.2.1/", ip_address("192.0.2.1"), 80, "/"),
        (b"http://[2001:db8::1]:81/", ip_address("2001:db8::1"), 81, "/"),
    ],
)
def test_absolute_form(target: bytes, host: Host, port: int, path: str) -> None:
    """A request to a proxy names host, port and path in one spelling."""
    head = head_of(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (head.form, head.host, head.port, head.path) == (Form.ABSOLUTE, host, port, path)


def test_connect() -> None:
    """CONNECT names a host and a port, and may have octets behind it."""
    head = head_of(CONNECT + b"\x16\x03\x01")
    assert (head.form, head.host, head.port, head.method) == (Form.AUTHORITY, "good.test", 443, "CONNECT")
    assert head.length == len(CONNECT)


def test_connect_needs_no_host_field() -> None:
    """Old clients send CONNECT without a Host field, and nothing depends on it."""
    assert head_of(b"CONNECT good.test:443 HTTP/1.1\r\n\r\n").host == "good.test"


def test_inside() -> None:
    """Inside a tunnel a path stands alone, and OPTIONS may ask for the server."""
    assert head_of(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", INSIDE).path == "/a"
    assert head_of(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", INSIDE).path == "*"


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        (b"", 0),
        (b"Content-Length: 5\r\n", 5),
        (b"Transfer-Encoding: Chunked\r\n", None),
    ],
)
def test_body_length(fields: bytes, length: int | None) -> None:
    """The length of the body is declared, or the body is chunked, or there is none."""
    assert head_of(b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + fields + b"\r\n").body_length == length


def test_values() -> None:
    """Fields keep order and count, their names lose their case, their values the space around them."""
    head = head_of(b"GET http://a.test/ HTTP/1.0\r\nUSER-agent: \t one \r\nX:\r\nuser-Agent:two\r\n\r\n")
    assert head.fields == (("user-agent", "one"), ("x", ""), ("user-agent", "two"))
    assert head.user_agent == "one two"
    assert head.minor == 0


_GET = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"

REFUSED: dict[str, tuple[bytes, int, str]] = {
    **HEADS,
    "too many fields": (_GET + b"X: y\r\n" * 10 + b"\r\n", 431, "more than 10 header fields"),
    "too long": (_GET + b"X: " + b"y" * 1100 + b"\r\n\r\n", 431, "more than 1024 octets"),
    "endless": (b"GET http://a.test/" + b"y" * 1100, 431, "more than 1024 octets"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name: str) -> None:
    """Whatever could be read in two ways is refused, with the cause and a fitting status."""
    data, status, cause = REFUSED[name]
    with pytest.raises(HeadError, match=re.escape(cause)) as caught:
        read_head(data, LIMITS)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "0", "[::ffff:127.0.0.1", "[good.test]",
     "[fe80::1%25lo]", "a..test", ".a.test", "a.test%00", "a.test,b.test", "xn--.test\uff0e", "a" * 64 + ".test"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["CONNECT {}:443 HTTP/1.1\r\n\r\n", "GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_odd_hosts(host: str, form: str) -> None:
    """A host in a spelling that programs read differently is refused."""
    with pytest.raises(HeadError):
        read_head(form.format(host).encode(), LIMITS)


def test_connect_is_not_for_everybody() -> None:
    """Where requests are carried, CONNECT is refused."""
    for forms in (PLAIN, INSIDE):
        with pytest.raises(HeadError, match="CONNECT inside"):
            read_head(CONNECT, LIMITS, forms=forms)


def test_inside_needs_a_path() -> None:
    """Inside a tunnel a target with a host of its own is refused."""
    with pytest.raises(HeadError, match="expected a path"):
        read_head(GOOD, LIMITS, forms=INSIDE)


@pytest.mark.parametrize("data", [GOOD, CONNECT])
def test_octet_by_octet(data: bytes) -> None:
    """A head that trickles in is not ready before its last octet, and then says the same."""
    for end in range(len(data)):
        assert read_head(data[:end], LIMITS, seen=max(0, end - 1)) is None
    assert read_head(data, LIMITS, seen=len(data) - 1) == read_head(data, LIMITS)


def test_trouble_is_seen_early() -> None:
    """What can never become a head is refused at its first octet."""
    with pytest.raises(HeadError):
        read_head(b"GET http://a.test/ HTTP/1.1\nH", LIMITS, seen=28)


@given(st.binary(max_size=300))
def test_any_octets(data: bytes) -> None:
    """Any octets are a head, the beginning of one, or refused."""
    try:
        head = read_head(data, LIMITS)
    except HeadError:
        return
    assert head is None or head.length <= len(data)


@given(st.text(alphabet="GETCONhtp:/.@[]#\\ \r\n\tHos12abc%", max_size=80), st.sampled_from(list(Form)))
def test_any_text(text: str, form: Form) -> None:
    """Anything that looks like a head is one, is the beginning of one, or is refused."""
    try:
        read_head(text.encode() + b"\r\n\r\n", LIMITS, forms=frozenset((form,)))
    except HeadError:
        pass


ASKING = ((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/a?b"), (b":authority", b"good.test"))


def test_http2_fields() -> None:
    """A request that HTTP/1 can say as well passes, with a body of the length that it announces."""
    check_fields(ASKING, ended=True)
    check_fields((*ASKING, (b"content-length", b"0"), (b"te", b"trailers")), ended=True)
    check_fields((*ASKING, (b"content-length", b"5")), ended=False)


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        (b":method", b"GET /x", "method"),
        (b":method", b"get", "method"),
        (b":method", b"CONNECT", "CONNECT inside"),
        (b":scheme", b"http", "inside TLS"),
        (b":path", b"/a b", "request for"),
        (b":path", b"", "request for"),
        (b":path", b"http://evil.test/", "expected a path"),
        (b":path", b"/a#b", "fragment"),
        (b":path", b"/a\r\nX: y", "line break"),
        (b":path", b"/\xc3\xa9", "0xc3"),
        (b"x", b"a\0", "0x00"),
        (b"x y", b"a", "expected name"),
        (b"content-length", b"5", "no body"),
        (b"content-length", b"x", "no number"),
        (b"transfer_encoding", b"chunked", "underscore"),
    ],
)
def test_http2_fields_that_are_refused(name: bytes, value: bytes, detail: str) -> None:
    """What would be another request in HTTP/1, or none, is refused."""
    fields = (*((known, said) for known, said in ASKING if known != name), (name, value))
    with pytest.raises(HeadError, match=detail):
        check_fields(fields, ended=True)
