"""Getting a published list over HTTP: conditional, bounded in time, size and redirects, and told as a value.

What a list must look like is not judged here (`gateway.feeds.guards`), and nothing is written to disk.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.request import getproxies

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from gateway import __version__
from gateway.feeds.entry import printable
from gateway.feeds.packing import gunzip, too_large, unpack_file, unzstd
from gateway.feeds.reach import Judging, flaw_of_redirect

MAX_REDIRECTS: Final = 5
_CHUNK: Final = 1 << 16
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server said about the copy that we have, to be asked "anything newer?" with."""

    url: str
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A whole copy."""

    data: bytes
    """The list, unpacked."""
    published: bytes
    """The file as it was published, which may be packed: what digests and signatures are about."""
    validators: Validators


@dataclass(frozen=True, slots=True)
class NotModified:
    """The copy that we have is the newest."""

    url: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing usable, and why, in one line."""

    reason: str
    retry_after: float | None = None
    """Seconds for which the server asked to be left alone (RFC 9110 section 10.2.3)."""


type Received = Callable[[int, int | None], None]
"""Told the octets received so far, and the octets to expect where the server said so."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """The two ways out of this host (`gateway.feeds.reach`)."""

    named: aiohttp.ClientSession
    """To hosts that the catalogue names."""
    others: aiohttp.ClientSession
    """To hosts that publishers name, in redirects."""


@asynccontextmanager
async def open_sessions(resolver: AbstractResolver | None = None) -> AsyncIterator[Sessions]:
    """Open sessions for fetches: certificates verified, proxies from the environment, nothing unpacked unasked.

    The environment also says which certificates are trusted (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and names the proxies
    (`https_proxy`, `no_proxy` ...). Without a resolver, names are looked up as this host does it. The resolver is
    closed with the sessions.
    """
    inner = resolver or ThreadedResolver()
    proxies = {URL(url).host or "" for url in getproxies().values() if "://" in url}
    context = ssl.create_default_context()

    def session(*, named: bool) -> aiohttp.ClientSession:
        judging = Judging(inner, named=named, beyond=proxies)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=judging, ssl=context),
            trust_env=True,
            auto_decompress=False,  # it would unpack first and let us count afterwards
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"egress-gateway/{__version__}", "Accept-Encoding": "gzip, zstd"},
        )

    try:
        async with session(named=True) as named, session(named=False) as others:
            yield Sessions(named, others)
    finally:
        await inner.close()


async def fetch_any(
    sessions: Sessions,
    urls: tuple[str, ...],
    *,
    known: Validators | None,
    max_bytes: int,
    time_limit: float,
    flaw_of: Callable[[Fetched], Awaitable[str]],
    received: Received | None = None,
) -> Fetched | NotModified | Failed:
    """Try URLs in order, until one gives a copy in which `flaw_of` finds no flaw. The time is for each URL."""
    reasons: list[str] = []
    pauses: list[float] = []
    for url in urls:
        found = await fetch(
            sessions,
            url,
            known=known if known is not None and known.url == url else None,
            max_bytes=max_bytes,
            time_limit=time_limit,
            received=received,
        )
        if isinstance(found, Fetched):
            flaw = await flaw_of(found)
            if not flaw:
                return found
            found = Failed(flaw)
        if isinstance(found, NotModified):
            return found
        pauses.append(found.retry_after or 0.0)
        # The host alone: paths and queries may hold a subscriber's key.
        reasons.append(f"{URL(url).host}: {found.reason}")
    return Failed("; ".join(reasons), min(pauses, default=0.0) or None)


async def fetch(
    sessions: Sessions,
    url: str,
    *,
    known: Validators | None,
    max_bytes: int,
    time_limit: float,
    received: Received | None = None,
) -> Fetched | NotModified | Failed:
    """Get one URL. Failure is a value; only cancellation is raised."""
    try:
        async with asyncio.timeout(time_limit):
            return await _follow(sessions, url, known, max_bytes, received)
    except TimeoutError:
        return Failed(f"no complete answer within {time_limit:g} seconds")
    except _Refused as error:
        return Failed(str(error), error.retry_after)
    except aiohttp.ClientConnectorCertificateError as error:
        return Failed(f"its certificate is not valid: {_brief(error.certificate_error)}")
    except aiohttp.ClientConnectorError as error:
        return Failed(f"cannot connect: {_brief(error.os_error.strerror or error.os_error)}")
    except aiohttp.ClientPayloadError:
        return Failed("the connection ended in the middle of the list")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Failed(_brief(error) or type(error).__name__)


class _Refused(Exception):
    """The answer is not one that we take."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def _brief(error: object) -> str:
    return printable(" ".join(str(error).split())[:200])


async def _follow(
    sessions: Sessions, url: str, known: Validators | None, max_bytes: int, received: Received | None
) -> Fetched | NotModified:
    here = URL(url)
    named = here.host
    headers = _conditions(known)
    for _ in range(MAX_REDIRECTS + 1):
        # Followed by hand, because aiohttp would follow from https to http, and to any address.
        if here.host != named and (flaw := flaw_of_redirect(here.host or "")):
            raise _Refused(flaw)
        session = sessions.named if here.host == named else sessions.others
        async with session.get(here, headers=headers, allow_redirects=False, timeout=_NO_TIMEOUT) as response:
            if response.status in _REDIRECTS:
                here = next_url(here, response.headers.get("Location", ""))
                continue
            if response.status == HTTPStatus.NOT_MODIFIED and known is not None:
                return NotModified(url)
            if response.status != HTTPStatus.OK:
                pause = response.headers.get("Retry-After", "")
                raise _Refused(
                    f"HTTP {response.status} {_brief(response.reason or '')}".rstrip(),
                    # As a date it is rare, and our own pauses do.
                    float(pause) if pause.isascii() and pause.isdecimal() and len(pause) < 9 else None,
                )
            published = await _read(response, max_bytes, received)
            validators = Validators(
                url=url,
                etag=response.headers.get("ETag", ""),
                last_modified=response.headers.get("Last-Modified", ""),
            )
            return Fetched(data=unpack_file(published, max_bytes), published=published, validators=validators)
    raise _Refused(f"more than {MAX_REDIRECTS} redirects")


_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)  # `fetch` has one for all redirects together


def _conditions(known: Validators | None) -> dict[str, str]:
    headers = {}
    if known is not None and known.etag:
        headers["If-None-Match"] = known.etag
    if known is not None and known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    return headers


def next_url(here: URL, location: str) -> URL:
    """Return where a redirect leads.

    Raises:
        _Refused: nowhere that we would go: no location, another protocol, or from https down to http.
    """
    try:
        there = here.join(URL(location))
    except ValueError:
        there = URL()
    if not location or there.scheme not in ("http", "https") or not there.host:
        raise _Refused("redirects to nowhere")
    if here.scheme == "https" and there.scheme == "http":
        raise _Refused(f"redirects from https to plain http ({there.host})")
    return there


async def _read(response: aiohttp.ClientResponse, max_bytes: int, received: Received | None) -> bytes:
    unpack = _DECODERS.get(encoding := response.headers.get("Content-Encoding", "").strip().lower())
    if unpack is None:
        raise _Refused(f"is sent in an encoding that was not asked for ({_brief(encoding)})")
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        if received is not None:
            received(len(body), response.content_length)
    return unpack(bytes(body), max_bytes)


def _as_is(data: bytes, _: int) -> bytes:
    return data


_DECODERS: Final = {"": _as_is, "identity": _as_is, "gzip": gunzip, "x-gzip": gunzip, "zstd": unzstd}
