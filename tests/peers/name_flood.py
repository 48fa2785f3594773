"""Clients who ask for ever new names as fast as they are let: tunnels from many addresses, a first flight in each.

Run with the port of the proxy, that of an origin, how many addresses and connections, the suffix of the names, and
`waits` (for an answer inside the tunnel) or `leaves` (as soon as all is sent); and, if they are not endless, how many
names there are. It goes on until its input ends, and prints as JSON how many were opened, answered inside the tunnel,
refused, left, and lost.
"""

import contextlib
import json
import selectors
import socket
import ssl
import sys

NAME = b"n0000000"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Client:
    """One connection at a time, always another."""

    def __init__(self, number: int, addresses: int) -> None:
        self.address = f"127.8.{number % addresses}.1"
        self.sock = socket.socket()
        self.received = b""

    def begin(self, proxy: int, octets: bytes) -> None:
        """Connect anew, and send all that is ever sent."""
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        self.sock.bind((self.address, 0))
        self.received = b""
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(("127.0.0.1", proxy))
        self.octets = octets


def first_flight(name: str) -> bytes:
    """Return the ClientHello of a real client."""
    context, outgoing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def main() -> None:
    """Go on until the input ends."""
    proxy, origin, addresses, connections = map(int, sys.argv[1:5])
    suffix, leaves = sys.argv[5].encode(), sys.argv[6] == "leaves"
    names = int(sys.argv[7]) if len(sys.argv) > 7 else sys.maxsize
    target = NAME + b"." + suffix + b":%d" % origin
    flight = (
        b"CONNECT "
        + target
        + b" HTTP/1.1\r\nHost: "
        + target
        + b"\r\n\r\n"
        + first_flight((NAME + b"." + suffix).decode())
    )
    told = {"opened": 0, "answered": 0, "refused": 0, "left": 0, "lost": 0}
    selector = selectors.EpollSelector()
    selector.register(sys.stdin, selectors.EVENT_READ, None)

    def begin(client: Client) -> None:
        told["opened"] += 1
        client.begin(proxy, flight.replace(NAME, b"n%07d" % (told["opened"] % names)))
        selector.register(client.sock, selectors.EVENT_WRITE, client)

    def end(client: Client, how: str) -> None:
        told[how] += 1
        selector.unregister(client.sock)
        client.sock.close()
        begin(client)

    for number in range(connections):
        begin(Client(number, addresses))
    ended = False
    while not ended:
        for key, events in selector.select():
            client = key.data
            if client is None:
                ended = True
                continue
            try:
                if events & selectors.EVENT_WRITE:
                    client.sock.send(client.octets)
                    if leaves:
                        end(client, "left")
                    else:
                        selector.modify(client.sock, selectors.EVENT_READ, client)
                    continue
                data = client.sock.recv(65536)
            except OSError:
                end(client, "lost")
                continue
            client.received += data
            inside = client.received[len(ESTABLISHED) :]
            if (
                not data
                or not client.received.startswith(ESTABLISHED[: len(client.received)])
                or inside[:1] == b"\x15"
            ):
                end(client, "refused")
            elif inside:
                end(client, "answered")
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
