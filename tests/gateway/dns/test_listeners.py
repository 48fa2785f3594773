"""Tests for gateway.dns.listeners: binding. What listeners do with traffic is in test_server.py."""

import socket

import pytest

from gateway.dns.listeners import ListenError, bind
from gateway.dns.settings import parse_endpoint


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_a_port_in_use_is_told(scheme: str) -> None:
    """The error names the address, the cause and what to do."""
    kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if scheme == "tcp":
            other.listen()
        place = parse_endpoint(f"{scheme}://127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(ListenError, match=rf"{place}: the port is in use; .*listen elsewhere"):
            bind(place)


def test_an_address_of_somebody_else_is_told() -> None:
    """An address that this host does not have is named."""
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: this machine does not have that address"):
        bind(parse_endpoint("udp://192.0.2.1:0"))


def test_a_privileged_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing for a port below 1024 is named."""

    class Unprivileged(socket.socket):
        def bind(self, _address: object, /) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Unprivileged)
    with pytest.raises(ListenError, match="CAP_NET_BIND_SERVICE"):
        bind(parse_endpoint("udp://127.0.0.1:53"))


def test_workers_share_a_port() -> None:
    """With `reuse_port` several sockets have the same address."""
    first = bind(parse_endpoint("udp://127.0.0.1:0"), reuse_port=True)
    second = bind(parse_endpoint(f"udp://127.0.0.1:{first.getsockname()[1]}"), reuse_port=True)
    first.close()
    second.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_answers_are_never_cut_into_fragments(address: str) -> None:
    """Linux is told to send datagrams whole and to pay no heed to ICMP."""
    with bind(parse_endpoint(f"udp://{address}:0")) as sock:
        if sock.family == socket.AF_INET:
            ip_mtu_discover, ip_pmtudisc_probe = 10, 3
            assert sock.getsockopt(socket.IPPROTO_IP, ip_mtu_discover) == ip_pmtudisc_probe
        else:
            ipv6_mtu_discover, ipv6_pmtudisc_probe = 23, 3
            assert sock.getsockopt(socket.IPPROTO_IPV6, ipv6_mtu_discover) == ipv6_pmtudisc_probe
