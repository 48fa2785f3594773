"""ClientHellos built field by field: right ones, and ones that no TLS library would send.

Pure: no I/O, no clock.
"""

import struct
from collections.abc import Iterable

type Extension = tuple[int, bytes]


def server_name(*names: bytes) -> Extension:
    """Return a server_name extension."""
    entries = b"".join(b"\0" + struct.pack(">H", len(name)) + name for name in names)
    return 0, struct.pack(">H", len(entries)) + entries


def alpn(*names: bytes) -> Extension:
    """Return an ALPN extension."""
    entries = b"".join(bytes([len(name)]) + name for name in names)
    return 16, struct.pack(">H", len(entries)) + entries


def numbers(kind: int, *values: int) -> Extension:
    """Return an extension that is a list of numbers behind its length in two octets."""
    return kind, struct.pack(f">H{len(values)}H", 2 * len(values), *values)


def versions(*values: int) -> Extension:
    """Return a supported_versions extension."""
    return 43, struct.pack(f">B{len(values)}H", 2 * len(values), *values)


def a_message(
    *extensions: Extension, ciphers: Iterable[int] = (0x1301, 0xC02F), version: int = 0x0303, trailing: bytes = b""
) -> bytes:
    """Return a ClientHello as a handshake message."""
    suites = tuple(ciphers)
    body = struct.pack(">H", version) + bytes(32) + b"\0"
    body += struct.pack(f">H{len(suites)}H", 2 * len(suites), *suites) + b"\x01\0"
    listed = b"".join(struct.pack(">HH", kind, len(value)) + value for kind, value in extensions)
    if extensions:
        body += struct.pack(">H", len(listed)) + listed
    body += trailing
    return b"\x01" + len(body).to_bytes(3, "big") + body


def in_records(message: bytes, size: int = 16384) -> bytes:
    """Cut a handshake message into records."""
    pieces = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece for piece in pieces)


def a_hello(name: bytes = b"good.test", *extensions: Extension) -> bytes:
    """Return a ClientHello in one record."""
    return in_records(a_message(server_name(name), versions(0x0304), *extensions))
