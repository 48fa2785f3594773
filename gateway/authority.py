"""The authority of a request (`host:port`): split one way only.

Pure: no I/O, no clock. RFC 9110 section 7.2 and RFC 3986 section 3.2, less what only confuses: no userinfo, no
spaces, no empty port.
"""

import re

from gateway.names import parse_host
from gateway.request import Host

_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]@]*\]|[^\[\]:@/\\?#\s,]*)(?::(?P<port>[0-9]{1,5}))?\Z")


def split_authority(text: str, default_port: int | None) -> tuple[Host, int]:
    """Return host and port of an authority.

    Raises:
        ValueError: it is not `host` or `host:port`, or the port is missing and has no default.

    >>> split_authority("Example.com:8443", 443)
    ('example.com', 8443)
    """
    found = _AUTHORITY.match(text)
    if not found:
        raise ValueError("is not host or host:port")
    host = parse_host(found["host"])
    if found["port"] is None:
        if default_port is None:
            raise ValueError("has no port")
        return host, default_port
    port = int(found["port"])
    if not 0 < port < 65536:
        raise ValueError(f"port {port} does not exist")
    return host, port
