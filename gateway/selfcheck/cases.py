"""The battery's attempts that are mere octets: what to send, where to, and why it has to be refused.

Pure: no I/O, no clock. `good.test` and names below it are allowed, `seen.test` is allowed and looked into,
`evil.test` is not allowed. In what is sent, `{good}`, `{seen}` and `{evil}` stand for those names with the ports of
their origins, and `{port}` for the port of the forbidden origin, which listens on every address.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gateway.decision import Reason
from gateway.selfcheck.framing import CHUNKS, HEADS
from gateway.selfcheck.hello import a_hello, a_message, in_records, server_name, versions
from gateway.selfcheck.http2 import Fields

NUMBERS: dict[int, str] = {
    0: "what is allowed gets through",
    1: "CONNECT names one host, the ClientHello another",
    2: "ClientHello without a name",
    3: "ClientHello with several or strange names",
    4: "inspected: Host names another host",
    5: "inspected: HTTP/2 authority names another host",
    6: "absolute-form and Host disagree",
    7: "two Host fields, or one that can be read in two ways",
    8: "second request on a kept connection",
    9: "loopback, spelled oddly",
    10: "addresses that are not on the public internet",
    11: "host names with strange characters",
    12: "names that only encode an address",
    13: "names of one label",
    14: "rebinding between check and use",
    15: "names with private addresses",
    16: "names that never resolve",
    17: "denied names are not looked up",
    18: "the proxy connects to itself",
    19: "redirect to a metadata service",
    20: "other ports",
    21: "something else than TLS in a tunnel",
    22: "ClientHello in pieces, too long, or no ClientHello",
    23: "Encrypted ClientHello",
    24: "WebSocket, Upgrade, h2c",
    25: "Alt-Svc: h3 in answers",
    26: "Content-Length and Transfer-Encoding",
    27: "request lines, chunks, pipelining",
    28: "answers: unasked switch, splitting, floods",
    29: "User-Agent disguises",
    30: "forged identities",
    31: "uploads beyond the budget",
    32: "slow, endless and idle clients",
    33: "something in the gateway breaks",
}
"""What each number of the battery is about."""
ELSEWHERE: dict[int, str] = {
    29: "tests/integration/bypasses/test_agents.py",
    30: "tests/integration/bypasses/test_identity.py",
    33: "tests/integration/bypasses/test_broken.py",
}
"""Numbers that a proxy cannot be tried for from outside, and the tests that try them: they need HTTP/2 inside a
tunnel, rules for tools, accounts and certificates, a gateway that breaks."""


class Where(StrEnum):
    """How octets reach the proxy."""

    PROXY = "proxy"
    """Sent as they are."""
    TUNNEL = "tunnel"
    """Behind an allowed CONNECT to `{good}`."""
    SEEN_TUNNEL = "seen tunnel"
    """Behind an allowed CONNECT to `{seen}`."""
    INSIDE = "inside"
    """Inside TLS, in a tunnel to `{seen}`."""
    HTTP2 = "inside, HTTP/2"
    """Inside TLS too, and as `streams` says."""


@dataclass(frozen=True, slots=True)
class Case:
    """One attempt. Nothing of it may arrive at any origin."""

    number: int
    name: str
    sent: bytes
    reason: Reason
    """What this gateway says."""
    where: Where = Where.PROXY
    slow: bool = False
    """Octet by octet."""
    streams: tuple[Fields, ...] = ()
    """Fields of requests over HTTP/2, on streams 1, 3, ..."""
    bare: bool = False
    """Tried under a policy that names no addresses: to name loopback would be to allow it."""

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


def cases() -> Iterator[Case]:
    """Yield every attempt, by number."""
    yield from _naming()
    yield from _hosts()
    yield from _addresses()
    yield from _speech()
    yield from _http2()
    yield from _framing()


def _naming() -> Iterator[Case]:
    for where, name in ((Where.TUNNEL, b"good.test"), (Where.SEEN_TUNNEL, b"seen.test")):
        yield Case(1, f"other name, {where}", a_hello(b"evil.test"), Reason.SNI_MISMATCH, where)
        yield Case(1, f"a parent, {where}", a_hello(b"test"), Reason.SNI_MISMATCH, where)
        yield Case(1, f"a child, {where}", a_hello(b"www." + name), Reason.SNI_MISMATCH, where)
        yield Case(2, f"no name, {where}", in_records(a_message(versions(0x0304))), Reason.SNI_MISSING, where)
        yield Case(2, f"empty list, {where}", in_records(a_message(server_name())), Reason.SNI_MISSING, where)
        strange = {
            "name twice": in_records(a_message(server_name(name), server_name(name))),
            "two names": in_records(a_message(server_name(name, b"evil.test"))),
            "address": a_hello(b"127.0.0.1"),
            "two dots": a_hello(name + b".."),
            "empty": a_hello(b""),
            "too long": a_hello(b"a." * 130 + name),
            "NUL": a_hello(name + b"\0.evil.test"),
            "not ASCII": a_hello("gööd.test".encode()),
            "space": a_hello(name + b" "),
        }
        for title, hello in strange.items():
            yield Case(3, f"{title}, {where}", hello, Reason.SNI_MISMATCH, where)
    # RFC 9849 section 5: type 0 is the outer hello with suite, configuration, key and the encrypted inner one. GREASE
    # looks the same to everybody but the server; draft versions had another number, and type 1 is the inner hello.
    outer = b"\0\0\1\0\1" + b"\7" + b"\0\x20" + bytes(32) + b"\0\x90" + bytes(144)
    for title, extension in (
        ("ech", (0xFE0D, b"\0" + bytes(30))),
        ("ech, real or GREASE", (0xFE0D, outer)),
        ("ech, inner", (0xFE0D, b"\1")),
        ("ech, empty", (0xFE0D, b"")),
    ):
        yield Case(23, title, a_hello(b"good.test", extension), Reason.ECH, Where.TUNNEL)
    public = a_hello(b"public.test", (0xFE0D, outer))
    yield Case(23, "ech behind a public name", public, Reason.SNI_MISMATCH, Where.TUNNEL)


def _hosts() -> Iterator[Case]:
    inside = (
        (4, "other host", b"evil.test", Reason.HOST_MISMATCH),
        (4, "other port", b"seen.test:1", Reason.HOST_MISMATCH),
        (4, "userinfo", b"x@seen.test", Reason.HOST_MISMATCH),
        (4, "two names", b"seen.test,evil.test", Reason.HOST_MISMATCH),
        (4, "two fields", b"{seen}\r\nHost: evil.test", Reason.MALFORMED),
    )
    for number, name, host, reason in inside:
        yield Case(number, name, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", reason, Where.INSIDE)
    whole = b"GET http://evil.test/ HTTP/1.1\r\nHost: {seen}\r\n\r\n"
    yield Case(4, "absolute-form", whole, Reason.MALFORMED, Where.INSIDE)
    yield Case(
        27, "CONNECT inside", b"CONNECT {evil} HTTP/1.1\r\nHost: {evil}\r\n\r\n", Reason.MALFORMED, Where.INSIDE
    )
    for host in (b"{evil}", b"evil.test:443", b"good.test:1", b"good.test@evil.test", b"good.test, evil.test"):
        sent = b"CONNECT {good} HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        yield Case(7, f"CONNECT with Host {host.decode()}", sent + a_hello(), Reason.HOST_MISMATCH)
    fields = (
        (6, "other host", b"{evil}", Reason.HOST_MISMATCH),
        (6, "other port", b"good.test", Reason.HOST_MISMATCH),
        (7, "userinfo", b"x@{good}", Reason.HOST_MISMATCH),
        (7, "list", b"{good},evil.test", Reason.HOST_MISMATCH),
        (7, "two", b"{good}\r\nHost: {evil}", Reason.MALFORMED),
        (7, "same twice", b"{good}\r\nHost: {good}", Reason.MALFORMED),
        (7, "fold", b"{good}\r\n .evil.test", Reason.MALFORMED),
        (7, "empty", b"", Reason.HOST_MISMATCH),
    )
    for number, name, host, reason in fields:
        yield Case(number, name, b"GET http://{good}/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", reason)


_FORMS = {
    "CONNECT": b"CONNECT <>:{port} HTTP/1.1\r\nHost: <>:{port}\r\n\r\n",
    "absolute-form": b"GET http://<>:{port}/ HTTP/1.1\r\nHost: <>:{port}\r\n\r\n",
}
_LOOPBACKS = (
    "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "0", "127.0.0.1.", "127.0.0.01",
    "[::ffff:127.0.0.1%25lo]", "[fe80::1%25lo]", "[127.0.0.1]",
)  # fmt: skip
_STRANGE = (
    "[good.test]", "good..test", ".good.test", "good.test..", "good_.te st", "g\xf6\xf6d.test", "good.test%00",
    "good\uff0etest", "xn--\uff0e", "a" * 64 + ".good.test", "b." * 130 + "good.test", "good.test\\.evil",
)  # fmt: skip
_SPECIAL: dict[str, Reason] = {
    "0.0.0.0": Reason.PRIVATE_ADDRESS,
    "127.0.0.1": Reason.PRIVATE_ADDRESS,
    "10.0.0.1": Reason.PRIVATE_ADDRESS,
    "100.64.0.1": Reason.PRIVATE_ADDRESS,
    "224.0.0.1": Reason.PRIVATE_ADDRESS,
    "255.255.255.255": Reason.PRIVATE_ADDRESS,
    "169.254.169.254": Reason.METADATA_ADDRESS,
    "100.100.100.200": Reason.METADATA_ADDRESS,
    "192.0.0.192": Reason.METADATA_ADDRESS,
    "[::]": Reason.PRIVATE_ADDRESS,
    "[::1]": Reason.PRIVATE_ADDRESS,
    "[::ffff:127.0.0.1]": Reason.PRIVATE_ADDRESS,
    "[::ffff:7f00:1]": Reason.PRIVATE_ADDRESS,
    "[64:ff9b::7f00:1]": Reason.PRIVATE_ADDRESS,
    "[2002:7f00:1::]": Reason.PRIVATE_ADDRESS,
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]": Reason.PRIVATE_ADDRESS,
    "[fd00:ec2::254]": Reason.METADATA_ADDRESS,
    "8.8.8.8": Reason.DIRECT_ADDRESS,
    "[2606:4700:4700::1111]": Reason.DIRECT_ADDRESS,
}
_ENCODED: dict[str, Reason] = {
    "127.0.0.1.nip.io": Reason.PRIVATE_ADDRESS,
    "www.169-254-169-254.sslip.io": Reason.METADATA_ADDRESS,
    "7f000001.nip.io": Reason.PRIVATE_ADDRESS,
    "x.localtest.me": Reason.PRIVATE_ADDRESS,
}


def _addresses() -> Iterator[Case]:
    for form, template in _FORMS.items():

        def case(number: int, host: str, reason: Reason, form: str = form, template: bytes = template) -> Case:
            shown = ascii(host)[1:-1][:40]
            return Case(number, f"{shown}, {form}", template.replace(b"<>", host.encode()), reason, bare=True)

        for host in _LOOPBACKS:
            yield case(9, host, Reason.MALFORMED)
        for host in ("localhost", "LOCALHOST", "LocalHost."):
            yield case(9, host, Reason.PRIVATE_ADDRESS)
        for host, reason in _SPECIAL.items():
            yield case(10, host, reason)
        for host in _STRANGE:
            yield case(11, host, Reason.MALFORMED)
        for host, reason in _ENCODED.items():
            yield case(12, host, reason)
        for host in ("good", "intranet"):
            yield case(13, host, Reason.PORT)


def _speech() -> Iterator[Case]:
    for port in (1, 22, 25, 53, 853, 3128, 6379, 8080, 65535):
        yield Case(20, f"port {port}", b"CONNECT good.test:%d HTTP/1.1\r\n\r\n" % port, Reason.PORT, bare=True)
    for host in ("evil.test", "www.evil.test"):
        yield Case(17, f"CONNECT {host}", f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode(), Reason.DEFAULT_DENY)
    get = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    yield Case(17, "GET evil.test", get, Reason.DEFAULT_DENY)
    spoken = (
        (21, "ssh", b"SSH-2.0-OpenSSH_9.2\r\n", Reason.NOT_TLS),
        (21, "http", b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", Reason.NOT_TLS),
        (21, "http without a line's end", b"GET ", Reason.NOT_TLS),
        (21, "socks 5", b"\x05\x01\x00", Reason.NOT_TLS),
        (21, "socks 4", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", Reason.NOT_TLS),
        (21, "dns", b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", Reason.NOT_TLS),
        (21, "connect", b"CONNECT {evil} HTTP/1.1\r\n\r\n", Reason.NOT_TLS),
        (21, "smtp", b"EHLO x\r\n", Reason.NOT_TLS),
        (22, "junk in front", b"\0" + a_hello(), Reason.NOT_TLS),
        (22, "sslv2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", Reason.NOT_TLS),
        (22, "over 16 KB", in_records(a_message(server_name(b"good.test"), (21, bytes(17000)))), Reason.MALFORMED),
        (22, "application data first", b"\x17\x03\x03\x00\x05hello", Reason.NOT_TLS),
        (22, "server hello", b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", Reason.MALFORMED),
        (22, "evil name in records of one octet", in_records(a_message(server_name(b"evil.test")), 1),
         Reason.SNI_MISMATCH),
        (24, "h2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.NOT_TLS),
    )  # fmt: skip
    for number, name, sent, reason in spoken:
        yield Case(number, name, sent, reason, Where.TUNNEL)
        yield Case(number, f"{name}, octet by octet", sent, reason, Where.TUNNEL, slow=True)
    h2c = b"GET http://{good}/ HTTP/2.0\r\nHost: {good}\r\n\r\n"
    yield Case(24, "h2 to the proxy, prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.MALFORMED)
    yield Case(24, "HTTP/2.0 in a request line", h2c, Reason.MALFORMED)
    yield Case(24, "h2c inside", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.MALFORMED, Where.INSIDE)


def _ask(
    authority: bytes | None = b"{seen}",
    *more: tuple[bytes, bytes],
    method: bytes = b"GET",
    path: bytes = b"/",
    scheme: bytes = b"https",
) -> Fields:
    named = () if authority is None else ((b":authority", authority),)
    return ((b":method", method), (b":scheme", scheme), (b":path", path), *named, *more)


def _http2() -> Iterator[Case]:
    end = b"\r\nHost: evil.test\r\n\r\nGET /"
    shapes: tuple[tuple[int, str, Fields, Reason], ...] = (
        (5, "other authority", _ask(b"{evil}"), Reason.HOST_MISMATCH),
        (5, "other port", _ask(b"seen.test:1"), Reason.HOST_MISMATCH),
        (5, "no port", _ask(b"seen.test"), Reason.HOST_MISMATCH),
        (5, "only host, another", _ask(None, (b"host", b"evil.test")), Reason.HOST_MISMATCH),
        (5, "authority and another host", _ask(b"{seen}", (b"host", b"evil.test")), Reason.MALFORMED),
        (5, "another authority and host", _ask(b"evil.test", (b"host", b"{seen}")), Reason.MALFORMED),
        (5, "two authorities", _ask(b"{seen}", (b":authority", b"evil.test")), Reason.MALFORMED),
        (5, "two hosts", _ask(None, (b"host", b"{seen}"), (b"host", b"evil.test")), Reason.MALFORMED),
        (5, "neither", _ask(None), Reason.MALFORMED),
        (5, "empty", _ask(b""), Reason.HOST_MISMATCH),
        (5, "userinfo", _ask(b"seen.test@evil.test"), Reason.MALFORMED),
        (5, "list", _ask(b"{seen},evil.test"), Reason.MALFORMED),
        (5, "authority behind fields", _ask(None, (b"x", b"y"), (b":authority", b"{seen}")), Reason.MALFORMED),
        (5, "path of another host", _ask(path=b"http://evil.test/"), Reason.MALFORMED),
        (5, "scheme of another host", _ask(scheme=b"https://evil.test/?"), Reason.MALFORMED),
        (5, "scheme without TLS", _ask(scheme=b"http"), Reason.MALFORMED),
        (24, "CONNECT over HTTP/2", ((b":method", b"CONNECT"), (b":authority", b"{evil}")), Reason.MALFORMED),
        (24, "extended CONNECT", ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *_ask()[1:]),
         Reason.MALFORMED),
        (24, "Upgrade over HTTP/2", _ask(b"{seen}", (b"upgrade", b"h2c")), Reason.MALFORMED),
        (26, "TE over HTTP/2", _ask(b"{seen}", (b"transfer-encoding", b"chunked"), method=b"POST"), Reason.MALFORMED),
        (26, "TE underscored, HTTP/2", _ask(b"{seen}", (b"transfer_encoding", b"chunked")), Reason.MALFORMED),
        (26, "CL without a body, HTTP/2", _ask(b"{seen}", (b"content-length", b"5")), Reason.MALFORMED),
        (26, "two CL, HTTP/2", _ask(b"{seen}", *[(b"content-length", b"0")] * 2), Reason.MALFORMED),
        (26, "field with an end of line, HTTP/2", _ask(b"{seen}", (b"x", b"a" + end)), Reason.MALFORMED),
        (26, "field name with an end of line, HTTP/2", _ask(b"{seen}", (b"x: y\r\nhost", b"a")), Reason.MALFORMED),
        (26, "NUL, HTTP/2", _ask(b"{seen}", (b"x", b"a\0b")), Reason.MALFORMED),
        (27, "path with an end of line, HTTP/2", _ask(path=b"/ HTTP/1.1" + end), Reason.MALFORMED),
        (27, "path with a space, HTTP/2", _ask(path=b"/a b"), Reason.MALFORMED),
        (27, "method with a path, HTTP/2", _ask(method=b"GET /secret?"), Reason.MALFORMED),
        (27, "method with a line, HTTP/2", _ask(method=b"GET / HTTP/1.1" + end), Reason.MALFORMED),
        (27, "lower-case method, HTTP/2", _ask(method=b"get"), Reason.MALFORMED),
        (27, "two paths, HTTP/2", _ask(b"{seen}", (b":path", b"/x")), Reason.MALFORMED),
        (27, "empty path, HTTP/2", _ask(path=b""), Reason.MALFORMED),
        (27, "backslash, HTTP/2", _ask(path=b"/\\evil"), Reason.MALFORMED),
        (27, "hop-by-hop field, HTTP/2", _ask(b"{seen}", (b"connection", b"x")), Reason.MALFORMED),
    )  # fmt: skip
    for number, name, fields, reason in shapes:
        yield Case(number, name, b"", reason, Where.HTTP2, streams=(fields,))


def _framing() -> Iterator[Case]:
    behind = b"GET http://{good}/ HTTP/1.1\r\nHost: {good}\r\n\r\n"
    for name, (head, _, _) in HEADS.items():
        number = 26 if name.startswith(("CL", "TE", "two CL", "two TE", "bare", "NUL", "fold")) else 27
        yield Case(number, name, head if name == "TLS" else head + behind, Reason.MALFORMED)
    for name, body in CHUNKS.items():
        start = b"POST http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        yield Case(27, f"chunk size {name}, behind a denial", start + body + behind, Reason.DEFAULT_DENY)
