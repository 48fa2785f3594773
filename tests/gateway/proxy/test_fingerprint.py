"""Tests of `gateway.proxy.fingerprint`."""

import re

import pytest

from gateway.proxy.clienthello import Hello, HelloReader
from gateway.proxy.fingerprint import TOOLS, ja4, tool_of
from gateway.tools import KNOWN
from tests.gateway.proxy.samples import CAPTURED

_CHROME_CIPHERS = (
    0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D, 0x002F,
    0x0035,
)  # fmt: skip
_CHROME_ALGORITHMS = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)


def a_hello(
    ciphers: tuple[int, ...] = (0x1301,),
    extensions: tuple[int, ...] = (0, 43),
    alpn: tuple[bytes, ...] = (b"h2",),
    algorithms: tuple[int, ...] = (0x0403,),
    versions: tuple[int, ...] = (0x0304, 0x0303),
    version: int = 0x0303,
) -> Hello:
    """Return a ClientHello."""
    return Hello(
        version=version,
        ciphers=ciphers,
        extensions=extensions,
        server_names=(),
        alpn=alpn,
        versions=versions,
        signature_algorithms=algorithms,
        ech=False,
    )


def _read(octets: bytes) -> Hello:
    hello = HelloReader().feed(octets)
    assert isinstance(hello, Hello)
    return hello


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        (
            (0x1B, 0, 0x33, 0x10, 0x4469, 0x17, 0x2D, 0x0D, 5, 0x23, 0x12, 0x2B, 0xFF01, 0x0B, 0x0A, 0x15),
            "t13d1516h2_8daaf6152771_e5627efa2ab1",
        ),
        (
            (0x2D, 0x33, 0x10, 0xFE0D, 0x17, 0x44CD, 0, 0x0B, 0x0A, 0x2B, 0xFF01, 0x23, 0x12, 5, 0x0D, 0x1B),
            "t13d1516h2_8daaf6152771_d8a2da3f94cd",
        ),
    ],
    ids=["the algorithm's own example", "Chrome 143"],
)
@pytest.mark.parametrize("grease", [False, True])
def test_published(extensions: tuple[int, ...], expected: str, grease: bool) -> None:
    """Published fingerprints of Chrome come out, whatever GREASE is in between."""
    ciphers: tuple[int, ...] = _CHROME_CIPHERS
    versions: tuple[int, ...] = (0x0304, 0x0303)
    if grease:
        ciphers, extensions, versions = (0x8A8A, *ciphers), (0x0A0A, *extensions, 0xFAFA), (0xDADA, *versions)
    hello = a_hello(ciphers, extensions, (b"h2", b"http/1.1"), _CHROME_ALGORITHMS, versions)
    assert ja4(hello) == expected


@pytest.mark.parametrize(
    ("alpn", "expected"),
    [
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"x", "xx"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"\x30\xab", "3b"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
    ],
)
def test_alpn(alpn: bytes, expected: str) -> None:
    """The first ALPN name is told by its ends, as the algorithm's own table has it."""
    assert ja4(a_hello(alpn=(alpn,)))[8:10] == expected


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        (a_hello(alpn=()), "t13d010200"),
        (a_hello(versions=(), version=0x0303), "t12d0102h2"),
        (a_hello(versions=(), version=0x0301), "t10d0102h2"),
        (a_hello(versions=(0x7777,), version=0x0301), "t00d0102h2"),
        (a_hello(extensions=(43,)), "t13i0101h2"),
        (a_hello(ciphers=tuple(range(1, 120))), "t13d9902h2"),
    ],
)
def test_first_part(hello: Hello, expected: str) -> None:
    """The first part tells version, name, counts and ALPN."""
    assert ja4(hello).split("_")[0] == expected


def test_nothing_to_hash() -> None:
    """Empty lists have a hash of zeros."""
    assert ja4(a_hello(ciphers=(), extensions=(0,), algorithms=())) == "t13d0001h2_000000000000_000000000000"


@pytest.mark.parametrize(
    ("program", "tool"),
    [
        ("curl", "curl"),
        ("curl-http1.1", "curl"),
        ("curl-tls12", "curl"),
        ("wget", "wget"),
        ("git", "git"),
        ("py311-urllib", "python-urllib"),
        ("py313-urllib", "python-urllib"),
        ("node-https", "node"),
        ("node-fetch", "node"),
        ("java-httpclient", "java"),
        ("java-url", "java"),
        ("go", "go"),
        ("py313-requests", ""),
        ("py313-aiohttp", ""),
        ("pip", ""),
        ("apt", ""),
        ("openssl-servername", ""),
        ("deb11-curl", "curl"),
        ("deb11-curl-http1.1", "curl"),
        ("deb11-curl-tls12", "curl"),
        ("deb11-java-httpclient", "java"),
        ("deb11-java-url", "java"),
        ("deb11-perl", "perl"),
        ("deb11-urllib", ""),
        ("deb12-perl", "perl"),
        ("deb12-php", "php"),
        ("deb12-ruby", ""),
        ("deb13-apt", ""),
        ("deb13-aria2", "aria2"),
        ("deb13-curl", "curl"),
        ("deb13-curl-http1.1", ""),
        ("deb13-curl-tls12", "curl"),
        ("deb13-git", "git"),
        ("deb13-go", "go"),
        ("deb13-java-httpclient", "java"),
        ("deb13-java-url", "java"),
        ("deb13-node-fetch", "node"),
        ("deb13-node-https", "node"),
        ("deb13-perl", "perl"),
        ("deb13-php", "php"),
        ("deb13-requests", ""),
        ("deb13-ruby", ""),
        ("deb13-urllib", "python-urllib"),
    ],
)
def test_tools(program: str, tool: str) -> None:
    """A program is told by its hello, unless others say the same."""
    assert tool_of(ja4(_read(CAPTURED[program]))) == tool


def test_a_fingerprint_that_two_programs_share_tells_nothing() -> None:
    """Programs that say the same are of one tool, or the fingerprint is none's."""
    tools: dict[str, set[str]] = {}
    for program, octets in CAPTURED.items():
        tools.setdefault(ja4(_read(octets)), set()).add(re.sub(r"^(deb|py)\d+-", "", program).partition("-")[0])
    shared = {fingerprint for fingerprint, programs in tools.items() if len(programs) > 1}
    assert shared, "some do"
    assert {tool_of(fingerprint) for fingerprint in shared} == {""}


def test_every_fingerprint_was_captured() -> None:
    """No entry of the table is from hearsay."""
    assert {ja4(_read(octets)) for octets in CAPTURED.values()} >= set(TOOLS)


def test_tools_are_known() -> None:
    """Every tool of the table is one that a policy can name."""
    assert set(TOOLS.values()) <= set(KNOWN)
