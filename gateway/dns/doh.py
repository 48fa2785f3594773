"""What DNS over HTTPS means (RFC 8484), whichever HTTP it comes by: requests read, responses described.

Pure: no I/O, no clock. Who asks is the TCP peer and nobody else: no header field is looked at for that.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple

from gateway.dns.outbound import freshness
from gateway.dns.wire import HEADER, QR

MEDIA_TYPE = b"application/dns-message"
MAX_BODY = 65535
"""No DNS message is longer."""
MAX_HEAD = 16 * 1024
"""Octets of a request's target and fields. The longest honest question in a GET needs a tenth."""

type Fields = list[tuple[bytes, bytes]]

_base64url = re.compile(rb"[A-Za-z0-9_-]*").fullmatch


class HttpError(ValueError):
    """A request that has no DNS answer but an HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status

    def fields(self) -> Fields:
        """Return the header fields of the response; it has no body."""
        fields = [(b"content-length", b"0"), (b"cache-control", b"no-store")]
        if self.status == 405:
            fields.append((b"allow", b"GET, POST"))
        return fields


class Head(NamedTuple):
    """What counts of a request before its body."""

    method: bytes
    target: bytes
    """Path and query."""
    content_type: bytes = b""
    length: int | None = None
    """Octets of the body, when that is declared."""


def read_head(method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> Head:
    """Pick out what counts of a request; field names are in lower case.

    Raises:
        HttpError: two fields contradict each other.
    """
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in (b"content-type", b"content-length", b"content-encoding"):
            if name in found:
                raise HttpError(400, f"two fields {name.decode()}")
            found[name] = value.strip()
    if found.get(b"content-encoding", b"identity").lower() != b"identity":
        raise HttpError(415, "an encoded body")
    length = found.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 20):
        raise HttpError(400, "a length that is no number")
    kind = found.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return Head(method, target, kind, None if length is None else int(length))


def message_of(head: Head, path: bytes) -> bytes | None:
    """Return the DNS message in a GET; None when it is in the body (POST).

    Raises:
        HttpError: the request is for something else.
    """
    place, mark, query = head.target.partition(b"?")
    if place != path:
        raise HttpError(404, "another path")
    if head.length is not None and head.length > MAX_BODY:
        raise HttpError(413, "a body longer than any DNS message")
    if head.method == b"GET":
        return _decode(query if mark else b"")
    if head.method != b"POST":
        raise HttpError(405, "neither GET nor POST")
    if head.content_type != MEDIA_TYPE:
        raise HttpError(415, "a body that is no DNS message")
    return None


def _decode(query: bytes) -> bytes:
    given = [value for name, _, value in (part.partition(b"=") for part in query.split(b"&")) if name == b"dns"]
    if len(given) != 1 or not given[0]:
        raise HttpError(400, "not exactly one dns= in the query")
    text = given[0]
    # Strict: no padding (RFC 8484 section 6), and nothing that a decoder would pass over.
    if not _base64url(text):
        raise HttpError(400, "dns= is not base64url without padding")
    try:
        return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        raise HttpError(400, "dns= is cut short") from None


def check_body(body: bytes) -> bytes:
    """Return the DNS message in a body.

    Raises:
        HttpError: there is none, or it is too long.
    """
    if not body:
        raise HttpError(400, "an empty body")
    if len(body) > MAX_BODY:
        raise HttpError(413, "a body longer than any DNS message")
    return body


def fields_of(reply: bytes) -> Fields:
    """Return the header fields that go with an answer.

    `private`, because an answer is for the client that asked: a cache shared by several would pass one client's
    answer to another, whom the policy may deny it.
    """
    return [
        (b"content-type", MEDIA_TYPE),
        (b"content-length", str(len(reply)).encode()),
        (b"cache-control", b"private, max-age=%d" % freshness(reply)),
    ]


def is_no_query(data: bytes) -> bool:
    """Say whether the resolver was silent because this is no query at all, rather than to drop one on purpose."""
    return len(data) < HEADER or bool(data[2] & QR >> 8)
