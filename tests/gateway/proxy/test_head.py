"""Tests of `gateway.proxy.head`."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.head import INSIDE, PLAIN, TO_PROXY, Form, Head, HeadError, Limits, read_head
from gateway.request import Host

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


def _get(fields: bytes, version: bytes = b"1.1") -> bytes:
    return b"GET http://a.test/ HTTP/" + version + b"\r\nHost: a.test\r\n" + fields + b"\r\n"


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "origin-form": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "this is a proxy"),
    "https": (b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "use CONNECT"),
    "other scheme": (b"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "expected http://host/path"),
    "userinfo": (b"GET http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "is not host or host:port"),
    "fragment": (b"GET http://a.test/#x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "fragment"),
    "backslash": (b"GET http://a.test\\@b/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "backslash"),
    "no Host": (b"GET http://a.test/ HTTP/1.1\r\n\r\n", 400, "without Host"),
    "two Host": (_get(b"Host: a.test\r\n"), 400, "host twice"),
    "bare CR": (_get(b"X: a\rb\r\n"), 400, "bare CR"),
    "bare LF": (_get(b"X: a\nY: b\r\n"), 400, "bare LF"),
    "only LF": (b"GET http://a.test/ HTTP/1.1\nHost: a.test\n\n", 400, "bare LF"),
    "NUL": (_get(b"X: a\0b\r\n"), 400, "0x00"),
    "not ASCII": (_get(b"X: \xc3\xa9\r\n"), 400, "0xc3"),
    "fold": (_get(b"X: a\r\n b\r\n"), 400, "folded"),
    "fold at once": (b"GET http://a.test/ HTTP/1.1\r\n Host: a.test\r\n\r\n", 400, "folded"),
    "space before colon": (_get(b"X : a\r\n"), 400, "expected name, colon, value"),
    "no colon": (_get(b"X\r\n"), 400, "expected name, colon, value"),
    "empty name": (_get(b": x\r\n"), 400, "expected name, colon, value"),
    "CL and TE": (_get(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400, "both"),
    "two CL": (_get(b"Content-Length: 1\r\nContent-Length: 1\r\n"), 400, "content-length twice"),
    "CL list": (_get(b"Content-Length: 1, 1\r\n"), 400, "no number"),
    "CL +1": (_get(b"Content-Length: +1\r\n"), 400, "no number"),
    "CL -1": (_get(b"Content-Length: -1\r\n"), 400, "no number"),
    "CL 0x1": (_get(b"Content-Length: 0x1\r\n"), 400, "no number"),
    "CL empty": (_get(b"Content-Length:\r\n"), 400, "no number"),
    "CL underscore": (_get(b"Content-Length: 1_0\r\n"), 400, "no number"),
    "TE list": (_get(b"Transfer-Encoding: gzip, chunked\r\n"), 501, "expected chunked"),
    "TE identity": (_get(b"Transfer-Encoding: identity\r\n"), 501, "expected chunked"),
    "TE xchunked": (_get(b"Transfer-Encoding: xchunked\r\n"), 501, "expected chunked"),
    "TE quoted": (_get(b'Transfer-Encoding: "chunked"\r\n'), 501, "expected chunked"),
    "two TE": (_get(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, "twice"),
    "TE in 1.0": (_get(b"Transfer-Encoding: chunked\r\n", b"1.0"), 400, "HTTP/1.0"),
    "TE underscore": (_get(b"Transfer_Encoding: chunked\r\n"), 400, "underscore"),
    "CL underscored": (_get(b"Content_Length: 3\r\n"), 400, "underscore"),
    "HTTP/0.9": (b"GET http://a.test/\r\n\r\n", 400, "expected method, target and version"),
    "HTTP/1.2": (_get(b"", b"1.2"), 505, "expected HTTP/1.0 or HTTP/1.1"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 505, "expected HTTP/1.0 or HTTP/1.1"),
    "lower-case method": (b"get http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "upper case"),
    "two spaces": (b"GET  http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "one space"),
    "tab in the line": (b"GET\thttp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "one space"),
    "space in target": (b"GET http://a.test/a b HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "one space"),
    "empty line first": (b"\r\nGET http://a.test/ HTTP/1.1\r\n\r\n", 400, "empty line"),
    "CONNECT without port": (b"CONNECT a.test HTTP/1.1\r\n\r\n", 400, "has no port"),
    "CONNECT to a URL": (b"CONNECT http://a.test:443/ HTTP/1.1\r\n\r\n", 400, "is not host or host:port"),
    "CONNECT port 0": (b"CONNECT a.test:0 HTTP/1.1\r\n\r\n", 400, "does not exist"),
    "CONNECT port 65536": (b"CONNECT a.test:65536 HTTP/1.1\r\n\r\n", 400, "does not exist"),
    "CONNECT with a body": (b"CONNECT a.test:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400, "with a body"),
    "CONNECT chunked": (b"CONNECT a.test:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "with a body"),
    "CONNECT userinfo": (b"CONNECT u@a.test:443 HTTP/1.1\r\n\r\n", 400, "is not host or host:port"),
    "too many fields": (_get(b"X: y\r\n" * 10), 431, "more than 10 header fields"),
    "too long": (_get(b"X: " + b"y" * 1100 + b"\r\n"), 431, "more than 1024 octets"),
    "endless": (b"GET http://a.test/" + b"y" * 1100, 431, "more than 1024 octets"),
    "TLS": (b"\x16\x03\x01\x02\x00", 400, "0x16"),
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
