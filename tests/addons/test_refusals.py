"""Tests of `addons.refusals`: the answer that a refused flow gets."""

import json

import pytest
from mitmproxy import http

from addons.refusals import answer_of, refuse
from gateway.decision import Decision, Reason, Verdict
from gateway.proxy.case import Refusal
from gateway.proxy.layers import REFUSED
from tests.addons.flows import a_flow
from tests.builders import a_tunnel

DENIED = Refusal(a_tunnel(), Decision(Verdict.DENY, Reason.RULE, rule="no"), "id-1")


@pytest.mark.parametrize(("version", "closes"), [("HTTP/1.1", True), ("HTTP/2.0", False)])
def test_refused(version: str, closes: bool) -> None:
    """A refused flow has the gateway's answer and streams nothing; in HTTP/1 its connection ends with it."""
    flow = a_flow()
    flow.request.http_version = version
    flow.request.stream = True
    refuse(flow, DENIED)
    assert flow.response is not None
    assert (flow.response.status_code, flow.response.headers["X-Gateway-Reason"]) == (403, "rule")
    assert ("Connection" in flow.response.headers) == closes
    assert flow.request.stream is False
    assert flow.metadata[REFUSED]


def test_accept() -> None:
    """Every Accept field of the request counts."""
    flow = a_flow(headers=http.Headers([(b"Accept", b"application/json"), (b"Accept", b"x/y")]))
    refuse(flow, DENIED)
    assert flow.response is not None
    assert json.loads(flow.response.content or b"")["decision"] == "id-1"
    assert b"(reason: rule)" in answer_of(DENIED).body
