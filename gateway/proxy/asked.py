"""From what was read to the request that the policy judges.

Pure: no I/O, no clock.
"""

from collections.abc import Collection

from gateway.addresses import IPAddress
from gateway.decision import Reason
from gateway.memo import Memo
from gateway.proxy.clienthello import REMEMBERED_HELLO, Hello
from gateway.proxy.fingerprint import ja4, tool_of
from gateway.proxy.head import REMEMBERED_HEAD, Head
from gateway.request import Client, Flaw, HttpRequest, TlsHello, Tunnel

_KEPT = 1024
"""Requests remembered. A program that connects again says the same: with the same object to ask about, whatever is
remembered of it is found by its identity. Of heads and hellos only those that their readers remember come again as
the same objects; longer ones would only take memory."""
_LONG = 256
_tunnels = Memo[tuple[Client, int], tuple[Head, Tunnel]](_KEPT)
_hellos = Memo[tuple[int, int], tuple[Tunnel, Hello, TlsHello]](_KEPT)
# Both are found by ids, which are used again once their objects are gone; so the objects are kept with what was made.


def tunnel_request(client: Client, head: Head) -> Tunnel:
    """Return a CONNECT as the policy sees it."""
    if head.length > REMEMBERED_HEAD or client.certificate is not None:
        return tunnel_request_to(client, head, ())
    key = client, id(head)
    known = _tunnels.get(key)
    if known is None:
        known = _tunnels.keep(key, (head, tunnel_request_to(client, head, ())))
    return known[1]


def tunnel_request_to(client: Client, head: Head, own: Collection[str]) -> Tunnel:
    """Return a CONNECT as the policy sees it. `own` are authorities of the gateway itself."""
    assert head.host is not None
    return Tunnel(
        client=client,
        host=head.host,
        port=head.port,
        user_agent=head.user_agent,
        flaw=host_flaw(head.authority, head.values("host"), own),
    )


def hello_request(tunnel: Tunnel, hello: Hello) -> TlsHello:
    """Return the ClientHello of a tunnel as the policy sees it."""
    if hello.octets > REMEMBERED_HELLO or len(tunnel.user_agent) > _LONG:
        return _hello_request(tunnel, hello)
    key = id(tunnel), id(hello)
    known = _hellos.get(key)
    if known is None:
        known = _hellos.keep(key, (tunnel, hello, _hello_request(tunnel, hello)))
    return known[2]


def _hello_request(tunnel: Tunnel, hello: Hello) -> TlsHello:
    fingerprint = ja4(hello)
    return TlsHello(
        tunnel=tunnel,
        server_names=hello.server_names,
        alpn=tuple([name.decode("ascii", "backslashreplace") for name in hello.alpn]),
        ech=hello.ech,
        ja4=fingerprint,
        tool=tool_of(fingerprint),
    )


def plain_request(client: Client, head: Head) -> HttpRequest:
    """Return a plain HTTP request as the policy sees it."""
    assert head.host is not None
    return HttpRequest(
        client=client,
        host=head.host,
        port=head.port,
        scheme="http",
        method=head.method,
        path=head.path,
        authorities=(head.authority, *head.values("host")),
        headers=head.fields,
        user_agent=head.user_agent,
        body_length=head.body_length,
    )


def own_authorities(address: IPAddress, port: int) -> tuple[str, ...]:
    """Return how a client may name the place that it is connected to."""
    place = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    return (place, f"localhost:{port}") if address.is_loopback else (place,)


def host_flaw(authority: str, values: list[str], own: Collection[str] = ()) -> Flaw | None:
    """Compare the Host fields of a CONNECT with its target (RFC 9110 section 7.2).

    Clients send the target with its port, without it, or nothing; another host it must not be. Node's own http names
    the proxy, which is harmless: where the tunnel leads, the target says alone.
    """
    target = authority.lower()
    for value in values:
        if value.lower() not in (target, target.rpartition(":")[0], *own):
            return Flaw(Reason.HOST_MISMATCH, f"Host {value[:300]!r} in a CONNECT to {authority}")
    return None
