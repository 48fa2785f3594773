"""Fetching from a server that does what servers do."""

import datetime
import gzip
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from gateway.feeds.fetch import (
    MAX_REDIRECTS,
    Failed,
    Fetched,
    NotModified,
    Sessions,
    Validators,
    fetch,
    fetch_any,
    next_url,
    open_sessions,
)
from tests.peers.feed_server import FeedServer

LIST = b"".join(b"host%d.example\n" % number for number in range(2000))


@pytest.fixture
async def server() -> AsyncIterator[FeedServer]:
    """Return a running publisher."""
    async with FeedServer.running() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[Sessions]:
    """Return the sessions that a refresh would use."""
    async with open_sessions() as opened:
        yield opened


async def get(
    session: Sessions,
    url: str,
    *,
    known: Validators | None = None,
    max_bytes: int = 1 << 20,
    time_limit: float = 10,
) -> Fetched | NotModified | Failed:
    """Fetch with limits that suit a test."""
    return await fetch(session, url, known=known, max_bytes=max_bytes, time_limit=time_limit)


async def test_a_copy_and_its_validators(server: FeedServer, session: Sessions) -> None:
    """A list comes whole, with what the server says about its age."""
    url = server.publish("/list", LIST, etag='"7"', modified="Sat, 01 Nov 2025 00:00:00 GMT")
    found = await get(session, url)
    assert found == Fetched(
        data=LIST,
        published=LIST,
        validators=Validators(url=url, etag='"7"', last_modified="Sat, 01 Nov 2025 00:00:00 GMT"),
    )


@pytest.mark.parametrize("known", [{"etag": '"7"'}, {"last_modified": "Sat, 01 Nov 2025 00:00:00 GMT"}])
async def test_nothing_new(server: FeedServer, session: Sessions, known: dict[str, str]) -> None:
    """What is known is not sent again."""
    url = server.publish("/list", LIST, etag='"7"', modified="Sat, 01 Nov 2025 00:00:00 GMT")
    assert await get(session, url, known=Validators(url=url, **known)) == NotModified(url)


async def test_not_modified_without_being_asked(server: FeedServer, session: Sessions) -> None:
    """A server that says "not modified" to who has nothing is not believed."""
    url = server.publish("/list", b"", status=304)
    assert await get(session, url) == Failed("HTTP 304 Not Modified")


@pytest.mark.parametrize("status", [204, 206, 404, 410, 500, 503])
async def test_answers_that_are_no_list(server: FeedServer, session: Sessions, status: int) -> None:
    """Anything but 200 is a failure, told with its status."""
    found = await get(session, server.publish("/list", b"", status=status))
    assert isinstance(found, Failed)
    assert found.reason.startswith(f"HTTP {status}")


async def test_packed_for_transport(server: FeedServer, session: Sessions) -> None:
    """A body sent with gzip is unpacked, in one member or several."""
    found = await get(session, server.publish_gzip("/list", LIST))
    assert isinstance(found, Fetched)
    assert found.data == LIST
    members = gzip.compress(LIST) + gzip.compress(b"more.example\n")
    found = await get(session, server.publish("/two", members, headers={"Content-Encoding": "gzip"}))
    assert isinstance(found, Fetched)
    assert found.data == LIST + b"more.example\n"
    url = server.publish("/zstd", zstandard.compress(LIST), headers={"Content-Encoding": "zstd"})
    found = await get(session, url)
    assert isinstance(found, Fetched)
    assert (found.data, found.published) == (LIST, LIST)
    assert server.requests[-1][1]["Accept-Encoding"] == "gzip, zstd"


async def test_packed_files(server: FeedServer, session: Sessions) -> None:
    """A list that is published as a packed file is unpacked; what was published is kept for its signature."""
    packed = gzip.compress(LIST)
    found = await get(session, server.publish("/list.gz", packed))
    assert isinstance(found, Fetched)
    assert (found.data, found.published) == (LIST, packed)


async def test_a_server_that_asks_for_a_pause(server: FeedServer, session: Sessions) -> None:
    """What a server says about when to come again is heard, if it is a number of seconds."""
    url = server.publish("/list", b"", status=429, headers={"Retry-After": "600"})
    assert await get(session, url) == Failed("HTTP 429 Too Many Requests", 600.0)
    server.publish("/list", b"", status=503, headers={"Retry-After": "Sat, 01 Nov 2025 00:00:00 GMT"})
    assert await get(session, url) == Failed("HTTP 503 Service Unavailable")


async def test_the_proxy_of_the_environment(server: FeedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names is asked, and looks the name up itself."""
    monkeypatch.setenv("http_proxy", server.url)
    server.publish("/list", LIST)
    async with open_sessions() as session:
        found = await get(session, "http://lists.example/list")
    assert isinstance(found, Fetched)
    assert server.requests[-1][1]["Host"] == "lists.example"


async def test_a_bundle_of_the_environment(tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that the bundle of the environment vouches for is good."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    async with FeedServer.running(tls[0]) as server, open_sessions() as session:
        assert isinstance(await get(session, server.publish("/list", LIST)), Fetched)


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (gzip.compress(LIST)[:-20], "gzip", "ends in the middle of its gzip data"),
        (LIST, "gzip", "is not the gzip data that it claims to be"),
        (zstandard.compress(LIST)[:-20], "zstd", "ends in the middle of its zstd data"),
        (LIST, "zstd", "is not the zstd data that it claims to be"),
        (LIST, "zz", "is sent in an encoding that was not asked for (zz)"),
    ],
)
async def test_badly_packed(server: FeedServer, session: Sessions, body: bytes, encoding: str, reason: str) -> None:
    """What cannot be unpacked is a failure."""
    url = server.publish("/list", body, headers={"Content-Encoding": encoding})
    assert await get(session, url) == Failed(reason)


async def test_too_much(server: FeedServer, session: Sessions) -> None:
    """A body over the limit is given up, by what it unpacks to: a few octets can become gigabytes."""
    limit = len(LIST)
    assert isinstance(await get(session, server.publish("/list", LIST), max_bytes=limit), Fetched)
    assert isinstance(await get(session, server.publish_gzip("/list", LIST), max_bytes=limit), Fetched)
    reason = f"is larger than max_bytes ({limit - 1}B)"
    assert await get(session, server.publish("/list", LIST), max_bytes=limit - 1) == Failed(reason)
    assert await get(session, server.publish_gzip("/list", LIST), max_bytes=limit - 1) == Failed(reason)
    bomb = server.publish_gzip("/bomb", bytes(50_000_000))
    assert await get(session, bomb, max_bytes=limit - 1) == Failed(reason)


async def test_a_server_that_never_ends(server: FeedServer, session: Sessions) -> None:
    """The time for a fetch is limited as a whole."""
    url = server.publish("/list", LIST, stall=True)
    assert await get(session, url, time_limit=0.3) == Failed("no complete answer within 0.3 seconds")


async def test_half_a_list(server: FeedServer, session: Sessions) -> None:
    """A body shorter than announced is no list."""
    url = server.publish("/list", LIST, cut=True)
    assert await get(session, url) == Failed("the connection ended in the middle of the list")


async def test_redirects(server: FeedServer, session: Sessions) -> None:
    """A few redirects are followed, and the validators are for the URL that was asked."""
    server.publish("/list", LIST)
    for number in range(MAX_REDIRECTS + 1):
        target = "/list" if number == 0 else f"/{number - 1}"
        server.publish(f"/{number}", b"", status=302, headers={"Location": target})
    found = await get(session, f"{server.url}/{MAX_REDIRECTS - 1}")
    assert isinstance(found, Fetched)
    assert found.validators.url == f"{server.url}/{MAX_REDIRECTS - 1}"
    assert await get(session, f"{server.url}/{MAX_REDIRECTS}") == Failed("more than 5 redirects")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("", "redirects to nowhere"),
        ("file:///etc/passwd", "redirects to nowhere"),
        ("http://", "redirects to nowhere"),
        ("http://b.example/", r"redirects from https to plain http \(b.example\)"),
    ],
)
def test_redirects_that_are_not_followed(location: str, reason: str) -> None:
    """A redirect to another protocol, or down to plain http, is refused."""
    with pytest.raises(Exception, match=reason):
        next_url(URL("https://a.example/list"), location)


async def test_nobody_there(session: Sessions) -> None:
    """A port that nobody listens on is a failure, in plain words."""
    found = await get(session, "http://127.0.0.1:1/")
    assert isinstance(found, Failed)
    assert found.reason.startswith("cannot connect: ")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """Return a server context with a certificate that nobody vouches for, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    folder: Path = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


async def test_certificates_are_verified(tls: tuple[ssl.SSLContext, Path], session: Sessions) -> None:
    """A certificate that nobody vouches for is not accepted."""
    async with FeedServer.running(tls[0]) as server:
        found = await get(session, server.publish("/list", LIST))
        assert isinstance(found, Failed)
        assert found.reason.startswith("its certificate is not valid: ")
        assert server.requests == []


async def test_mirrors_in_order(server: FeedServer, session: Sessions) -> None:
    """The next mirror is asked when one fails or has a copy with a flaw; validators go only where they came from."""
    urls = (f"{server.url}/none", server.publish("/bad", b"bad", etag='"7"'), server.publish("/good", LIST))
    known = Validators(url=urls[2], etag='"7"')

    async def flaw_of(found: Fetched) -> str:
        return "is bad" if found.data == b"bad" else ""

    found = await fetch_any(session, urls, known=known, max_bytes=1 << 20, time_limit=10, flaw_of=flaw_of)
    assert isinstance(found, Fetched)
    assert found.validators.url == urls[2]
    assert [("If-None-Match" in headers) for _, headers in server.requests] == [False, False, True]
    found = await fetch_any(session, urls[:2], known=None, max_bytes=1 << 20, time_limit=10, flaw_of=flaw_of)
    assert found == Failed("127.0.0.1: HTTP 404 Not Found; 127.0.0.1: is bad")


async def test_progress_is_told(server: FeedServer, session: Sessions) -> None:
    """Who shows progress hears how much there is, and how much has come."""
    told: list[tuple[int, int | None]] = []
    url = server.publish("/list", LIST)
    await fetch(session, url, known=None, max_bytes=1 << 20, time_limit=10, received=lambda *args: told.append(args))
    assert told[-1] == (len(LIST), len(LIST))
