"""Ports for programs that have to be told theirs."""

import secrets
import socket

_LOW, _HIGH = 10_000, 32_000
"""Below the ports that the system gives to whoever wants just any (from 32768 on Linux): many tests run at once, and
nobody takes one of these between the choice and the program's start."""


def free_port() -> int:
    """Return a loopback port that is free for UDP and TCP."""
    for _ in range(100):
        place = ("127.0.0.1", _LOW + secrets.randbelow(_HIGH - _LOW))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind(place)
                tcp.bind(place)
            except OSError:
                continue
            return place[1]
    raise AssertionError("no port that is free for both UDP and TCP")
