"""UDP on every address of a host: an answer has to come from the address that was asked.

On a socket bound to 0.0.0.0 or [::] the system would choose the sender by the route to the client, and a client drops
what another address than the one it asked says. So each datagram is read with the address that it was sent to
(IP_PKTINFO, RFC 3542) and answered with that as its sender. That costs 1.5 us a query more (6.4 to 7.9 us, local
records, Python 3.13), which is why a socket bound to one address does without.
"""

import socket
import struct
from functools import partial

from gateway.dns.listeners import DRAIN, UdpListener
from gateway.dns.replies import Miss
from gateway.dns.resolver import Resolver
from gateway.dns.transfer import Transfers

_RECEIVE = 4096
_IP_PKTINFO = 8
"""From linux/in.h: Python has no name for it before 3.14."""
_V4 = struct.Struct("=I4s4s")
"""`in_pktinfo`: interface, address to answer from, address in the header."""
_V6 = struct.Struct("=16sI")
"""`in6_pktinfo`: address, interface."""
_ROOM = socket.CMSG_SPACE(_V6.size)  # the longer of the two

type _Control = list[tuple[int, int, bytes]]


def is_wildcard(sock: socket.socket) -> bool:
    """Say whether a bound socket hears every address of the host.

    >>> with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    ...     sock.bind(("127.0.0.1", 0))
    ...     is_wildcard(sock)
    False
    """
    return sock.getsockname()[0] in ("0.0.0.0", "::")


class WildcardListener(UdpListener):
    """Serves a UDP socket that hears every address of the host."""

    def __init__(self, sock: socket.socket, resolver: Resolver, transfers: Transfers | None = None) -> None:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        super().__init__(sock, resolver, transfers)

    def _drain(self) -> None:
        receive, answer = self._sock.recvmsg, self._burst()
        for _ in range(DRAIN):
            try:
                data, control, _, peer = receive(_RECEIVE, _ROOM)
            except BlockingIOError:
                return
            except OSError:
                continue  # what the network says about an answer that was sent before (ICMP)
            reply = answer(peer[0], data)
            if reply is None or not peer[1]:  # nothing can be sent to port 0
                continue
            sender = _sender(control)
            if isinstance(reply, Miss):
                self._later(reply, partial(self._reply_from, peer, sender))
            else:
                self._send(reply, peer, sender)

    def _reply_from(self, peer: tuple[str, int], sender: _Control, reply: bytes | None) -> None:
        if self._is_awaited() and reply is not None:
            self._send(reply, peer, sender)

    def _send(self, reply: bytes, peer: tuple[str, int], sender: _Control) -> None:
        try:
            self._sock.sendmsg([reply], sender, 0, peer)
        except OSError:
            return  # the client is gone, or the buffer is full: UDP may lose it, and the client asks again


def _sender(control: _Control) -> _Control:
    """Return what makes an answer leave from the address that was asked. The route still chooses the interface, but
    for link-local addresses, which mean nothing without one.
    """
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, address, _ = _V4.unpack(data[: _V4.size])
            return [(level, kind, _V4.pack(0, address, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            address, interface = _V6.unpack(data[: _V6.size])
            is_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
            return [(level, kind, _V6.pack(address, interface if is_local else 0))]
    return []
