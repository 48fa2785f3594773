"""What to do when a port cannot be had: one advice for the supervisor, the resolver and the proxy."""

import errno
import socket


def remedy(error: OSError, kind: socket.SocketKind, port: int) -> str:
    """Return what is in the way of binding a port, and what to do about it.

    >>> remedy(OSError(errno.EADDRINUSE, "Address already in use"), socket.SOCK_STREAM, 3128)
    "the port is in use; find the program with 'ss -ltnp sport = :3128', or listen elsewhere"
    """
    if error.errno == errno.EADDRINUSE:
        tool = "ss -lunp" if kind is socket.SOCK_DGRAM else "ss -ltnp"
        return f"the port is in use; find the program with '{tool} sport = :{port}', or listen elsewhere"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 need CAP_NET_BIND_SERVICE (or root); or listen on a higher port"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return "this machine does not have that address; see 'ip address'"
    return error.strerror or str(error)
