"""Transports that tests can look into, and clients that make what handles them fail."""

import asyncio
from typing import Any


class FakeTransport(asyncio.Transport):
    """Remembers what was done to it."""

    def __init__(self, peer: tuple[str, int] | None = ("10.1.0.5", 4711)) -> None:
        super().__init__({"peername": peer})
        self.sent = bytearray()
        self.calls: list[str] = []
        self.protocol: asyncio.BaseProtocol | None = None
        self.closing = False
        self.broken = False
        """Ending the direction fails, as on a socket whose peer has reset it."""

    def write(self, data: Any) -> None:
        """Keep octets."""
        self.sent += data

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Remember who it belongs to."""
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing to limit."""

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closing

    def close(self) -> None:
        """Remember it."""
        self.calls.append("close")
        self.closing = True

    def abort(self) -> None:
        """Remember it."""
        self.calls.append("abort")
        self.closing = True

    def write_eof(self) -> None:
        """Remember it, or fail."""
        if self.broken:
            raise OSError(107, "not connected")
        self.calls.append("write_eof")

    def can_write_eof(self) -> bool:
        """TCP can."""
        return True

    def pause_reading(self) -> None:
        """Remember it."""
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        """Remember it."""
        self.calls.append("resume_reading")


class Strange:
    """A client that can be a key of dictionaries until it is `wrong`."""

    wrong = False

    def __hash__(self) -> int:
        if self.wrong:
            raise RuntimeError("no hash")
        return 1
