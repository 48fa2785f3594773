"""What is changed in the heads of messages that pass: what is not meant for the other side, or must not reach it."""

from mitmproxy import http

from gateway.filetypes import readable_codings
from gateway.tenants import OWN, Tenants

# RFC 9110 section 7.6.1: meant for the gateway, not for the origin. Credentials for the one are not for the other.
_HOP_BY_HOP = frozenset((b"proxy-authorization", b"proxy-connection", b"keep-alive"))
_OPTIONS = frozenset(("close", "keep-alive", "te", "upgrade"))
"""What Connection may say about the connection itself. Whatever else is in it is the name of a field that the next
server is to drop: one that a rule asked for, say, or that says which tenants may be signed in to."""
# Any other protocol, h2c above all, would go on unseen. An intermediary may leave the offer out (RFC 9110 section
# 7.8); the server then answers in HTTP/1.1.
_OTHER_PROTOCOLS = frozenset((b"upgrade", b"http2-settings"))
_RANGES = frozenset((b"range", b"if-range"))
_ALT_SVC = frozenset((b"alt-svc",))
_OWN = frozenset(name.lower().encode("ascii") for name in OWN)


def leave_out(headers: http.Headers, names: frozenset[bytes]) -> None:
    """Remove fields by their names in lower case."""
    kept = tuple([field for field in headers.fields if field[0].lower() not in names])
    if len(kept) < len(headers.fields):
        headers.fields = kept


def rewrite_request(request: http.Request, host: str, tenants: Tenants | None, *, looked_at: bool) -> None:
    """Change the head of an allowed request to `host`. `looked_at`: a rule wants to see how its answer begins."""
    headers = request.headers
    websocket = headers.get("upgrade", "").lower() == "websocket"
    leave_out(headers, _HOP_BY_HOP if websocket else _HOP_BY_HOP | _OTHER_PROTOCOLS)
    if said := headers.get_all("connection"):
        options = [option.strip() for value in said for option in value.split(",")]
        kept = [option for option in options if option.lower() in _OPTIONS]
        if not kept:
            headers.pop("connection")
        elif kept != options:
            headers["connection"] = ", ".join(kept)
    if tenants is not None and (restrictions := tenants.fields(host)):
        leave_out(headers, _OWN)
        for name, value in restrictions:
            headers[name] = value
    if looked_at:
        # A server may ignore a range (RFC 9110 section 14.2), and a type can be told by a beginning alone.
        leave_out(headers, _RANGES)
        if offered := headers.get_all("accept-encoding"):
            headers["accept-encoding"] = readable_codings(offered)


def rewrite_response(response: http.Response) -> None:
    """Change the head of an answer that the client gets."""
    # An offer to go on over QUIC, past every proxy (RFC 7838).
    leave_out(response.headers, _ALT_SVC)
