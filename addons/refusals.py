"""How a flow is refused: its response becomes the gateway's own, and nothing of the flow goes on."""

from mitmproxy import http

from gateway.proxy.case import Refusal
from gateway.proxy.layers import REFUSED
from gateway.proxy.responses import Answer, answer


def answer_of(refusal: Refusal, accept: str = "") -> Answer:
    """Return the words for a refusal, in a form that the client accepts."""
    return answer(refusal.decision, refusal.ledger_id, refusal.request, status=refusal.status, accept=accept)


def refuse(flow: http.HTTPFlow, refusal: Refusal) -> None:
    """Answer a flow with a refusal."""
    set_response(flow, answer_of(refusal, ",".join(flow.request.headers.get_all("accept"))))


def set_response(flow: http.HTTPFlow, reply: Answer) -> None:
    """Answer a flow in the gateway's words, and let nothing of it go on."""
    fields = list(reply.fields)
    if not flow.request.is_http2:
        fields.append(("Connection", "close"))
    headers = http.Headers([(name.encode("ascii"), value.encode("ascii")) for name, value in fields])
    response = http.Response.make(reply.status, reply.body)
    response.reason = reply.phrase
    response.headers = headers
    if "content-length" not in headers:
        headers["Content-Length"] = str(len(reply.body))
    flow.request.stream = False
    flow.response = response
    flow.metadata[REFUSED] = True
