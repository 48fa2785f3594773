"""A polite client of a proxy: opens a tunnel, uses one that is open, sends a plain request, again and again.

Run with the ports of the proxy, of an echo and of a web server behind it, and of one with TLS whose name the proxy
looks into: it also asks for that name and, every three seconds, for another one below it. It says `ready` once it
measures, stops when its input ends, and prints its figures as JSON: how many of each were tried, failed, and the
percentiles of their waits in milliseconds. At the same pace it asks a process that only echoes: what that one needs
is the machine's doing, not the proxy's.
"""

import json
import os
import select
import socket
import ssl
import sys
import time
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.selfcheck.hello import a_hello

NAME = "polite.test"
SEEN = "seen.test"
ADDRESS = "127.7.7.7"
PACE = 0.01
PATIENCE = 5.0
SELDOM = {"first": 3.0}
"""Seconds between steps that a polite client does not take in each round."""
FEWEST, LONGEST = 40, 20.0
"""Rounds that are measured even if the end comes sooner, and seconds after which it comes all the same."""
WARMING_UP = 8
"""Rounds that are not measured: each worker imports what only the first request needs."""
UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE
HELLO = a_hello(NAME.encode())


def connected(port: int) -> socket.socket:
    """Return a connection from the address of the polite client."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(PATIENCE)
    sock.bind((ADDRESS, 0))
    sock.connect(("127.0.0.1", port))
    return sock


def read(sock: socket.socket, size: int) -> bytes:
    """Return so many octets."""
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError(f"ended after {data!r}")
        data += piece
    return data


def exchange(sock: socket.socket, data: bytes) -> None:
    """Send octets, and wait until they are back."""
    sock.sendall(data)
    if read(sock, len(data)) != data:
        raise OSError("other octets came back")


def connect_to(sock: socket.socket, target: str) -> None:
    """Have the proxy open a tunnel."""
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    established = b"HTTP/1.1 200 Connection established\r\n\r\n"
    if read(sock, len(established)) != established:
        raise OSError("no tunnel")


def get(sock: socket.socket, url: str, target: str) -> None:
    """Send a request, and read the answer."""
    sock.sendall(f"GET {url} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    data = b""
    while not data.endswith(b"ok"):
        piece = sock.recv(4096)
        if not piece:
            raise OSError(f"ended after {data!r}")
        data += piece
    if not data.startswith(b"HTTP/1.1 200 "):
        raise OSError("refused")


def tunnel(proxy: int, echo: int) -> socket.socket:
    """Open a tunnel through the proxy, and use it once."""
    sock = connected(proxy)
    connect_to(sock, f"{NAME}:{echo}")
    exchange(sock, HELLO)
    return sock


def request(proxy: int, web: int) -> None:
    """Send a plain request, and read the answer."""
    target = f"{NAME}:{web}"
    with connected(proxy) as sock:
        get(sock, f"http://{target}/", target)


def inspected(proxy: int, web: int, name: str, *, asks: bool) -> None:
    """Open a tunnel that is looked into; with `asks`, send a request through it and read the answer."""
    target = f"{name}:{web}"
    with connected(proxy) as sock:
        connect_to(sock, target)
        with UNVERIFIED.wrap_socket(sock, server_hostname=name) as inside:
            if asks:
                get(inside, "/", target)


def echoing(listening: socket.socket) -> None:
    """Send back what comes on one connection at a time, for ever."""
    while True:
        sock, _ = listening.accept()
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)


def share(taken: list[float], percent: int) -> float:
    """Return a percentile in milliseconds: the longest wait that so many percent of all do not exceed."""
    return round(sorted(taken)[max(len(taken) * percent // 100 - 1, 0)] * 1000, 2) if taken else 0.0


def main() -> None:
    """Go on until the input ends."""
    proxy, echo, web, seen = (int(word) for word in sys.argv[1:5])
    listening = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if not child:
        echoing(listening)
    aside = listening.getsockname()[1]
    taken: dict[str, list[float]] = {"new": [], "open": [], "plain": [], "known": [], "first": [], "control": []}
    lost: list[str] = []
    kept: socket.socket | None = None
    names = count()

    def control() -> None:
        with connected(aside) as sock:
            exchange(sock, b"x")
            exchange(sock, HELLO)

    def use_open() -> None:
        nonlocal kept
        kept = kept or tunnel(proxy, echo)
        try:
            exchange(kept, HELLO)
        except OSError:
            kept = None
            raise

    steps = {
        "new": lambda: tunnel(proxy, echo).close(),
        "open": use_open,
        "plain": lambda: request(proxy, web),
        "known": lambda: inspected(proxy, seen, SEEN, asks=True),
        "first": lambda: inspected(proxy, seen, f"p{next(names):07d}.{SEEN}", asks=False),
        "control": control,
    }
    try:
        for _ in range(WARMING_UP):
            for name in steps.keys() - SELDOM.keys():
                steps[name]()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        ended, rounds, latest = False, 0, time.monotonic() + LONGEST
        due = dict.fromkeys(SELDOM, 0.0)
        while not ended or (rounds < FEWEST and time.monotonic() < latest):
            ended = ended or bool(select.select([sys.stdin], [], [], PACE)[0])
            rounds += 1
            for name, step in steps.items():
                began = time.monotonic()
                if began < due.get(name, 0.0):
                    continue
                due[name] = began + SELDOM.get(name, 0.0)
                try:
                    step()
                except OSError as error:
                    lost.append(f"{name}: {error}")
                taken[name].append(time.monotonic() - began)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    figures = {
        name: {"tried": len(times), **{f"p{each}": share(times, each) for each in (50, 90, 99, 100)}}
        for name, times in taken.items()
    }
    sys.stdout.write(json.dumps({"figures": figures, "lost": lost}) + "\n")


if __name__ == "__main__":
    main()
