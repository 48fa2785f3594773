"""Through another proxy: on a connection to the parent, a tunnel to the address that was judged.

The parent is given the address and not the name: it would look the name up again, and what it found nobody judged. It
connects there or refuses.
"""

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from typing import cast

from gateway.addresses import IPAddress
from gateway.authority import split_authority
from gateway.request import Host

_MOST = 16 * 1024
"""Octets of the parent's answer."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")


class ParentError(OSError):
    """There is no tunnel through the parent. The text says what it did instead."""


@lru_cache(maxsize=16)
def parse_parent(url: str) -> tuple[Host, int]:
    """Return where the parent listens.

    >>> parse_parent("http://proxy.example:3128")
    ('proxy.example', 3128)
    """
    return split_authority(url.removeprefix("http://"), None)


class Asking(asyncio.Protocol):
    """The protocol of a connection to the parent until it has answered CONNECT."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read the head of the answer."""
        self._received += data
        if b"\r\n\r\n" in self._received:
            self._transport.pause_reading()  # until there is somebody to read what comes next
            self._settle(bytes(self._received))
        elif len(self._received) > _MOST:
            self._settle(ParentError(f"answered with more than {_MOST} octets"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._settle(ParentError("closed the connection instead of answering"))

    def _settle(self, result: bytes | ParentError) -> None:
        if self._answer.done():
            return
        if isinstance(result, bytes):
            self._answer.set_result(result)
        else:
            self._answer.set_exception(result)

    async def tunnel[P: asyncio.Protocol](self, address: IPAddress, port: int, protocol: Callable[[], P]) -> P:
        """Ask for a tunnel, and give the connection to a new protocol.

        Raises:
            ParentError: the parent refuses, or answers something else.
        """
        target = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        self._transport.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii"))
        answer = await self._answer
        found = _STATUS.match(answer)
        if found is None:
            raise ParentError("answered something that is no HTTP")
        if found[1][:1] != b"2":
            raise ParentError(f"answered {found[1].decode('ascii')} to CONNECT {target}")
        if not answer.endswith(b"\r\n\r\n") or answer.count(b"\r\n\r\n") > 1:
            # No server of TLS or HTTP speaks first: it would be an answer to a request that was not sent yet.
            raise ParentError("sent more than its answer to CONNECT")
        if self._transport.is_closing():
            raise ParentError("closed the connection behind its answer")
        made = protocol()
        self._transport.set_protocol(made)
        made.connection_made(self._transport)
        self._transport.resume_reading()
        return made
