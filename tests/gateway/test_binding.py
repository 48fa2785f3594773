"""What is said when a port cannot be had."""

import errno
import os
import socket

import pytest

from gateway.binding import remedy


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (errno.EADDRINUSE, socket.SOCK_STREAM, "'ss -ltnp sport = :53'"),
        (errno.EADDRINUSE, socket.SOCK_DGRAM, "'ss -lunp sport = :53'"),
        (errno.EACCES, socket.SOCK_DGRAM, "CAP_NET_BIND_SERVICE"),
        (errno.EPERM, socket.SOCK_STREAM, "CAP_NET_BIND_SERVICE"),
        (errno.EADDRNOTAVAIL, socket.SOCK_STREAM, "does not have that address"),
        (errno.EAFNOSUPPORT, socket.SOCK_STREAM, "does not have that address"),
        (errno.ENOMEM, socket.SOCK_STREAM, "Cannot allocate memory"),
    ],
    ids=["TCP in use", "UDP in use", "refused", "forbidden", "no such address", "no such family", "anything else"],
)
def test_what_to_do(code: int, kind: socket.SocketKind, said: str) -> None:
    """Each cause has its own way out, in one line."""
    told = remedy(OSError(code, os.strerror(code)), kind, 53)
    assert said in told
    assert "\n" not in told
