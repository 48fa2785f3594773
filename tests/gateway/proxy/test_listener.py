"""Tests of `gateway.proxy.listener`: one connection, fed octet by octet, with nothing real behind it.

What it does with real clients and origins is in tests/integration/test_proxy_splice.py.
"""

import asyncio
import base64
from collections.abc import Callable
from typing import cast

import bcrypt
import pytest

from gateway.decision import Decision, Reason
from gateway.htpasswd import Accounts
from gateway.policy import Policy
from gateway.proxy.authentication import Authenticator
from gateway.proxy.desk import Desk
from gateway.proxy.dial import Dialer
from gateway.proxy.listener import ClientConnection
from gateway.proxy.sweeper import Sweeper
from gateway.proxy.uploads import Uploads
from gateway.proxysection import ProxySection
from gateway.request import Client, Request, TlsHello
from tests.gateway.proxy.fakes import FakeTransport
from tests.integration.proxy_rig import Bench, Names, allow


class Taken:
    """An inspector that remembers what it was handed."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, TlsHello | None]] = []

    def take(
        self,
        transport: asyncio.Transport,
        received: bytes,
        client: Client,
        standing: str | None,
        hello: TlsHello | None,
        done: Callable[[], None],
    ) -> None:
        """Remember it, and count the client out."""
        self.received.append((received, hello))
        done()


class Broken(Bench):
    """A policy in which something breaks, but for what is refused already."""

    def decide(self, request: Request) -> Decision:
        """Break."""
        if getattr(request, "flaw", None) is None:
            raise RuntimeError("injected")
        return super().decide(request)


class Scene:
    """A desk, and a client at it."""

    def __init__(self, judge: Bench | None = None, accounts: Accounts | None = None, **limits: int) -> None:
        self.judge = judge or Bench(Policy(rules=[allow("good.test")]))
        self.inspector = Taken()
        self.sweeper = Sweeper()
        self.names = Names({})
        self.authenticator = Authenticator(lambda: accounts, asyncio.get_running_loop().time)
        section = ProxySection.model_validate({"limits": limits})
        self.desk = Desk(
            self.judge,
            lambda: section,
            Dialer(self.names),
            self.inspector,
            self.sweeper,
            self.authenticator,
            Uploads(),
        )
        self.connection, self.transport = self.arrive()

    def arrive(self) -> tuple[ClientConnection, FakeTransport]:
        """Accept a client."""
        connection, transport = ClientConnection(self.desk), FakeTransport()
        connection.connection_made(cast(asyncio.Transport, transport))
        return connection, transport

    def feed(self, data: bytes, *, whole: bool) -> str:
        """Send octets, at once or one by one; return what came back."""
        for piece in [data] if whole else [data[i : i + 1] for i in range(len(data))]:
            self.connection.data_received(piece)
            if self.transport.sent and not self.transport.sent.startswith(b"HTTP/1.1 200"):
                break  # refused: the connection belongs to somebody else
        return bytes(self.transport.sent).decode("latin-1")

    @property
    def denials(self) -> list[Reason]:
        """Reasons of what was recorded as denied."""
        return self.judge.ledger.denials


def connect(target: str, *fields: str) -> bytes:
    """Return a CONNECT request."""
    return "\r\n".join([f"CONNECT {target} HTTP/1.1", *fields, "", ""]).encode()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (connect("evil.test:443"), 403, Reason.DEFAULT_DENY),
        (connect("good.test"), 400, Reason.MALFORMED),
        (connect("good.test:443", "Host: evil.test:443"), 403, Reason.HOST_MISMATCH),
        (connect("169.254.169.254:443"), 403, Reason.METADATA_ADDRESS),
        (b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", 400, Reason.MALFORMED),
        (b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", 403, Reason.DEFAULT_DENY),
    ],
)
async def test_a_refusal_is_an_answer_and_one_line(sent: bytes, status: int, reason: Reason, whole: bool) -> None:
    """Status, reason and ledger agree, however the head is split, and no name is looked up."""
    scene = Scene()
    answer = scene.feed(sent, whole=whole)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert f"X-Gateway-Reason: {reason}\r\n" in answer
    assert scene.denials == [reason]
    assert scene.names.asked == []
    scene.sweeper.stop()


@pytest.mark.parametrize("whole", [True, False])
async def test_an_allowed_plain_request_goes_to_the_inspector(whole: bool) -> None:
    """With every octet that was received."""
    scene = Scene()
    sent = b"GET http://good.test/a HTTP/1.1\r\nHost: good.test\r\n\r\n"
    assert scene.feed(sent, whole=whole) == ""
    assert scene.inspector.received == [(sent, None)]
    scene.sweeper.stop()


async def test_what_breaks_denies() -> None:
    """Fault injection: a decision that raises is a 403 with reason internal-error, and a line."""
    scene = Scene(Broken(Policy()))
    answer = scene.feed(connect("good.test:443"), whole=True)
    assert answer.startswith("HTTP/1.1 403 ")
    assert "X-Gateway-Reason: internal-error" in answer
    assert scene.denials == [Reason.INTERNAL_ERROR]
    scene.sweeper.stop()


async def test_a_client_with_too_many_connections_is_turned_away() -> None:
    """The limit counts open connections; one that has ended makes room."""
    scene = Scene(connections_per_client=1)
    _, second = scene.arrive()
    assert b"X-Gateway-Reason: rate-limit" in second.sent
    scene.connection.connection_lost(None)
    assert scene.denials == [Reason.RATE_LIMIT]
    scene.sweeper.stop()


async def test_a_head_that_never_ends_is_bounded() -> None:
    """Octets beyond `limits.head` are refused, not kept."""
    scene = Scene(head=1024)
    answer = scene.feed(connect("good.test:443")[:-2] + b"X: " + b"a" * 2000, whole=True)
    assert answer.startswith("HTTP/1.1 431 ")
    assert scene.denials == [Reason.MALFORMED]
    scene.sweeper.stop()


async def test_a_tunnel_that_is_no_tls_gets_an_alert() -> None:
    """After the 200, the refusal is a TLS alert: access_denied (49)."""
    scene = Scene()
    answer = scene.feed(connect("good.test:443") + b"SSH-2.0-OpenSSH_9.2\r\n", whole=True)
    assert answer.startswith("HTTP/1.1 200 ")
    assert answer.encode("latin-1").endswith(b"\x00\x02\x02\x31")  # two octets: fatal, access_denied
    assert scene.denials == [Reason.NOT_TLS]
    scene.sweeper.stop()


USERS = Accounts({"batch": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()})
PROOF = "Proxy-Authorization: Basic " + base64.b64encode(b"batch:secret").decode()


async def _settled(scene: Scene) -> None:
    async with asyncio.timeout(20):
        while not scene.transport.sent and not scene.inspector.received:  # noqa: ASYNC110 -- a thread's work
            await asyncio.sleep(0.005)


async def test_a_request_waits_for_its_proof() -> None:
    """What comes meanwhile is kept, and handed over with the request."""
    scene = Scene(accounts=USERS)
    sent = f"GET http://good.test/a HTTP/1.1\r\nHost: good.test\r\n{PROOF}\r\n\r\n".encode()
    scene.connection.data_received(sent)
    scene.connection.data_received(b"GET http://good.test/b")
    assert scene.inspector.received == []
    await _settled(scene)
    assert scene.inspector.received == [(sent + b"GET http://good.test/b", None)]
    scene.sweeper.stop()
    scene.authenticator.close()


async def test_a_client_that_leaves_before_it_is_proven() -> None:
    """It is counted out, and nothing is decided for it."""
    scene = Scene(accounts=USERS)
    scene.connection.data_received(connect("good.test:443", PROOF))
    scene.connection.connection_lost(None)
    assert scene.desk.per_client == {}
    await asyncio.sleep(0.1)
    assert not scene.transport.sent
    assert scene.judge.ledger.lines == []
    scene.sweeper.stop()
    scene.authenticator.close()


async def test_a_look_at_what_is_waited_for_that_breaks_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault injection: what cannot be told to go on is ended, and its end is a denial with a line."""

    def broken(_: object) -> bool:
        raise RuntimeError("injected")

    scene = Scene(accounts=USERS)
    scene.connection.data_received(connect("good.test:443", PROOF))
    await asyncio.sleep(0)  # the proof begins in the next turn
    monkeypatch.setattr("gateway.proxy.listener._is_over", broken)
    scene.connection.check(0.0)
    await _settled(scene)
    assert scene.denials == [Reason.INTERNAL_ERROR]
    scene.sweeper.stop()
    scene.authenticator.close()


@pytest.mark.parametrize("place", ["recall", "prove"])
async def test_a_proof_that_breaks_denies(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault injection: an exception while a client is identified is a 403 with reason internal-error, and a line."""

    def broken(*_: object) -> None:
        raise RuntimeError("injected")

    scene = Scene(accounts=USERS)
    monkeypatch.setattr(scene.authenticator, place, broken)
    scene.connection.data_received(connect("good.test:443", PROOF))
    await _settled(scene)
    assert scene.transport.sent.startswith(b"HTTP/1.1 403 ")
    assert scene.denials == [Reason.INTERNAL_ERROR]
    scene.sweeper.stop()
    scene.authenticator.close()
