"""Tests of `gateway.proxy.responses`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Match, Reason, Verdict
from gateway.proxy.responses import answer, clean, explain, render
from tests.builders import a_tunnel

LISTED = Decision(
    Verdict.DENY,
    Reason.LISTED,
    rule="threats",
    detail="bad.test is on the list urlhaus",
    matched=Match("urlhaus", "v1", 7, "bad.test"),
)


def test_denial() -> None:
    """A denial says what, why, by which rule and list, and the id to quote."""
    text = render(answer(LISTED, "0192-abc", a_tunnel("bad.test"))).decode()
    head, body = text.split("\r\n\r\n")
    lines = head.split("\r\n")
    assert lines[0] == "HTTP/1.1 403 Forbidden"
    assert "X-Gateway-Reason: listed" in lines
    assert "X-Gateway-Decision: 0192-abc" in lines
    assert "Connection: close" in lines
    assert f"Content-Length: {len(body)}" in lines
    status = next(line for line in lines if line.startswith("Proxy-Status: "))
    assert status == (
        "Proxy-Status: egress-gateway; error=http_request_denied; "
        'details="listed: bad.test is on the list urlhaus (rule threats)"'
    )
    assert body == (
        "The egress gateway denied bad.test:443: bad.test is on the list urlhaus (rule threats) (reason: listed). "
        "When asking about it, quote decision 0192-abc.\n"
    )


@pytest.mark.parametrize(
    ("reason", "status", "error"),
    [
        (Reason.DEFAULT_DENY, 403, "http_request_denied"),
        (Reason.INTERNAL_ERROR, 403, "http_request_denied"),
        (Reason.MALFORMED, 400, "http_request_error"),
        (Reason.NAME_UNRESOLVABLE, 502, "dns_error"),
        (Reason.UPSTREAM_FAILURE, 502, "destination_unavailable"),
        (Reason.RATE_LIMIT, 503, "connection_limit_reached"),
    ],
)
def test_status(reason: Reason, status: int, error: str) -> None:
    """Status and error type tell a denial from a mistake and from a failure."""
    reply = answer(Decision(Verdict.DENY, reason), "", None)
    assert reply.status == status
    assert f"error={error};" in dict(reply.fields)["Proxy-Status"]


def test_timeout() -> None:
    """A time-out is told from other failures."""
    reply = answer(Decision(Verdict.DENY, Reason.UPSTREAM_FAILURE), "", None, status=504)
    assert reply.status == 504
    assert "error=connection_timeout;" in dict(reply.fields)["Proxy-Status"]


def test_json() -> None:
    """Programs that ask for JSON get it."""
    reply = answer(LISTED, "0192-abc", a_tunnel("bad.test"), accept="text/html, application/json")
    assert dict(reply.fields)["Content-Type"] == "application/json"
    assert json.loads(reply.body) == {
        "denied": "bad.test:443",
        "reason": "listed",
        "why": "bad.test is on the list urlhaus (rule threats)",
        "rule": "threats",
        "decision": "0192-abc",
    }


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_explained(reason: Reason) -> None:
    """There is a phrase for every reason, also without details."""
    assert explain(Decision(Verdict.DENY, reason))


@given(st.text(max_size=200), st.text(max_size=50))
def test_hostile_text(detail: str, host: str) -> None:
    """No text breaks out of its field or its line."""
    decision = Decision(Verdict.DENY, Reason.MALFORMED, detail=detail)
    message = render(answer(decision, "id", a_tunnel(host)))
    head, body = message.split(b"\r\n\r\n", 1)
    assert len(head.split(b"\r\n")) == 8
    assert all(0x20 <= octet <= 0x7E for octet in body[:-1])
    assert clean(detail).isprintable() or not detail
