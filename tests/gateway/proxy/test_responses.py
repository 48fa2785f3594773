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
    assert lines[0] == "HTTP/1.1 403 Forbidden (listed)"
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
    reply = answer(LISTED, "0192-abc", a_tunnel("bad.test"), accept="text/html;q=0.9, application/json")
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
    assert len(head.split(b"\r\n")) == 10
    assert all(0x20 <= octet <= 0x7E for octet in body[:-1])
    assert clean(detail).isprintable() or not detail


def test_page() -> None:
    """Browsers get a page that says the same, runs nothing and fetches nothing."""
    reply = answer(LISTED, "0192-abc", a_tunnel("bad.test"), accept="text/html,application/xml;q=0.9,*/*;q=0.8")
    fields = dict(reply.fields)
    assert fields["Content-Type"] == "text/html; charset=us-ascii"
    assert fields["Content-Security-Policy"].startswith("default-src 'none';")
    text = reply.body.decode()
    for told in (
        "bad.test:443",
        "listed",
        "threats",
        "urlhaus, line 7",
        "0192-abc",
        "Why: bad.test is on the list",
    ):
        assert told in text
    assert "http" not in text


@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*"])
def test_markup_of_others(accept: str) -> None:
    """Nothing that came from the network is markup in an answer, in whatever form."""
    decision = Decision(
        Verdict.DENY, Reason.HOST_MISMATCH, detail="Host '<script>alert(1)</script>\"&amp;' in a CONNECT"
    )
    reply = answer(decision, '"><img src=x>', a_tunnel("bad.test"), accept=accept)
    if accept == "text/html":
        assert b"<script" not in reply.body
        assert b"<img" not in reply.body
        assert b"&lt;script&gt;alert(1)&lt;/script&gt;&quot;&amp;amp;" in reply.body
    else:
        assert "html" not in dict(reply.fields)["Content-Type"]
    assert dict(reply.fields)["X-Content-Type-Options"] == "nosniff"


def test_head() -> None:
    """To HEAD, the answer is its head alone."""
    reply = answer(LISTED, "0192-abc", a_tunnel("bad.test"))
    assert render(reply).startswith(render(reply, head_only=True))
    assert render(reply, head_only=True).endswith(b"\r\n\r\n")


def test_challenge() -> None:
    """407 is for what is to be proven, and comes with the challenge; no denial by policy is a 407."""
    for reason in Reason:
        reply = answer(Decision(Verdict.DENY, reason), "", None)
        assert (reply.status == 407) == (reason in (Reason.AUTH_REQUIRED, Reason.AUTH_FAILED))
        assert (reply.status == 407) == ("Proxy-Authenticate" in dict(reply.fields))
