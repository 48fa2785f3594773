"""One name, four proofs: CONNECT host, SNI and every Host or `:authority` have to agree.

Pure: no I/O, no clock. (The fourth proof, the dialled address, is the `Dial` stage.) Each disagreement has its own
reason, because each is a known way round a filter: domain fronting (ATT&CK T1090.004), smuggling, second names.
"""

from gateway.authority import split_authority
from gateway.decision import Reason
from gateway.names import parse_host
from gateway.request import Flaw, HttpRequest, TlsHello

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def sni_flaw(hello: TlsHello) -> Flaw | None:
    """Compare the server name of a ClientHello with the CONNECT host."""
    host, names = hello.host, hello.server_names
    if not isinstance(host, str):
        # RFC 6066 section 3: no literal addresses in SNI. A name here would be a second destination.
        return Flaw(Reason.SNI_MISMATCH, f"SNI names {names[0]!r} in a tunnel to {host}") if names else None
    if not names:
        return Flaw(Reason.SNI_MISSING, f"no server name in the ClientHello, so nothing proves it is for {host}")
    if len(names) > 1:
        return Flaw(Reason.SNI_MISMATCH, "several server names in one ClientHello")
    if names[0] == host:  # as nearly always: no need to read what is equal to what was read
        return None
    try:
        name = parse_host(names[0])
    except ValueError as error:
        return Flaw(Reason.SNI_MISMATCH, f"server name {names[0]!r} is no host name: {error}")
    if name != host:
        return Flaw(Reason.SNI_MISMATCH, f"SNI {name} in a tunnel to {host}")
    return None


def http_flaw(request: HttpRequest) -> Flaw | None:
    """Compare every Host and `:authority` with the destination, and the destination with the tunnel."""
    if request.method == "CONNECT":
        return Flaw(Reason.PROTOCOL, "CONNECT inside a request")
    default = _DEFAULT_PORTS.get(request.scheme)
    if default is None:
        return Flaw(Reason.PROTOCOL, f"scheme {request.scheme!r}")
    if not request.authorities:
        return Flaw(Reason.HOST_MISMATCH, "no Host field")
    for authority in request.authorities:
        if authority == request.host and request.port == default:  # as nearly always
            continue
        try:
            named = split_authority(authority, default)
        except ValueError as error:
            return Flaw(Reason.HOST_MISMATCH, f"Host {authority!r} {error}")
        if named != (request.host, request.port):
            return Flaw(Reason.HOST_MISMATCH, f"Host {authority!r} in a request to {request.host}:{request.port}")
    hello = request.hello
    if hello is not None and (hello.tunnel.host != request.host or hello.tunnel.port != request.port):
        return Flaw(
            Reason.HOST_MISMATCH,
            f"request to {request.host}:{request.port} in a tunnel to {hello.host}:{hello.port}",
        )
    return None
