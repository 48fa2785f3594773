"""What all connections of a process share, and how many each client has open."""

import asyncio
import resource
import sys
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Protocol

from gateway.addresses import unmap
from gateway.proxy.authentication import Authenticator
from gateway.proxy.dial import Dialer
from gateway.proxy.roles import Judge, Settings
from gateway.proxy.sweeper import Sweeper
from gateway.proxy.tally import Tally
from gateway.proxy.uploads import Uploads
from gateway.request import Client, TlsHello


class Inspector(Protocol):
    """Takes connections over that have to be looked into."""

    def take(
        self,
        transport: asyncio.Transport,
        received: bytes,
        client: Client,
        standing: str | None,
        hello: TlsHello | None,
        done: Callable[[], None],
    ) -> None:
        """Go on with what was received: a plain HTTP request, or the ClientHello of an allowed tunnel.

        `standing` is what the identity of who opened the tunnel rested on then. Calls `done` when the connection is
        gone.
        """


class Desk:
    """What all connections of a process share."""

    def __init__(
        self,
        judge: Judge,
        settings: Settings,
        dialer: Dialer,
        inspector: Inspector,
        sweeper: Sweeper,
        authenticator: Authenticator,
        uploads: Uploads,
        tally: Tally | None = None,
    ) -> None:
        self.judge = judge
        self.tally = tally or Tally()
        self.settings = settings
        self.authenticator = authenticator
        self.dialer = dialer
        self.inspector = inspector
        self.sweeper = sweeper
        self.uploads = uploads
        self.loop = asyncio.get_running_loop()
        self.per_client: dict[Client, int] = {}
        """Open connections by address, from accepting to closing."""
        self.most, self.spare = _room(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        """Open connections of all clients that are served, and how many more are told so."""
        self.open = 0
        self.draining = False

    def enter(self, client: Client) -> int:
        """Count a connection in. Returns how many of that client were open already."""
        open_now = self.per_client.get(client, 0)
        self.per_client[client] = open_now + 1
        self.open += 1
        self.tally.connections += 1
        return open_now

    def too_many(self, client: Client, before: int) -> str:
        """Return why a client that was counted in is one too many; nothing if it is not.

        Args:
            before: how many of that client were open already.
        """
        if before >= self.settings().limits.connections_per_client:
            return f"{before} connections are open from {client.address}"
        if self.open > self.most:
            return f"{self.open - 1} connections are open, and there are file descriptors for {self.most}"
        return ""

    @property
    def has_room_for_words(self) -> bool:
        """Whether a client that is turned away can be told so, which takes a descriptor until it has read it."""
        return self.open <= self.most + self.spare

    def leave(self, client: Client) -> None:
        """Count a connection out."""
        left = self.per_client.pop(client, 0) - 1
        if left > 0:
            self.per_client[client] = left
        if left >= 0:
            self.open -= 1
            self.tally.left += 1


def _room(descriptors: int) -> tuple[int, int]:
    """Return how many clients there are descriptors for, two each, and how many of what is kept back may be used.

    Without descriptors the event loop closes new connections silently: nobody would know, and no line would tell.
    """
    if descriptors == resource.RLIM_INFINITY:
        return sys.maxsize, 0
    kept = min(2048, descriptors // 4)  # a whole backlog may be accepted at once
    return (descriptors - kept) // 2, kept // 2


NOBODY = Client(address=ip_address("0.0.0.0"))
"""A client before its address is known."""


@lru_cache(maxsize=4096)
def client_at(address: str) -> Client:
    """Return the client behind the address that a socket names."""
    return Client(address=unmap(ip_address(address.partition("%")[0])))
