"""How many connections there may be, over TCP, DoT and DoH together: one client cannot take them all.

Pure: no I/O, no clock.
"""

from collections import Counter

from gateway.addresses import client_key, parse_address

MAX_CONNECTIONS = 4096
MAX_CONNECTIONS_PER_CLIENT = 128


class Admission:
    """Counts open connections. Those that are still at their TLS handshake count as well."""

    def __init__(self, total: int = MAX_CONNECTIONS, per_client: int = MAX_CONNECTIONS_PER_CLIENT) -> None:
        self._total = total
        self._per_client = per_client
        self._open: Counter[str] = Counter()
        self._count = 0

    def enter(self, peer: str) -> bool:
        """Say whether a connection of this client may stay; then `leave` has to be called at its end."""
        client = _client(peer)
        if self._count >= self._total or self._open[client] >= self._per_client:
            return False
        self._count += 1
        self._open[client] += 1
        return True

    def leave(self, peer: str) -> None:
        """Count a connection off."""
        client = _client(peer)
        self._count -= 1
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


def _client(peer: str) -> str:
    """Return whose share a connection is."""
    address = parse_address(peer.partition("%")[0])
    return peer if address is None else client_key(address)
