"""The secret that whoever reads metrics has to show: a file in the state directory, for its owner alone.

It is made at the first start and stays. An administrator may put another there, or remove it for a new one.
"""

import hmac
import logging
import os
import re
import secrets
from pathlib import Path

from gateway.feeds.store import write_atomically

_LOG = logging.getLogger(__name__)
FILE = "control.token"
_OCTETS = 32
_LEAST = 32
_is_token = re.compile(rb"[A-Za-z0-9._~+/=-]+").fullmatch  # RFC 6750 section 2.1


class TokenError(Exception):
    """The token cannot be used; the text says why, and not what it is."""


def ensure_token(state_dir: Path) -> bytes:
    """Return the token; make it if there is none.

    Raises:
        TokenError: it cannot be made or read, or would be too easy to guess.
    """
    path = state_dir / FILE
    try:
        if not os.path.lexists(path):
            write_atomically(path, secrets.token_urlsafe(_OCTETS).encode() + b"\n")
        return _read(path)
    except OSError as error:
        raise TokenError(f"{path}: {error.strerror or error}") from None


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            _LOG.warning("%s could be read by others and no longer can; remove it and restart for a new token", path)
            os.fchmod(descriptor, 0o600)
        token = os.read(descriptor, 4096).strip()
    finally:
        os.close(descriptor)
    if len(token) < _LEAST or not _is_token(token):
        raise TokenError(
            f"{path} holds no token of at least {_LEAST} letters and digits: remove it, and a new one is made"
        )
    return token


def is_shown(token: bytes, authorization: list[bytes]) -> bool:
    """Say whether a request shows the token (RFC 6750 section 2.1), in a time that tells nothing about it."""
    if len(authorization) != 1:
        return False
    scheme, _, shown = authorization[0].partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(shown.strip(b" "), token)
