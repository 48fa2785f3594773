"""From a flow to what the policy judges: the request, and the answer to it.

Reads flows and changes none.
"""

import re

from mitmproxy import http
from mitmproxy.net.http.http1 import expected_http_body_size

from addons.visit import Passage, Visit
from gateway.addresses import IPAddress, parse_address
from gateway.filetypes import UNREADABLE
from gateway.names import parse_host
from gateway.proxy.layers import EMPTY, ENDED
from gateway.request import Dial, Host, HttpRequest, HttpResponse

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def to_request(flow: http.HTTPFlow, visit: Visit) -> HttpRequest:
    """Return the request of a flow as the policy sees it.

    Raises:
        ValueError: mitmproxy made something of it that is no host.
    """
    request = flow.request
    headers = tuple(
        (name.decode("ascii", "backslashreplace").lower(), value.decode("ascii", "backslashreplace"))
        for name, value in request.headers.fields
    )
    authorities = [value for name, value in headers if name == "host"]
    if authority := request.data.authority:  # as sent: mitmproxy would write international names out
        authorities.insert(0, authority.decode("ascii", "backslashreplace"))
    return HttpRequest(
        client=visit.client,
        host=host_of(request.host),
        port=request.port,
        scheme=request.scheme,
        method=request.method,
        path=request.path,
        authorities=tuple(authorities),
        headers=headers,
        user_agent=" ".join(value for name, value in headers if name == "user-agent"),
        body_length=_body_length(flow),
        hello=visit.hello,
    )


def blank_request(visit: Visit) -> HttpRequest:
    """Return the request that could not be read: its tunnel is all that is known."""
    host: Host = visit.hello.host if visit.hello else ""
    port = visit.hello.port if visit.hello else 0
    scheme = "https" if visit.hello else "http"
    return HttpRequest(
        client=visit.client, host=host, port=port, scheme=scheme, method="", path="", hello=visit.hello
    )


def to_response(flow: http.HTTPFlow, visit: Visit, passage: Passage, response: http.Response) -> HttpResponse:
    """Return an answer as the policy sees it, as far as it is known.

    Raises:
        LookupError: nobody knows where it came from.
    """
    address = server_address(flow, visit, passage)
    if address is None:
        raise LookupError("an answer from nowhere")
    if response.status_code == 101:  # whatever comes now, it is no file that could be looked at
        found: frozenset[str] | None = frozenset((UNREADABLE,))
    else:
        found = passage.look.formats() if passage.look is not None else None
    return HttpResponse(
        dial=Dial(origin=passage.request, address=address, chain=passage.chain),
        content=response.status_code == 101 or not flow.metadata.get(EMPTY),
        media_types=tuple(response.headers.get_all("content-type")),
        file_types=found,
    )


def server_address(flow: http.HTTPFlow, visit: Visit, passage: Passage) -> IPAddress | None:
    """Return where a request was sent."""
    connected = visit.connected.get(flow.server_conn.id)
    return connected[1] if connected is not None else next(iter(visit.peers(passage.place)), None)


def request_head(request: HttpRequest) -> int:
    """Return the octets of a request's head as HTTP/1.1 writes it."""
    octets = len(request.method) + len(request.path) + len("  HTTP/1.1\r\n\r\n")
    octets += sum([len(name) + len(value) + 4 for name, value in request.headers])
    if request.authorities and not any(name == "host" for name, _ in request.headers):
        octets += len("Host: \r\n") + len(request.authorities[0])  # what HTTP/2 has in its place
    return octets


def answer_head(response: http.Response) -> int:
    """Return the octets of an answer's head as HTTP/1.1 writes it."""
    return len("HTTP/1.1 200 \r\n\r\n") + len(response.data.reason) + fields_length(response.headers)


def fields_length(headers: http.Headers) -> int:
    """Return the octets of fields, or trailers, as HTTP/1.1 writes them."""
    return sum([len(name) + len(value) + 4 for name, value in headers.fields])


def announced_length(flow: http.HTTPFlow, response: http.Response) -> int:
    """Return the length of an answer's body as announced; 0 when it is not."""
    if flow.metadata.get(EMPTY):
        return 0
    size = expected_http_body_size(flow.request, response)
    return size if size is not None and size >= 0 else 0


def codings_of(response: http.Response) -> list[str]:
    """Return the codings of an answer's body that are left when it is no longer in chunks, the outermost last."""
    transfer = (coding for value in response.headers.get_all("transfer-encoding") for coding in value.split(","))
    kept = [coding for coding in transfer if coding.strip().lower() != "chunked"]
    return [*response.headers.get_all("content-encoding"), *kept]


def strange_field(headers: http.Headers) -> str | None:
    """Return the name of a field that RFC 9110 section 5.5 does not allow, or None."""
    for name, value in headers.fields:
        if _CONTROL(value) or _CONTROL(name):
            return name.decode("ascii", "backslashreplace")
    return None


def host_of(text: str) -> Host:
    """Read the host of a flow: mitmproxy leaves out the brackets of IPv6."""
    return parse_address(text) or parse_host(text)


def _body_length(flow: http.HTTPFlow) -> int | None:
    if flow.metadata.get(ENDED):
        return 0
    size = expected_http_body_size(flow.request)
    return size if size is not None and size >= 0 else None
