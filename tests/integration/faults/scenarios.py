"""What clients do while something breaks: one short scenario for each way through the proxy."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.selfcheck import http2
from gateway.selfcheck.client import start_tls
from tests.gateway.proxy.samples import a_hello
from tests.integration.faults.stand import HELLO, Stand

PATIENCE = 1.5
"""Seconds that a client waits for an answer. Every limit of the stand is shorter."""
EXECUTABLE = b"\x7fELF" + bytes(300)


def get(place: str, *fields: str, method: str = "GET") -> bytes:
    """Return a plain request."""
    return "\r\n".join([f"{method} http://{place}/ HTTP/1.1", f"Host: {place}", *fields, "", ""]).encode()


async def hear(reader: asyncio.StreamReader, until: bytes = HELLO, times: int = 1) -> bytes:
    """Return what comes up to the origin's words, or until the end."""
    heard = bytearray()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while heard.count(until) < times and (data := await reader.read(65536)):
                heard += data
    return bytes(heard)


async def ask(port: int, *sent: bytes, host: str = "127.0.0.1") -> bytes:
    """Send octets, hear, send the next."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
    heard = b""
    try:
        for each in sent:
            writer.write(each)
            heard += await hear(reader)
    except OSError:
        pass
    finally:
        await _leave(writer)
    return heard


async def _leave(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await asyncio.sleep(0)


async def tunnel(
    stand: Stand,
    name: str,
    *,
    port: int = 0,
    seen: bool = False,
    alpn: tuple[str, ...] = (),
    fields: str = "",
    host: str = "127.0.0.1",
) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a tunnel and do the handshake in it. Returns what was said in place of either, too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port or stand.port, local_addr=(host, 0))
    place = f"{name}:{stand.secure.port}"
    writer.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{fields}\r\n".encode())
    try:
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, TimeoutError, OSError) as error:
        return getattr(error, "partial", b""), reader, writer
    if b" 200 " not in head:
        return head, reader, writer
    try:
        await start_tls(writer, stand.context(seen=seen, alpn=alpn), name, seconds=PATIENCE)
    except (OSError, ssl.SSLError) as error:
        return f"handshake: {error}".encode(), reader, writer
    return b"", reader, writer


def fill(stand: Stand, sent: bytes) -> bytes:
    """Put the ports of the origins into what is sent."""
    ports = (
        (b"{good}", stand.good.port),
        (b"{secure}", stand.secure.port),
        (b"{evil}", stand.evil.port),
        (b"{self}", stand.port),
    )
    for name, port in ports:
        sent = sent.replace(name, b"%d" % port)
    return sent


def through(
    name: str,
    *,
    seen: bool = False,
    sent: bytes = b"",
    times: int = 1,
    proxy: str = "proxy",
    fields: str = "",
    host: str = "127.0.0.1",
) -> "Act":
    """A request inside a tunnel."""

    async def act(stand: Stand) -> bytes:
        port = getattr(stand, proxy).addresses[0][1]
        refused, reader, writer = await tunnel(stand, name, port=port, seen=seen, fields=fields, host=host)
        try:
            if refused:
                return refused
            request = sent or b"GET / HTTP/1.1\r\nHost: %s:{secure}\r\n\r\n" % name.encode()
            heard = b""
            for _ in range(times):
                writer.write(fill(stand, request))
                heard += await hear(reader)
            return heard
        except (OSError, ssl.SSLError):
            return b""
        finally:
            await _leave(writer)

    return act


def plainly(
    name: str,
    *fields: str,
    method: str = "GET",
    body: bytes = b"",
    times: int = 1,
    proxy: str = "proxy",
    host: str = "127.0.0.1",
) -> "Act":
    """Plain requests on one connection."""

    async def act(stand: Stand) -> bytes:
        one = get(f"{name}:{stand.good.port}", *fields, method=method) + body
        return await ask(getattr(stand, proxy).addresses[0][1], *[one] * times, host=host)

    return act


def raw(sent: bytes) -> "Act":
    """Octets as they are, with the ports of the origins in them."""

    async def act(stand: Stand) -> bytes:
        return await ask(stand.port, fill(stand, sent))

    return act


def twice(act: "Act") -> "Act":
    """The same once more, with what is remembered from the first time."""

    async def both(stand: Stand) -> bytes:
        return await act(stand) + await act(stand)

    return both


def over_http2(*more: tuple[bytes, bytes], times: int = 2) -> "Act":
    """Requests over one HTTP/2 connection."""

    async def act(stand: Stand) -> bytes:
        place = f"seen.test:{stand.secure.port}".encode()
        fields = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", place), (b":path", b"/"), *more)
        return await _in_http2(stand, http2.begin() + http2.requests(*[fields] * times), times)

    return act


async def two_places(stand: Stand) -> bytes:
    """Two requests at once that may not be sent to the same address."""
    place = f"split.test:{stand.secure.port}".encode()
    fields = [
        ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", place), (b":path", path))
        for path in (b"/here", b"/there")
    ]
    return await _in_http2(stand, http2.begin() + http2.requests(*fields), 1, "split.test")


async def _in_http2(stand: Stand, sent: bytes, times: int, name: str = "seen.test") -> bytes:
    refused, reader, writer = await tunnel(stand, name, seen=True, alpn=("h2",))
    try:
        if refused:
            return refused
        writer.write(sent)
        return http2.told(await hear(reader, times=times))
    except (OSError, ssl.SSLError):
        return b""
    finally:
        await _leave(writer)


async def websocket(stand: Stand) -> bytes:
    """A WebSocket, a message in it, and its end."""
    upgrade = get(
        f"good.test:{stand.good.port}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.port)
    try:
        writer.write(upgrade)
        heard = await hear(reader, b"\r\n\r\n")
        if b" 101 " not in heard:
            return heard
        writer.write(b"\x81\x82\0\0\0\0hi")
        heard += await hear(reader)
        writer.write(b"\x88\x80\0\0\0\0")
        return heard + await hear(reader, b"\x88\x00")
    except OSError:
        return b""
    finally:
        await _leave(writer)


def leaving(sent: bytes, *, half: bool = False) -> "Act":
    """A client that goes away, or ends what it says, when something was sent."""

    async def act(stand: Stand) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", stand.port)
        try:
            writer.write(fill(stand, sent))
            if half:
                writer.write_eof()
                return await hear(reader)
            await asyncio.sleep(0.03)
            return b""
        except OSError:
            return b""
        finally:
            await _leave(writer)

    return act


def _somebody(stand: Stand) -> tuple[int, str]:
    """Return a number and an address that nobody had before."""
    number = next(stand.users)
    return number, f"127.1.{number // 250}.{number % 250 + 1}"


def too_much(*, spliced: bool) -> "Act":
    """Somebody who sends more than may be, from an address whose budget is whole."""

    async def act(stand: Stand) -> bytes:
        _, host = _somebody(stand)
        if spliced:
            return await through("tiny.test", host=host)(stand)
        body = b"190\r\n" + b"x" * 400 + b"\r\n0\r\n\r\n"
        return await plainly("tiny.test", "Transfer-Encoding: chunked", method="POST", body=body, host=host)(stand)

    return act


def with_password(*, spliced: bool) -> "Act":
    """Somebody whose password was never checked before."""

    async def act(stand: Stand) -> bytes:
        number, host = _somebody(stand)  # each address has ten tries
        field = _proof(number)
        if spliced:
            return await through("users.test", fields=f"{field}\r\n", host=host)(stand)
        return await plainly("users.test", field, host=host)(stand)

    return act


async def changed_before_the_hello(stand: Stand) -> bytes:
    """Somebody whose password changes between CONNECT and ClientHello."""
    number, host = _somebody(stand)
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.port, local_addr=(host, 0))
    try:
        writer.write(fill(stand, b"CONNECT users.test:{secure} HTTP/1.1\r\n%s\r\n\r\n" % _proof(number).encode()))
        heard = await hear(reader, b"\r\n\r\n")
        if b" 200 " not in heard:
            return heard
        stand.runtime.swap(stand.states[3])
        writer.write(a_hello(b"users.test"))
        return await hear(reader)
    except OSError:
        return b""
    finally:
        stand.runtime.swap(stand.states[0])
        await _leave(writer)


async def kept(stand: Stand) -> bytes:
    """A request behind another on the same connection, the second to somewhere else."""
    return await ask(stand.port, get(f"good.test:{stand.good.port}"), get(f"two.test:{stand.good.port}"))


async def balanced(stand: Stand) -> bytes:
    """Through a load balancer."""
    port = stand.doors.addresses[0][1]
    header = b"PROXY TCP4 198.51.100.1 127.0.0.1 40000 3128\r\n"
    return await ask(port, header + get(f"good.test:{stand.good.port}"), host="127.0.0.9")


async def certified(stand: Stand) -> bytes:
    """Over TLS, with a client certificate."""
    context = ssl.create_default_context(cafile=str(stand.folder / "server.pem"))
    context.load_cert_chain(stand.client_certificate)
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", stand.doors.addresses[1][1], ssl=context, ssl_handshake_timeout=PATIENCE
        )
    except OSError as error:
        return f"handshake: {error}".encode()
    try:
        writer.write(get(f"good.test:{stand.good.port}"))
        return await hear(reader)
    except OSError:
        return b""
    finally:
        await _leave(writer)


type Opened = tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]


def rejudged(open_one: Callable[[Stand], Awaitable[Opened]], state: int = 1) -> "Act":
    """Something that is open while another policy comes into force, under which it is denied."""

    async def act(stand: Stand) -> bytes:
        refused, reader, writer = await open_one(stand)
        try:
            if refused:
                return refused
            stand.runtime.swap(stand.states[state])
            try:
                with contextlib.suppress(OSError, ssl.SSLError):
                    async with asyncio.timeout(0.3):  # some rounds of the sweeper
                        while await reader.read(65536):
                            pass
            except TimeoutError:
                pass
            with contextlib.suppress(OSError, ssl.SSLError):
                writer.write(f"GET / HTTP/1.1\r\nHost: going.test:{stand.secure.port}\r\n\r\n".encode())
                return await hear(reader)
            return b""
        finally:
            stand.runtime.swap(stand.states[0])
            await _leave(writer)

    return act


async def open_tunnel(stand: Stand) -> Opened:
    """A spliced tunnel to a name that the other policy does not allow."""
    return await tunnel(stand, "going.test")


async def open_websocket(stand: Stand) -> Opened:
    """A WebSocket to such a name."""
    place = f"going.test:{stand.good.port}"
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.port)
    writer.write(get(
        place, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ))  # fmt: skip
    heard = await hear(reader, b"\r\n\r\n")
    return b"" if b" 101 " in heard else heard or b"closed", reader, writer


def _proof(number: int) -> str:
    return f"Proxy-Authorization: Basic {base64.b64encode(f'u{number}:secret'.encode()).decode()}"


async def open_as_somebody(stand: Stand) -> Opened:
    """An inspected tunnel of somebody whose password changes, without a request in it."""
    number, host = _somebody(stand)
    return await tunnel(stand, "ours.test", seen=True, fields=f"{_proof(number)}\r\n", host=host)


async def upload_as_somebody(stand: Stand) -> Opened:
    """The same, in the middle of an upload."""
    refused, reader, writer = await open_as_somebody(stand)
    if not refused:
        place = f"ours.test:{stand.secure.port}"
        writer.write(f"POST / HTTP/1.1\r\nHost: {place}\r\nContent-Length: 1000\r\n\r\nx".encode())
        await asyncio.sleep(0.05)
    return refused, reader, writer


async def plainly_as_somebody(stand: Stand) -> Opened:
    """The same without a tunnel."""
    number, host = _somebody(stand)
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.port, local_addr=(host, 0))
    place = f"users.test:{stand.good.port}"
    writer.write(get(place, _proof(number), "Content-Length: 1000", method="POST") + b"x")
    await asyncio.sleep(0.05)
    return b"", reader, writer


type Act = Callable[[Stand], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a client does, and what it gets while nothing is broken."""

    act: Act
    served: int = 1
    """How often the origin's words arrive."""
    lines: int = 1
    """Entries in the ledger."""


_CONNECT = b"CONNECT good.test:{secure} HTTP/1.1\r\nHost: good.test:{secure}\r\n\r\n"

_CHUNKED = b"POST http://good.test:{good}/ HTTP/1.1\r\nHost: good.test:{good}\r\nTransfer-Encoding: chunked\r\n\r\n"
_INSIDE = _CONNECT.replace(b"good.test", b"inside.test")
_DELETE = b"DELETE / HTTP/1.1\r\nHost: seen.test:{secure}\r\n\r\n"

SCENARIOS: dict[str, Scenario] = {
    "plain": Scenario(plainly("good.test")),
    "spliced": Scenario(through("good.test")),
    "spliced, and again": Scenario(twice(through("good.test")), served=2, lines=2),
    "inspected": Scenario(through("seen.test", seen=True)),
    "inspected, HTTP/2": Scenario(over_http2(), served=2, lines=2),
    "second request": Scenario(kept, served=2, lines=2),
    "same place again": Scenario(plainly("good.test", times=2), served=2, lines=2),
    "two inspected": Scenario(through("seen.test", seen=True, times=2), served=2, lines=2),
    "upload, plain": Scenario(
        plainly("capped.test", "Content-Length: 2000", method="POST", body=b"x" * 2000)
    ),
    "upload, spliced": Scenario(through("capped.test")),
    "answer looked at": Scenario(plainly("looked.test")),
    "WebSocket": Scenario(websocket),
    "unanswered": Scenario(plainly("good.test", "X-Test: hang up"), 0),
    "password, plain": Scenario(with_password(spliced=False)),
    "password, CONNECT": Scenario(with_password(spliced=True)),
    "password, changed": Scenario(changed_before_the_hello, 0),
    "two addresses": Scenario(through("two.test")),
    "tenants": Scenario(plainly("login.microsoftonline.com")),
    "parent, plain": Scenario(plainly("good.test", proxy="chained")),
    "parent, spliced": Scenario(through("good.test", proxy="chained")),
    "load balancer": Scenario(balanced),
    "client certificate": Scenario(certified),
    "reload, tunnel": Scenario(rejudged(open_tunnel), served=0),
    "reload, WebSocket": Scenario(rejudged(open_websocket), served=0),
    "reload, to look inside": Scenario(rejudged(open_tunnel, 2), served=0),
    "reload, password": Scenario(rejudged(open_as_somebody, 3), served=0),
    "reload, password, inside": Scenario(rejudged(upload_as_somebody, 3), served=0),
    "reload, password, plain": Scenario(rejudged(plainly_as_somebody, 3), served=0),
    "pinned": Scenario(through("pinned.test", seen=True)),
    "another pin": Scenario(through("other.test", seen=True), 0),
    "too large an answer": Scenario(plainly("limited.test"), 0),
    "too large an answer, in pieces": Scenario(plainly("limited.test", "X-Test: chunked"), 0),
    "denied, plain": Scenario(raw(b"GET http://evil.test:{evil}/ HTTP/1.1\r\nHost: evil.test:{evil}\r\n\r\n"), 0),
    "denied, CONNECT": Scenario(raw(b"CONNECT evil.test:{evil} HTTP/1.1\r\n\r\n"), 0),
    "denied, address": Scenario(raw(b"GET http://127.0.0.2:{evil}/ HTTP/1.1\r\nHost: 127.0.0.2:{evil}\r\n\r\n"), 0),
    "denied, hello": Scenario(raw(_CONNECT + a_hello(b"evil.test")), 0),
    "denied inside": Scenario(through("seen.test", seen=True, sent=_DELETE), 0),
    "malformed": Scenario(raw(b"GET / HTTP/1.1\r\nHost: a\nb\r\n\r\n"), 0),
    "malformed body": Scenario(raw(_CHUNKED + b"-1\r\nx\r\n0\r\n\r\n"), 0),
    "malformed inside": Scenario(through("seen.test", seen=True, sent=b"GET / HTTP/1.1\nHost: seen.test\n\n"), 0),
    "many fields, HTTP/2": Scenario(over_http2(*[(b"x-%d" % n, b"y") for n in range(120)], times=1), 0),
    "denied, resolved": Scenario(raw(get("inside.test:{good}")), 0),
    "denied, resolved, CONNECT": Scenario(raw(_INSIDE + a_hello(b"inside.test")), 0),
    "no address": Scenario(raw(get("nowhere.test:{good}")), 0),
    "itself": Scenario(raw(get("good.test:{self}")), 0),
    "nobody there": Scenario(raw(get("good.test:1")), 0),
    "nobody there, CONNECT": Scenario(raw(b"CONNECT good.test:1 HTTP/1.1\r\n\r\n" + a_hello()), 0),
    "strange answer": Scenario(plainly("good.test", "X-Test: strange"), 0),
    "no TLS": Scenario(raw(_CONNECT + b"SSH-2.0-x\r\n"), 0),
    "half a head": Scenario(raw(b"GET http://good.test:{good}/ HTTP/1.1\r\nHost: "), 0),
    "half a hello": Scenario(raw(_CONNECT + a_hello()[:-1]), 0),
    "wrong password": Scenario(plainly("users.test", "Proxy-Authorization: Basic eDp5"), 0),
    "gone in a head": Scenario(leaving(b"GET http://good.test:{good}/ HTTP/1.1\r\nHost: "), 0, lines=0),
    "gone after CONNECT": Scenario(leaving(_CONNECT), 0),
    "gone in a hello": Scenario(leaving(_CONNECT + a_hello()[:-1]), 0),
    "ended behind a hello": Scenario(leaving(_CONNECT + a_hello(), half=True), 0),
    "too much, in pieces": Scenario(too_much(spliced=False), 0),
    "too much, spliced": Scenario(too_much(spliced=True), 0),
    "too much": Scenario(
        plainly("capped.test", "Content-Length: 200000", method="POST", body=b"x" * 1000), 0
    ),
    "two places": Scenario(two_places, lines=4),
}  # fmt: skip
"""By name. The first that comes to a place is taken: those with several requests are last."""
