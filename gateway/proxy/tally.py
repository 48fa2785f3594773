"""What the proxy of one process has counted since it began: plain numbers that somebody reads now and then.

Pure: no I/O, no clock. Requests and what they moved are counted where their end is recorded, `gateway.ledger.tally`.
"""

from collections.abc import Callable
from typing import Protocol


class Moving(Protocol):
    """A spliced tunnel, as far as it is counted."""

    @property
    def octets_out(self) -> int:
        """From the client."""

    @property
    def octets_in(self) -> int:
        """To the client."""


class Tally:
    """All of it. Tunnels that are open are asked when somebody reads: octets cost nothing extra on their way."""

    __slots__ = ("_moved_in", "_moved_out", "_open", "connections", "inspected", "inspecting", "left", "spliced")

    def __init__(self) -> None:
        self.connections = 0
        """Clients that were accepted, turned away or not."""
        self.left = 0
        """Of them, those that are gone."""
        self.spliced = 0
        self.inspected = 0
        self.inspecting = 0
        """Inspected tunnels that are open."""
        self._open: set[Moving] = set()
        self._moved_out = self._moved_in = 0

    @property
    def splicing(self) -> int:
        """Spliced tunnels that are open."""
        return len(self._open)

    def splice(self, tunnel: Moving) -> None:
        """Count a tunnel that begins to be passed on."""
        self.spliced += 1
        self._open.add(tunnel)

    def unsplice(self, tunnel: Moving) -> None:
        """Count its end."""
        if tunnel in self._open:
            self._open.remove(tunnel)
            self._moved_out += tunnel.octets_out
            self._moved_in += tunnel.octets_in

    def inspect(self) -> Callable[[], None]:
        """Count a tunnel that begins to be looked into. Returns what to call at its end, once or more often."""
        self.inspected += 1
        self.inspecting += 1
        is_open = True

        def end() -> None:
            nonlocal is_open
            self.inspecting -= is_open
            is_open = False

        return end

    def moved(self) -> tuple[int, int]:
        """Return the octets that spliced tunnels passed on so far, from and to clients."""
        out, back = self._moved_out, self._moved_in
        for tunnel in self._open:
            out += tunnel.octets_out
            back += tunnel.octets_in
        return out, back
