"""What is changed in the heads of messages that pass: what is not meant for the other side, or must not reach it."""

from mitmproxy import http

from gateway.filetypes import readable_codings
from gateway.tenants import OWN, Tenants

# RFC 9110 section 7.6.1: meant for the gateway, not for the origin. Credentials for the one are not for the other.
_HOP_BY_HOP = ("proxy-authorization", "proxy-connection", "keep-alive")
_OPTIONS = frozenset(("close", "keep-alive", "te", "upgrade"))
"""What Connection may say about the connection itself. Whatever else is in it is the name of a field that the next
server is to drop: one that a rule asked for, say, or that says which tenants may be signed in to."""


def rewrite_request(request: http.Request, host: str, tenants: Tenants | None, *, looked_at: bool) -> None:
    """Change the head of an allowed request to `host`. `looked_at`: a rule wants to see how its answer begins."""
    headers = request.headers
    for name in _HOP_BY_HOP:
        headers.pop(name, None)
    if said := headers.get_all("connection"):
        options = [option.strip() for value in said for option in value.split(",")]
        kept = [option for option in options if option.lower() in _OPTIONS]
        if not kept:
            headers.pop("connection")
        elif kept != options:
            headers["connection"] = ", ".join(kept)
    if headers.get("upgrade", "").lower() != "websocket":
        # Any other protocol, h2c above all, would go on unseen. An intermediary may leave the offer out (RFC 9110
        # section 7.8); the server then answers in HTTP/1.1.
        headers.pop("upgrade", None)
        headers.pop("http2-settings", None)
    if tenants is not None and (restrictions := tenants.fields(host)):
        for name in OWN:
            headers.pop(name, None)
        for name, value in restrictions:
            headers[name] = value
    if looked_at:
        # A server may ignore a range (RFC 9110 section 14.2), and a type can be told by a beginning alone.
        for name in ("range", "if-range"):
            headers.pop(name, None)
        if offered := headers.get_all("accept-encoding"):
            headers["accept-encoding"] = readable_codings(offered)


def rewrite_response(response: http.Response) -> None:
    """Change the head of an answer that the client gets."""
    # An offer to go on over QUIC, past every proxy (RFC 7838).
    response.headers.pop("alt-svc", None)
