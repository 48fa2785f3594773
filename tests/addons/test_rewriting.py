"""Tests of `addons.rewriting`: what reaches the other side of a message's head."""

import pytest
from mitmproxy import http
from mitmproxy.test import tutils

from addons.rewriting import rewrite_request, rewrite_response
from gateway.tenants import Tenants


def a_request(*fields: tuple[bytes, bytes]) -> http.Request:
    """Return a request with some fields and no others."""
    return tutils.treq(headers=http.Headers([(b"Host", b"good.test"), *fields]))


def names(request: http.Request) -> set[str]:
    """Return the names of a request's fields in lower case."""
    return {str(name).lower() for name in request.headers} - {"host"}


PASSES: dict[str, tuple[tuple[tuple[bytes, bytes], ...], bool, set[str]]] = {
    "credentials for the gateway stay here": (((b"Proxy-Authorization", b"x"), (b"Authorization", b"y")), False,
                                              {"authorization"}),
    "h2c is not offered": (((b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AA")), False, set()),
    "a WebSocket is": (((b"Upgrade", b"WebSocket"),), False, {"upgrade"}),
    "a range is asked for": (((b"Range", b"bytes=1-"), (b"If-Range", b"x")), False, {"range", "if-range"}),
    "but not where the beginning is wanted": (((b"Range", b"bytes=1-"), (b"If-Range", b"x")), True, set()),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_request(name: str) -> None:
    """Of a request's fields, those pass that are for the origin and leave the answer readable."""
    fields, looked_at, passed = PASSES[name]
    request = a_request(*fields)
    rewrite_request(request, "good.test", None, looked_at=looked_at)
    assert names(request) == passed


CONNECTIONS = {
    b"close": "close",
    b"Keep-Alive, TE": "Keep-Alive, TE",
    b"X-Key": None,
    b"restrict-access-to-tenants,close , Cookie": "close",
    b"Upgrade,HTTP2-Settings": "Upgrade",
    b"": None,
}


@pytest.mark.parametrize("sent", CONNECTIONS)
def test_no_field_is_given_up_on_the_way(sent: bytes) -> None:
    """What Connection names, the next server drops, and the policy or the gateway may have wanted it there."""
    request = a_request((b"Connection", sent), (b"X-Key", b"acme"))
    rewrite_request(request, "good.test", None, looked_at=False)
    assert request.headers.get("connection") == CONNECTIONS[sent]
    assert request.headers["x-key"] == "acme"


def test_tenants() -> None:
    """To hosts where people sign in, the gateway says whom it lets sign in, and the client says nothing."""
    tenants = Tenants(google=("acme.test",))
    request = a_request((b"X-GoogApps-Allowed-Domains", b"evil.test"))
    rewrite_request(request, "mail.google.com", tenants, looked_at=False)
    assert request.headers["X-GoogApps-Allowed-Domains"] == "acme.test"


def test_response() -> None:
    """A client is not invited past the proxy."""
    response = tutils.tresp(headers=http.Headers([(b"Alt-Svc", b"h3"), (b"ETag", b"x")]))
    rewrite_response(response)
    assert dict(response.headers) == {"ETag": "x"}
