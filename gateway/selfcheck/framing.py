"""Request heads that end at different places for different readers, or that no reader should accept.

Pure: no I/O, no clock. All but a few are for `a.test`, which no policy names: what matters is that they are refused
for what they are, before anybody asks where they lead.
"""


def _get(fields: bytes, version: bytes = b"1.1") -> bytes:
    return b"GET http://a.test/ HTTP/" + version + b"\r\nHost: a.test\r\n" + fields + b"\r\n"


HEADS: dict[str, tuple[bytes, int, str]] = {
    "origin-form": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "this is a proxy"),
    "https": (b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "use CONNECT"),
    "other scheme": (b"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "expected http://host/path"),
    "userinfo": (b"GET http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "is not host or host:port"),
    "fragment": (b"GET http://a.test/#x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "fragment"),
    "backslash": (b"GET http://a.test\\@b/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "backslash"),
    "no Host": (b"GET http://a.test/ HTTP/1.1\r\n\r\n", 400, "without Host"),
    "two Host": (_get(b"Host: a.test\r\n"), 400, "host twice"),
    "bare CR": (_get(b"X: a\rb\r\n"), 400, "bare CR"),
    "bare LF": (_get(b"X: a\nY: b\r\n"), 400, "bare LF"),
    "only LF": (b"GET http://a.test/ HTTP/1.1\nHost: a.test\n\n", 400, "bare LF"),
    "NUL": (_get(b"X: a\0b\r\n"), 400, "0x00"),
    "not ASCII": (_get(b"X: \xc3\xa9\r\n"), 400, "0xc3"),
    "fold": (_get(b"X: a\r\n b\r\n"), 400, "folded"),
    "fold at once": (b"GET http://a.test/ HTTP/1.1\r\n Host: a.test\r\n\r\n", 400, "folded"),
    "space before colon": (_get(b"X : a\r\n"), 400, "expected name, colon, value"),
    "no colon": (_get(b"X\r\n"), 400, "expected name, colon, value"),
    "empty name": (_get(b": x\r\n"), 400, "expected name, colon, value"),
    "CL and TE": (_get(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400, "both"),
    "two CL": (_get(b"Content-Length: 1\r\nContent-Length: 1\r\n"), 400, "content-length twice"),
    "CL list": (_get(b"Content-Length: 1, 1\r\n"), 400, "no number"),
    "CL +1": (_get(b"Content-Length: +1\r\n"), 400, "no number"),
    "CL -1": (_get(b"Content-Length: -1\r\n"), 400, "no number"),
    "CL 0x1": (_get(b"Content-Length: 0x1\r\n"), 400, "no number"),
    "CL empty": (_get(b"Content-Length:\r\n"), 400, "no number"),
    "CL underscore": (_get(b"Content-Length: 1_0\r\n"), 400, "no number"),
    "TE list": (_get(b"Transfer-Encoding: gzip, chunked\r\n"), 501, "expected chunked"),
    "TE identity": (_get(b"Transfer-Encoding: identity\r\n"), 501, "expected chunked"),
    "TE xchunked": (_get(b"Transfer-Encoding: xchunked\r\n"), 501, "expected chunked"),
    "TE quoted": (_get(b'Transfer-Encoding: "chunked"\r\n'), 501, "expected chunked"),
    "two TE": (_get(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, "twice"),
    "TE in 1.0": (_get(b"Transfer-Encoding: chunked\r\n", b"1.0"), 400, "HTTP/1.0"),
    "TE underscore": (_get(b"Transfer_Encoding: chunked\r\n"), 400, "underscore"),
    "CL underscored": (_get(b"Content_Length: 3\r\n"), 400, "underscore"),
    "HTTP/0.9": (b"GET http://a.test/\r\n\r\n", 400, "expected method, target and version"),
    "HTTP/1.2": (_get(b"", b"1.2"), 505, "expected HTTP/1.0 or HTTP/1.1"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 505, "expected HTTP/1.0 or HTTP/1.1"),
    "lower-case method": (b"get http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "upper case"),
    "two spaces": (b"GET  http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "one space"),
    "tab in the line": (b"GET\thttp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "one space"),
    "space in target": (b"GET http://a.test/a b HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "one space"),
    "empty line first": (b"\r\nGET http://a.test/ HTTP/1.1\r\n\r\n", 400, "empty line"),
    "CONNECT without port": (b"CONNECT a.test HTTP/1.1\r\n\r\n", 400, "has no port"),
    "CONNECT to a URL": (b"CONNECT http://a.test:443/ HTTP/1.1\r\n\r\n", 400, "is not host or host:port"),
    "CONNECT port 0": (b"CONNECT a.test:0 HTTP/1.1\r\n\r\n", 400, "does not exist"),
    "CONNECT port 65536": (b"CONNECT a.test:65536 HTTP/1.1\r\n\r\n", 400, "does not exist"),
    "CONNECT with a body": (b"CONNECT a.test:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400, "with a body"),
    "CONNECT chunked": (b"CONNECT a.test:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "with a body"),
    "CONNECT userinfo": (b"CONNECT u@a.test:443 HTTP/1.1\r\n\r\n", 400, "is not host or host:port"),
    "TLS": (b"\x16\x03\x01\x02\x00", 400, "0x16"),
}
"""By name: the octets, the status that fits, and words that say what is wrong."""

CHUNKS: dict[str, bytes] = {
    "negative": b"-1\r\nx\r\n0\r\n\r\n",
    "0x": b"0x1\r\nx\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "huge": b"fffffffffffffffffffffffff\r\nx",
    "bare LF": b"1\nx\n0\n\n",
    "no number": b"g\r\nx\r\n",
}
"""Bodies whose chunk sizes are no plain hexadecimal numbers."""
