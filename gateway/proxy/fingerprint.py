"""JA4: a name for the TLS library and settings behind a ClientHello, and which tools have one of their own.

Pure: no I/O, no clock. The algorithm is FoxIO's as published (JA4, the TLS client part, BSD licensed). A fingerprint
is evidence, not proof: it can be imitated, and programs that share a library and its settings share a fingerprint.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

from gateway.proxy.clienthello import Hello

_VERSIONS = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
_UNHASHED = frozenset((0x0000, 0x0010))  # server_name and ALPN: counted, and told in the first part
_NOTHING = "000000000000"


def ja4(hello: Hello) -> str:
    """Return the JA4 of a ClientHello that came over TCP."""
    alpn = hello.alpn[0] if hello.alpn else b""
    version = max((number for number in hello.versions if not _is_grease(number)), default=hello.version)
    return _ja4(version, hello.ciphers, hello.extensions, alpn, hello.signature_algorithms)


@lru_cache(maxsize=512)  # a program always says the same, and sorting and hashing cost ten times a look-up
def _ja4(
    version: int, ciphers: tuple[int, ...], extensions: tuple[int, ...], alpn: bytes, algorithms: tuple[int, ...]
) -> str:
    ciphers = tuple(number for number in ciphers if not _is_grease(number))
    extensions = tuple(number for number in extensions if not _is_grease(number))
    algorithms = tuple(number for number in algorithms if not _is_grease(number))
    first = "t{}{}{:02d}{:02d}{}".format(
        _VERSIONS.get(version, "00"),
        "d" if 0 in extensions else "i",
        min(len(ciphers), 99),
        min(len(extensions), 99),
        _protocol(alpn),
    )
    second = _hash(_hexes(sorted(ciphers)))
    third = _hexes(sorted(number for number in extensions if number not in _UNHASHED))
    if algorithms and third:
        third += "_" + _hexes(algorithms)
    return f"{first}_{second}_{_hash(third)}"


def _is_grease(number: int) -> bool:
    """Whether a number is reserved to keep implementations tolerant (RFC 8701): 0x?a?a, twice the same octet."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def _protocol(alpn: bytes) -> str:
    """Return the first and last character of an ALPN name; of its hexadecimal form if either is not alphanumeric."""
    if not alpn:
        return "00"
    first, last = alpn[:1], alpn[-1:]
    if first.isalnum() and last.isalnum():
        return (first + last).decode("ascii")
    text = alpn.hex()
    return text[0] + text[-1]


def _hexes(numbers: Iterable[int]) -> str:
    return ",".join(f"{number:04x}" for number in numbers)


def _hash(text: str) -> str:
    return sha256(text.encode("ascii")).hexdigest()[:12] if text else _NOTHING


# Captured by letting each program, as its defaults are, connect to a listener on loopback that kept its ClientHello
# (the captures are beside the tests). OpenSSL pads a hello of 256 to 511 octets; these are of the usual, padded form.
# Left out, because several programs say exactly the same: pip and aiohttp (Python's own default context), requests,
# httpie and botocore (urllib3's context; with OpenSSL 3.5 `curl --http1.1` too), apt, lynx and gnutls-cli (GnuTLS's
# defaults), openssl s_client, axel, BusyBox and whatever else uses OpenSSL as it is, without ALPN; Ruby (Python 3.9
# says what Ruby 3.1 does).
TOOLS: dict[str, str] = {
    # curl 7.88.1, OpenSSL 3.0.19, Debian 12: `curl https://...`. Programs on libcurl with OpenSSL say the same.
    "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6": "curl",
    # The same with `--http1.1`, and with `--tls-max 1.2`.
    "t13d3112h1_e8f1e7e78f70_b26ce05bbdd6": "curl",
    "t12d2807h2_d943125447b4_a44c6288192a": "curl",
    # curl 8.14.1, OpenSSL 3.5.7, Debian 13: as it is, and with `--tls-max 1.2`.
    "t13d3013h2_1d37bd780c83_8537cf56674e": "curl",
    "t12d2708h2_a2460661a67a_eed5f1524d5c": "curl",
    # curl 7.74.0, OpenSSL 1.1.1w, Debian 11: as it is, with `--http1.1`, with `--tls-max 1.2`.
    "t13d3113h2_e8f1e7e78f70_ce5650b735ce": "curl",
    "t13d3113h1_e8f1e7e78f70_ce5650b735ce": "curl",
    "t12d2808h2_d943125447b4_dd0a478c1db3": "curl",
    # GNU Wget 1.21, 1.21.3 and 1.25.0, GnuTLS 3.7 and 3.8, Debian 11 to 13: `wget https://...`.
    "t13d291300_723694b0fccc_899037bd0b8c": "wget",
    # git 2.30.2 and 2.39.5, libcurl with GnuTLS 3.7, Debian 11 and 12: `git ls-remote https://...`. On Debian, git is
    # what uses it.
    "t13d2912h2_723694b0fccc_288f874c93d6": "git",
    # git 2.47.3, libcurl 8.14.1 with GnuTLS 3.8.9, Debian 13.
    "t13d2914h2_723694b0fccc_2cc26d266019": "git",
    # Python 3.11.2, OpenSSL 3.0, Debian 12: `urllib.request.urlopen`. http.client offers post-handshake auth.
    "t13d3113h1_e8f1e7e78f70_d339722ba4af": "python-urllib",
    # Python 3.12.1 and 3.13.0 as built by pyenv, OpenSSL 3.0.19: the same call, with Python's own list of ciphers.
    "t13d1813h1_85036bcba153_d339722ba4af": "python-urllib",
    # Python 3.13.5, OpenSSL 3.5.7, Debian 13.
    "t13d3014h1_1d37bd780c83_5ae85263eb3b": "python-urllib",
    # Node 20.20.2, and 12.22.12 of Debian 11: `https.get`, which npm uses too, and `fetch`.
    "t13d591000_a33745022dd6_1f22a2ca17c4": "node",
    "t13d5911h1_a33745022dd6_1f22a2ca17c4": "node",
    # Node 20.19.2, OpenSSL 3.5.7, Debian 13.
    "t13d521200_b262b3658495_ecd0401ec68b": "node",
    "t13d5213h1_b262b3658495_ecd0401ec68b": "node",
    # OpenJDK 17.0.15: `java.net.http.HttpClient`, and `URL.openStream`.
    "t13d3713h2_db35923f8641_7c76daad20ec": "java",
    "t13d371200_db35923f8641_7c76daad20ec": "java",
    # OpenJDK 21.0.12, Debian 13.
    "t13d3113h2_1d947a95fc68_7e1102d2036b": "java",
    "t13d311200_1d947a95fc68_7e1102d2036b": "java",
    # OpenJDK 11.0.24, Debian 11.
    "t13d4912h2_bd868743f55c_fa269c3d986d": "java",
    "t13d491100_bd868743f55c_fa269c3d986d": "java",
    # Go 1.15 and 1.19.8, on a processor with AES: `http.Get`. Go's cipher order changes between releases.
    "t13d1910h2_9dc949149365_97f8aa674fd9": "go",
    # Go 1.24.4, Debian 13.
    "t13d1911h2_9dc949149365_e7c285222651": "go",
    # PHP 7.4.33 and 8.2, Debian 11 and 12: `file_get_contents("https://...")`; PHP 8.4, Debian 13.
    "t13d751100_479067518aa3_d41ae481755e": "php",
    "t13d681100_13e0e9e1c501_8e6e362c5eac": "php",
    # LWP with IO::Socket::SSL 2.069, 2.081 and 2.089, Debian 11, 12 and 13: `LWP::UserAgent->new->get("https://...")`.
    "t13d241200_e4d65112872d_ccd0985badbe": "perl",
    "t13d311200_e8f1e7e78f70_ccd0985badbe": "perl",
    "t13d301300_1d37bd780c83_d2ecb6802617": "perl",
    # aria2 1.35 to 1.37, GnuTLS, Debian 11 to 13.
    "t13d291300_723694b0fccc_af435d46f2e2": "aria2",
}
"""Tools by fingerprint."""


def tool_of(fingerprint: str) -> str:
    """Return the tool that a fingerprint belongs to and to no other, or nothing."""
    return TOOLS.get(fingerprint, "")
