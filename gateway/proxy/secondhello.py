"""The second ClientHello of a spliced tunnel: it has to name what the first one named.

Pure: no I/O, no clock. A server that can use none of a client's keys asks for another ClientHello (HelloRetryRequest,
RFC 8446 section 4.1.4), and that one is as legible as the first. By its section 4.1.2 it names the same server; but
servers go by what it names and do not compare: OpenSSL chooses the certificate and the site anew.
"""

from gateway.decision import Reason
from gateway.proxy.clienthello import Hello, HelloReader, Malformed, NotTls
from gateway.request import Flaw

_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""What a ServerHello holds as random if it asks for another ClientHello (RFC 8446 section 4.1.3)."""
_HANDSHAKE = b"\x16"
_MAY_BEGIN = (b"", b"\2")
"""The type of the message, if it is there: a ServerHello."""
_BESIDE = frozenset((20, 21, 23))
"""Records that may come before it: change_cipher_spec, an alert, data sent early that the server passes over."""
_RANDOM, _TOLD = 11, 43
"""Where the random begins, behind the headers of record and message and a version, and where it ends."""


def asks_again(answer: bytes) -> bool | None:
    """Say whether a server's first octets ask for another ClientHello; None: they are too few to tell."""
    if not _RETRY.startswith(answer[_RANDOM:_TOLD]) or answer[:1] != _HANDSHAKE or answer[5:6] not in _MAY_BEGIN:
        return False
    return True if len(answer) >= _TOLD else None


class SecondHello:
    """Watches the beginning of one tunnel: `hear` what the server says, `read` what the client says."""

    __slots__ = ("_answer", "_early", "_head", "_names", "_reader", "_skip", "awaited", "octets", "watches")

    def __init__(self, names: tuple[str, ...], octets: int, *, early: bool) -> None:
        """Begin behind the first one, of so many octets. `early`: it says that data follow at once."""
        self._names = names
        self.octets = octets
        """Of the first one."""
        self._early = early
        self._answer = b""
        self._head = b""
        self._skip = 0
        self._reader: HelloReader | None = None
        self.awaited = True
        """Whether the server has not answered yet."""
        self.watches = early
        """Whether the client's octets are wanted."""

    def hear(self, answer: bytes, sent: int) -> Flaw | None:
        """Take octets of the server, up to its answer; `sent` are the client's that went on until now.

        Returns what is wrong with those.
        """
        self._answer = answer = self._answer + answer
        again = asks_again(answer)
        if again is None:
            return None
        self._answer, self.awaited, self.watches = b"", False, again
        if again and not self._early and sent != self.octets:
            return Flaw(Reason.SNI_MISMATCH, "octets behind the ClientHello before another one was asked for")
        return None

    def read(self, data: bytes) -> Flaw | None:
        """Take octets of the client, while it is watched, before they go on. Returns what is wrong with them.

        All but the last of a hello may go on before it is whole: a server does nothing about a part of one.
        """
        while data and self._reader is None:
            if self._skip:
                data, self._skip = data[self._skip :], max(0, self._skip - len(data))
                continue
            wanted = 5 - len(self._head)
            self._head, data = self._head + data[:wanted], data[wanted:]
            if self._head[0] not in _BESIDE:
                self._reader = HelloReader()
                data = self._head + data
            elif len(self._head) == 5:
                self._skip, self._head = self._head[3] << 8 | self._head[4], b""
        match self._reader.feed(data) if self._reader is not None else None:
            case Hello() as hello:
                self.watches = False
                if hello.server_names != self._names or hello.ech:
                    return Flaw(Reason.SNI_MISMATCH, f"a second ClientHello that names {list(hello.server_names)}")
            case NotTls(detail) | Malformed(detail):
                return Flaw(Reason.MALFORMED, f"in place of a second ClientHello: {detail}")
        return None
