"""A polite client: asks one question over UDP again and again, and measures how long the answers take.

Run with the port and the query in hexadecimal; it stops when its input ends, and prints its figures as JSON. At the
same pace it asks a process that only echoes: what that one needs is the machine's doing, not the server's.
"""

import json
import os
import select
import socket
import sys
import time

PACE = 0.004
PATIENCE = 1.0


def echo(sock: socket.socket) -> None:
    """Send back what comes, for ever."""
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(data, peer)


def ask(sock: socket.socket, query: bytes) -> float | None:
    """Return the seconds until the answer; None if there was none."""
    start = time.monotonic()
    sock.send(query)
    while (left := start + PATIENCE - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0] and sock.recv(4096)[:2] == query[:2]:
            return time.monotonic() - start
    return None


def share(taken: list[float], percent: int) -> float:
    """Return a percentile in milliseconds."""
    return round(sorted(taken)[min(len(taken) * percent // 100, len(taken) - 1)] * 1000, 2)


def main() -> None:
    """Ask until the input ends."""
    port, query = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    control.bind(("127.0.0.1", 0))
    child = os.fork()
    if not child:
        echo(control)
    sockets: list[socket.socket] = []
    for place in (port, control.getsockname()[1]):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.7.7.7", 0))
        sock.connect(("127.0.0.1", place))
        sockets.append(sock)
    taken: tuple[list[float], list[float]] = ([], [])
    lost = number = 0
    try:
        while not select.select([sys.stdin], [], [], PACE)[0]:
            number = number % 65535 + 1
            packet = number.to_bytes(2, "big") + query[2:]
            for sock, times in zip(sockets, taken, strict=True):
                found = ask(sock, packet)
                if found is not None:
                    times.append(found)
                elif sock is sockets[0]:
                    lost += 1
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    figures = {"asked": len(taken[0]), "lost": lost, "control": share(taken[1], 99)}
    figures |= {f"p{percent}": share(taken[0], percent) for percent in (50, 99, 100)}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
