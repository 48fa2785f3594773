"""Proxy-Authorization, read one way only: the Basic scheme (RFC 7617) and nothing else.

Pure: no I/O, no clock.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import NamedTuple

CHALLENGE = 'Basic realm="egress gateway", charset="UTF-8"'
"""Proxy-Authenticate of a 407 (RFC 9110 section 11.7.1)."""
_LONGEST = 2048
"""Characters of a field: nobody's name and password are longer, and each check costs with their length."""
_BASIC = re.compile(r"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2})\Z")
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")


class Credentials(NamedTuple):
    """A claim, and what is to prove it."""

    user: str
    password: bytes


def read_credentials(values: Sequence[str]) -> Credentials:
    """Read the values of Proxy-Authorization. The password may hold colons; the name cannot.

    Raises:
        ValueError: says what was expected, and nothing of what was sent.
    """
    if len(values) != 1:
        raise ValueError("proxy-authorization more than once")
    if len(values[0]) > _LONGEST:
        raise ValueError(f"proxy-authorization of more than {_LONGEST} characters")
    found = _BASIC.match(values[0])
    if found is None:
        raise ValueError("proxy-authorization is not of the Basic scheme")
    try:
        decoded = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        raise ValueError("proxy-authorization is not base64") from None
    user, colon, password = decoded.partition(b":")
    if not colon or not user:
        raise ValueError("proxy-authorization is not user:password")
    if _CONTROLS.search(decoded):
        raise ValueError("control characters in proxy-authorization")
    try:
        return Credentials(user.decode("utf-8"), password)
    except UnicodeDecodeError:
        raise ValueError("the user name in proxy-authorization is not UTF-8") from None
