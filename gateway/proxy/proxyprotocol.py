"""The PROXY protocol: who a client of a load balancer is, in front of everything that the client says.

Pure: no I/O, no clock. Versions 1 and 2 of the specification (proxy-protocol.txt of HAProxy). The reader says how
much it wants, and never more than belongs to the header: what follows may be a TLS handshake, which somebody else
reads.
"""

import re
from ipaddress import IPv4Address, IPv6Address

from gateway.addresses import IPAddress, parse_address, unmap

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1 = b"PROXY "
_V1_SHORTEST = len(b"PROXY UNKNOWN\r\n")
_V1_LONGEST = 107  # section 2.1: "the worst case"
_V2_FIXED = 16
_V2_MOST = 2048
"""Octets behind the fixed part of version 2: addresses take 36, the rest are fields that nobody here reads."""
_V1_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n\Z")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21


class HeaderReader:
    """Reads one header, in pieces as they come."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self.source: IPAddress | None = None
        """The client, once the header is complete; None: the peer speaks for itself (health checks)."""
        self.wants = _V1_SHORTEST
        """Octets that may be read next; 0: the header is complete."""

    def feed(self, data: bytes) -> None:
        """Go on with at most `wants` octets.

        Raises:
            ValueError: it is no header of the PROXY protocol.
        """
        octets = self._octets
        octets += data
        if octets.startswith(SIGNATURE[: len(octets)]):
            self._go_on_binary()
        elif octets.startswith(_V1[: len(octets)]):
            self._go_on_text()
        else:
            raise ValueError("the connection does not begin with a PROXY header")

    def _go_on_text(self) -> None:
        octets = self._octets
        if len(octets) < _V1_SHORTEST:
            self.wants = _V1_SHORTEST - len(octets)
        elif b"\n" in octets:
            self.wants = 0
            self.source = _read_line(bytes(octets))
        elif len(octets) >= _V1_LONGEST:
            raise ValueError(f"PROXY header of more than {_V1_LONGEST} octets")
        else:
            self.wants = 1 if octets.endswith(b"\r") else min(2, _V1_LONGEST - len(octets))

    def _go_on_binary(self) -> None:
        octets = self._octets
        if len(octets) < _V2_FIXED:
            self.wants = _V2_FIXED - len(octets)
            return
        length = int.from_bytes(octets[14:16])
        if length > _V2_MOST:
            raise ValueError(f"PROXY header of {length} octets, expected at most {_V2_MOST}")
        self.wants = _V2_FIXED + length - len(octets)
        if not self.wants:
            self.source = _read_binary(bytes(octets))


def _read_line(line: bytes) -> IPAddress | None:
    if re.match(rb"PROXY UNKNOWN( [\x20-\x7e]*)?\r\n\Z", line):
        return None
    found = _V1_LINE.match(line)
    if found is None:
        raise ValueError("PROXY header that is not PROXY TCP4 or TCP6, two addresses and two ports")
    source, target = (parse_address(found[group].decode("ascii")) for group in (2, 3))
    version = 4 if found[1] == b"TCP4" else 6
    if source is None or target is None or source.version != version or target.version != version:
        raise ValueError(f"PROXY header whose addresses are not IPv{version}")
    if any(int(found[group]) > 65535 or (found[group] != b"0" and found[group][:1] == b"0") for group in (4, 5)):
        raise ValueError("PROXY header with a port that does not exist")
    return unmap(source)


def _read_binary(header: bytes) -> IPAddress | None:
    command, family = header[12], header[13]
    if command == _LOCAL:
        return None
    if command != _PROXY:
        raise ValueError(f"PROXY header with version and command 0x{command:02x}")
    if family == _UNSPECIFIED:
        return None
    size = {_TCP4: 4, _TCP6: 16}.get(family)
    if size is None:
        raise ValueError(f"PROXY header for family and protocol 0x{family:02x}, expected TCP over IPv4 or IPv6")
    if len(header) < _V2_FIXED + 2 * size + 4:
        raise ValueError("PROXY header that ends within its addresses")
    packed = header[_V2_FIXED : _V2_FIXED + size]
    return unmap(IPv4Address(packed) if size == 4 else IPv6Address(packed))
