"""Tests for gateway.dns.doh."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.doh import MAX_BODY, Head, HttpError, check_body, fields_of, is_no_query, message_of, read_head
from tests.gateway.dns.support import ask

PATH = b"/dns-query"


def encoded(data: bytes) -> bytes:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@given(st.binary(min_size=1, max_size=600))
def test_a_get_carries_any_message(data: bytes) -> None:
    """Whatever octets are in `dns=` come out again, wherever it stands among other parameters."""
    for query in (b"dns=" + encoded(data), b"ct&dns=" + encoded(data) + b"&x=y"):
        assert message_of(Head(b"GET", PATH + b"?" + query), PATH) == data


def test_a_post_has_its_message_in_the_body() -> None:
    """A POST of the right type is let in, and its message is yet to come."""
    for kind in (b"application/dns-message", b"Application/DNS-Message ; x=y"):
        head = read_head(b"POST", PATH, [(b"content-type", kind), (b"content-length", b"33")])
        assert message_of(head, PATH) is None
        assert head.length == 33


@pytest.mark.parametrize(
    ("method", "target", "fields", "status"),
    [
        (b"GET", b"/dns-query", [], 400),
        (b"GET", b"/dns-query?", [], 400),
        (b"GET", b"/dns-query?dns=", [], 400),
        (b"GET", b"/dns-query?dns=AAAA&dns=AAAA", [], 400),
        (b"GET", b"/dns-query?dns=AAA=", [], 400),
        (b"GET", b"/dns-query?dns=AA+A", [], 400),
        (b"GET", b"/dns-query?dns=A%41AA", [], 400),
        (b"GET", b"/dns-query?dns=AAAAA", [], 400),
        (b"GET", b"/dns-query?dns=A\nAA", [], 400),
        (b"GET", b"/", [], 404),
        (b"GET", b"/dns-query/", [], 404),
        (b"GET", b"/dns-query/../dns-query?dns=AAAA", [], 404),
        (b"GET", b"/DNS-query?dns=AAAA", [], 404),
        (b"GET", b"", [], 404),
        (b"HEAD", b"/dns-query?dns=AAAA", [], 405),
        (b"get", b"/dns-query?dns=AAAA", [], 405),
        (b"PUT", b"/dns-query", [], 405),
        (b"POST", b"/dns-query", [], 415),
        (b"POST", b"/dns-query", [(b"content-type", b"text/plain")], 415),
        (b"POST", b"/dns-query", [(b"content-type", b"application/dns-json")], 415),
        (b"POST", b"/dns-query", [(b"content-type", b"application/dns-message")] * 2, 400),
        (
            b"POST",
            b"/dns-query",
            [(b"content-type", b"application/dns-message"), (b"content-length", b"65536")],
            413,
        ),
        (b"POST", b"/dns-query", [(b"content-length", b"-1")], 400),
        (
            b"POST",
            b"/dns-query",
            [(b"content-type", b"application/dns-message"), (b"content-encoding", b"gzip")],
            415,
        ),
    ],
)
def test_what_is_no_request_for_an_answer(
    method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], status: int
) -> None:
    """Each fault has its status, and 405 names the methods that there are."""
    with pytest.raises(HttpError) as caught:
        message_of(read_head(method, target, fields), PATH)
    assert caught.value.status == status
    assert ((b"allow", b"GET, POST") in caught.value.fields()) is (status == 405)


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.tuples(st.binary(max_size=20), st.binary())))
def test_nothing_else_is_raised(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    """Any octets are a request or an HTTP error."""
    for place in (target, PATH + b"?dns=" + target):
        with suppress(HttpError):
            message_of(read_head(method, place, fields), PATH)


def test_bodies_are_bounded() -> None:
    """A body is one to 65535 octets."""
    assert check_body(b"x" * MAX_BODY)
    for body, status in ((b"", 400), (b"x" * (MAX_BODY + 1), 413)):
        with pytest.raises(HttpError) as caught:
            check_body(body)
        assert caught.value.status == status


def test_an_answer_is_for_one_client() -> None:
    """The header fields keep shared caches from passing an answer on to other clients."""
    fields = dict(fields_of(b"\0" * 12))
    assert fields[b"content-type"] == b"application/dns-message"
    assert fields[b"cache-control"] == b"private, max-age=0"


def test_silence_about_queries_is_told_from_nonsense() -> None:
    """Only what is no query is called so."""
    query = ask("www.example.com")
    assert not is_no_query(query)
    assert is_no_query(query[:11])
    assert is_no_query(query[:2] + b"\x81" + query[3:])
