"""Clients who connect as fast as they can, from many addresses, and ask for nothing that could be answered.

Run with the port of the proxy, how many addresses and connections at a time, and `closes` (at once), `halves` (sends
half a request head, and closes) or `stays` (sends that half, and keeps the connection). It goes on until its input
ends, or it has as many connections as it may, and prints as JSON how many were opened, refused with a word, and lost.
"""

import contextlib
import json
import select
import socket
import sys
from collections import deque

HALF = b"GET http://seen.test/ HTTP/1.1\r\nHost: seen.test\r\nX-Half: "
ROUND = 32
"""Connections begun between looks at whether to go on."""


def begin(proxy: int, address: str) -> socket.socket:
    """Return a connection that is being made."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    sock.bind((address, 0))
    with contextlib.suppress(BlockingIOError):
        sock.connect(("127.0.0.1", proxy))
    return sock


def main() -> None:
    """Go on until the input ends."""
    proxy, addresses, most = map(int, sys.argv[1:4])
    what = sys.argv[4]
    told = {"opened": 0, "refused": 0, "lost": 0}
    kept: deque[socket.socket] = deque()

    def end(sock: socket.socket) -> None:
        try:
            told["refused"] += sock.recv(4096).startswith(b"HTTP/1.1 503 ")
        except BlockingIOError:
            pass
        except OSError:
            told["lost"] += 1
        sock.close()

    ended = False
    while not ended:
        full = what == "stays" and len(kept) >= most
        ended = bool(select.select([sys.stdin], [], [], 0.1 if full else 0)[0])
        for _ in range(0 if full else ROUND):
            try:
                sock = begin(proxy, f"127.8.{told['opened'] % addresses}.1")
            except OSError:  # no port is left of that address
                told["lost"] += 1
                continue
            told["opened"] += 1
            if what == "closes":
                sock.close()
                continue
            with contextlib.suppress(OSError):
                sock.send(HALF)
            kept.append(sock)
            if what == "halves" and len(kept) > most:
                end(kept.popleft())
    while kept:
        end(kept.popleft())
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
