"""Who the client is: curl with passwords, certificates and PROXY headers against a running proxy."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from gateway.decision import Reason
from gateway.htpasswd import Accounts
from gateway.policy import Policy
from gateway.proxy.responses import ALERT_ACCESS_DENIED
from gateway.proxy.tls import TlsFiles
from gateway.request import Client
from gateway.rule import ClientGroup
from gateway.selfcheck.client import start_tls
from tests.builders import networks
from tests.gateway.proxy.samples import a_hello
from tests.integration.proxy_rig import Rig, a_proxy, allow, client_context, inspect, until
from tests.peers.certificates import Authority
from tests.peers.http_origin import Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate

BATCH = ClientGroup(name="batch", addresses=networks("127.0.0.0/8"), users=frozenset(["batch"]))
MACHINE = ClientGroup(name="machine", certificates=frozenset(["CN=batch,O=Example", "DNS:spare.example"]))
FRONT = ClientGroup(name="front", addresses=networks("192.0.2.0/24", "2001:db8::/32"))
HASHES = {
    "batch": bcrypt.hashpw(b"pa:ss w\xc3\xb6rd", bcrypt.gensalt(4)).decode(),
    "anna": bcrypt.hashpw(b"anna", bcrypt.gensalt(4)).decode(),
}
NOBODY = Reason.PORT
"""Why nobody else gets through: the origins have odd ports, which only the rule for the group opens."""
PASSWORD = "batch:pa:ss wörd"
LINE = b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 3128\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test", "seen.test", "127.0.0.1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority for client certificates."""
    return Authority(tmp_path_factory.mktemp("ca"))


@contextlib.asynccontextmanager
async def with_users(folder: Path, *, required: bool = False, **more: Any) -> AsyncIterator[Rig]:
    """Run a proxy that lets the user `batch` reach `good.test`, by splicing, and `seen.test`, by inspecting."""
    rules = (allow("good.test", clients=("batch",)), replace(inspect("seen.test"), clients=("batch",)))
    accounts = Accounts(HASHES, required)
    async with a_proxy(folder, *rules, clients=[BATCH], accounts=lambda: accounts, **more) as rig:
        yield rig


def authorization(text: str) -> str:
    """Return a Proxy-Authorization field for `user:password`."""
    return "Proxy-Authorization: Basic " + base64.b64encode(text.encode()).decode()


def get(target: str, *fields: str) -> bytes:
    """Return a plain request through the proxy."""
    return "\r\n".join([f"GET http://{target}/ HTTP/1.1", f"Host: {target}", *fields, "", ""]).encode()


def who(rig: Rig) -> list[Client]:
    """Return whom the ledger knows as the clients of what has ended."""
    return [line.request.client for line in rig.ledger.ended]


@pytest.mark.parametrize("name", ["good.test", "seen.test"])
async def test_password(tmp_path: Path, certificate: Path, name: str) -> None:
    """`curl -U` proves a user, for CONNECT and in plain, spliced and inspected; the origin never sees how."""
    async with (
        TlsOrigin(certificate=certificate) as origin,
        Origin() as plain,
        with_users(tmp_path, trust=certificate) as rig,
    ):
        trusted = "--cacert", str(certificate if name == "good.test" else rig.proxy.certificate)
        answer = await rig.curl("-U", PASSWORD, *trusted, f"https://{name}:{origin.port}/")
        assert answer.out == "hello from the origin\n", answer.err
        answer = await rig.curl("-U", PASSWORD, f"http://{name}:{plain.port}/")
        assert answer.out == "hello from the origin\n", answer.err
        await rig.settled()
        assert [client.user for client in who(rig)] == ["batch", "batch"]
        assert rig.ledger.denials == []
        sent = b"".join(origin.requests + plain.requests).lower()
        assert b"proxy-authorization" not in sent
        assert len(origin.requests + plain.requests) == 2


@pytest.mark.parametrize("required", [True, False])
async def test_no_password(tmp_path: Path, required: bool) -> None:
    """Without a password it is 407 where one is required, and 403 where rules for users do not match."""
    async with Origin() as origin, with_users(tmp_path, required=required) as rig:
        for url in (f"http://good.test:{origin.port}/", f"https://good.test:{origin.port}/"):
            answer = await rig.curl("-v", url)
            assert ("< HTTP/1.1 407 Proxy Authentication Required" in answer.err) is required
            assert ("< Proxy-Authenticate: Basic realm=" in answer.err) is required
        reason = Reason.AUTH_REQUIRED if required else NOBODY
        assert rig.ledger.denials == [reason, reason]
        assert rig.names.asked == []
        assert origin.untouched


@pytest.mark.parametrize("password", ["batch:wrong", "nobody:wrong", "anna:pa:ss wörd", "batch:"])
async def test_wrong_password(tmp_path: Path, password: str) -> None:
    """A wrong password is 407, required or not, and one line that holds neither name nor password."""
    async with Origin() as origin, with_users(tmp_path) as rig:
        answer = await rig.curl("-v", "-U", password, f"http://good.test:{origin.port}/")
        assert "< HTTP/1.1 407 " in answer.err
        assert "X-Gateway-Reason: auth-failed" in answer.err
        assert rig.ledger.denials == [Reason.AUTH_FAILED]
        line = rig.ledger.lines[0]
        assert line.request.client.user is None
        assert "wrong user name or password" in line.decision.detail
        assert origin.untouched


async def test_other_user(tmp_path: Path) -> None:
    """Who proves to be somebody else is denied by the policy, with 403."""
    async with Origin() as origin, with_users(tmp_path, required=True) as rig:
        answer = await rig.curl("-v", "-U", "anna:anna", f"https://good.test:{origin.port}/")
        assert "< HTTP/1.1 403 " in answer.err
        assert rig.ledger.denials == [NOBODY]
        assert rig.ledger.lines[0].request.client.user == "anna"


async def test_each_request(tmp_path: Path) -> None:
    """On one connection, each plain request is whoever's it says: what was proven before is not lent to the next."""
    async with Origin() as origin, with_users(tmp_path) as rig:
        target = f"good.test:{origin.port}"
        proven = get(target, authorization(PASSWORD))
        answer = await rig.ask(proven + proven + get(target) + proven)
        assert answer.count(b"HTTP/1.1 200 ") == 2
        assert answer.count(b"HTTP/1.1 ") == 3
        assert f"X-Gateway-Reason: {NOBODY}".encode() in answer
        await rig.settled()
        assert len(origin.requests) == 2
        assert rig.ledger.denials == [NOBODY]


async def test_half_closed(tmp_path: Path) -> None:
    """A client that ends its side while its password is checked is not kept waiting, and leaves one line."""
    async with Origin() as origin, with_users(tmp_path) as rig:
        _, writer = await rig.connect()
        writer.write(get(f"good.test:{origin.port}", authorization(PASSWORD), "Connection: close"))
        writer.write_eof()
        await until(lambda: rig.ledger.lines)
        await rig.settled()
        assert len(rig.ledger.lines) == 1
        writer.close()


async def test_hello_right_behind(tmp_path: Path, certificate: Path) -> None:
    """What a client sends behind its CONNECT is not lost while the password is checked."""
    async with TlsOrigin(certificate=certificate) as origin, with_users(tmp_path) as rig:
        target = f"good.test:{origin.port}"
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = client_context(certificate).wrap_bio(incoming, outgoing, server_hostname="good.test")
        with contextlib.suppress(ssl.SSLWantReadError):
            handshake.do_handshake()
        reader, writer = await rig.connect()
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization(PASSWORD)}\r\n\r\n".encode()
        writer.write(head + outgoing.read())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert (await asyncio.wait_for(reader.readexactly(1), 20)) == b"\x16"
        writer.close()
        await rig.settled()


async def test_changed_password(tmp_path: Path) -> None:
    """An account that is taken away, or gets another password, is out at once, whatever was remembered."""
    hashes = dict(HASHES)
    rule = allow("good.test", clients=("batch",))
    async with (
        Origin() as origin,
        a_proxy(tmp_path, rule, clients=[BATCH], accounts=lambda: Accounts(dict(hashes))) as rig,
    ):
        url = f"http://good.test:{origin.port}/"
        assert (await rig.curl("-U", PASSWORD, url)).out == "hello from the origin\n"
        hashes["batch"] = HASHES["anna"]
        assert "auth-failed" in (await rig.curl("-U", PASSWORD, url)).out
        assert (await rig.curl("-U", "batch:anna", url)).out == "hello from the origin\n"
        del hashes["batch"]
        assert "auth-failed" in (await rig.curl("-U", "batch:anna", url)).out


@pytest.mark.parametrize("stage", ["hello", "dialling", "plain"])
@pytest.mark.parametrize("change", ["password", "account"])
async def test_changed_password_on_the_way(tmp_path: Path, certificate: Path, stage: str, change: str) -> None:
    """Who asks with an account that changes before there is a connection to the origin gets none."""
    hashes = dict(HASHES)
    rule = allow("good.test", clients=("batch",))
    async with (
        Origin() as origin,
        a_proxy(tmp_path, rule, clients=[BATCH], accounts=lambda: Accounts(dict(hashes))) as rig,
    ):
        target = f"good.test:{origin.port}"

        def reload(_: str = "") -> None:
            del hashes["batch"]
            if change == "password":
                hashes["batch"] = HASHES["anna"]
            rig.judge.generation += 1

        if stage != "hello":
            rig.names.before = reload
        reader, writer = await rig.connect()
        if stage == "plain":
            writer.write(get(target, authorization(PASSWORD)))
            assert b"407" in await asyncio.wait_for(reader.readline(), 20)
        else:
            writer.write(f"CONNECT {target} HTTP/1.1\r\n{authorization(PASSWORD)}\r\n\r\n".encode())
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            if stage == "hello":
                reload()
            writer.write(a_hello())
            assert await asyncio.wait_for(reader.read(), 20) == ALERT_ACCESS_DENIED
        writer.close()
        assert rig.ledger.denials == [Reason.AUTH_FAILED]
        assert not origin.requests


async def test_guessing(tmp_path: Path) -> None:
    """Who guesses is stopped after a few tries with 429; who was let in before goes on."""
    async with Origin() as origin, with_users(tmp_path) as rig:
        target = f"good.test:{origin.port}"
        assert b"200 OK" in await rig.ask(get(target, authorization(PASSWORD), "Connection: close"))
        guesses = [await rig.ask(get(target, authorization(f"batch:{guess}"))) for guess in range(14)]
        told = [answer.split(b" ", 2)[1] for answer in guesses]
        assert told[:9] == [b"407"] * 9
        assert told[-2:] == [b"429"] * 2
        assert b"X-Gateway-Reason: rate-limit" in guesses[-1]
        assert b"200 OK" in await rig.ask(get(target, authorization(PASSWORD), "Connection: close"))
        assert len(origin.requests) == 2
        assert len(rig.ledger.denials) == 14


@contextlib.asynccontextmanager
async def over_tls(folder: Path, server: Path, authority: Authority | None, **more: Any) -> AsyncIterator[Rig]:
    """Run a proxy with a TLS listener that lets the group `machine` reach `good.test`."""
    files = TlsFiles(server, server, authority.file if authority else None)
    section = {"listen": ["tls://127.0.0.1:0"], **more.pop("section", {})}
    rules = (allow("good.test", clients=("machine",)), replace(inspect("seen.test"), clients=("machine",)))
    async with a_proxy(folder, *rules, clients=[MACHINE, FRONT], tls=files, section=section, **more) as rig:
        yield rig


def through_tls(rig: Rig, server: Path, client: Path | None = None) -> list[str]:
    """Return the options of curl for a proxy that speaks TLS."""
    shown = ["--proxy-cert", str(client)] if client else []
    return ["-x", f"https://127.0.0.1:{rig.port}", "--proxy-cacert", str(server), *shown]


@pytest.mark.parametrize("subject", [("batch", "Example"), ("other", "Example", "spare.example")])
async def test_client_certificate(
    tmp_path: Path, certificate: Path, authority: Authority, subject: tuple[str, ...]
) -> None:
    """`curl --proxy-cert` proves a client by its subject or a further name, spliced, inspected and in plain."""
    client = authority.issue(*subject)
    async with (
        TlsOrigin(certificate=certificate) as origin,
        Origin() as plain,
        over_tls(tmp_path, certificate, authority, trust=certificate) as rig,
    ):
        to = through_tls(rig, certificate, client)
        for trusted, url in (
            (certificate, f"https://good.test:{origin.port}/"),
            (rig.proxy.certificate, f"https://seen.test:{origin.port}/"),
            (certificate, f"http://good.test:{plain.port}/"),
        ):
            answer = await rig.curl(*to, "--cacert", str(trusted), url)
            assert answer.out == "hello from the origin\n", answer.err
        await rig.settled()
        assert rig.ledger.denials == []
        assert {client.certificate for client in who(rig)} == {f"CN={subject[0]},O=Example"}
        assert len(who(rig)) == 3


async def test_large_body_over_tls(tmp_path: Path, certificate: Path, authority: Authority) -> None:
    """Megabytes come whole through a TLS listener, and the end of the origin is the end of the client."""
    body = bytes(range(256)) * 20000
    client = authority.issue("batch", "Example")

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        await writer.drain()

    async with (
        TlsOrigin(certificate=certificate, behave=pour) as origin,
        over_tls(tmp_path, certificate, authority) as rig,
    ):
        to = through_tls(rig, certificate, client)
        saved = tmp_path / "body"
        url = f"https://good.test:{origin.port}/"
        answer = await rig.curl(*to, "--cacert", str(certificate), "-o", str(saved), url)
        assert answer.code == 0, answer.err
        assert saved.read_bytes() == body
        await rig.settled()


async def test_no_client_certificate(tmp_path: Path, certificate: Path, authority: Authority) -> None:
    """Without a certificate, or with one of another authority, the handshake fails, and that is one line."""
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("batch", "Example")
    async with Origin() as origin, over_tls(tmp_path, certificate, authority) as rig:
        for client, reason in ((None, Reason.AUTH_REQUIRED), (stranger, Reason.AUTH_FAILED)):
            answer = await rig.curl(*through_tls(rig, certificate, client), f"http://good.test:{origin.port}/")
            assert answer.code
            await until(lambda: rig.ledger.lines)
            assert rig.ledger.denials == [reason]
            rig.ledger.lines.clear()
        assert b"HTTP" not in await rig.ask(b"GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n")
        await until(lambda: rig.ledger.lines)
        assert rig.ledger.denials == [Reason.NOT_TLS]
        assert origin.untouched
        assert not rig.proxy.open_connections


async def test_renewed_certificate(tmp_path: Path, certificate: Path, authority: Authority) -> None:
    """New files count from the next connection on; files that cannot be used leave the old ones in force."""
    fresh = make_certificate(tmp_path / "fresh.pem", "127.0.0.1")
    client = authority.issue("batch", "Example")
    async with Origin() as origin, over_tls(tmp_path, certificate, authority) as rig:
        url = f"http://good.test:{origin.port}/"
        assert not rig.proxy.renew(TlsFiles(tmp_path / "none.pem", fresh))
        assert (await rig.curl(*through_tls(rig, certificate, client), url)).code == 0
        assert rig.proxy.renew(TlsFiles(fresh, fresh, authority.file))
        assert (await rig.curl(*through_tls(rig, fresh, client), url)).code == 0
        assert (await rig.curl(*through_tls(rig, certificate, client), url)).code == 60


@contextlib.asynccontextmanager
async def behind(folder: Path, *peers: str) -> AsyncIterator[Rig]:
    """Run a proxy behind load balancers that lets the group `front` reach `good.test`."""
    rule = allow("good.test", clients=("front",))
    async with a_proxy(folder, rule, clients=[FRONT], section={"proxy_protocol_from": list(peers)}) as rig:
        yield rig


V2 = b"\r\n\r\n\0\r\nQUIT\n"
HEADERS = {
    "version 1": LINE,
    "version 1, IPv6": b"PROXY TCP6 2001:db8::7 ::1 40000 3128\r\n",
    "version 2": V2 + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 127, 0, 0, 1, 1, 1, 2, 2]),
    "version 2 with more": V2 + b"\x21\x11\0\x12" + bytes([192, 0, 2, 7, 127, 0, 0, 1, 1, 1, 2, 2]) + b"\3\0\3abc",
}


@pytest.mark.parametrize("name", HEADERS)
async def test_proxy_protocol(tmp_path: Path, name: str) -> None:
    """A named peer says who its client is: that is whom the policy judges."""
    async with Origin() as origin, behind(tmp_path, "127.0.0.0/8") as rig:
        answer = await rig.ask(HEADERS[name] + get(f"good.test:{origin.port}", "Connection: close"))
        assert b"hello from the origin" in answer
        await rig.settled()
        assert str(who(rig)[0].address) in ("192.0.2.7", "2001:db8::7")


async def test_proxy_protocol_of_curl(tmp_path: Path) -> None:
    """`curl --haproxy-protocol` speaks it; its client is curl itself, whom no rule knows."""
    async with Origin() as origin, behind(tmp_path, "127.0.0.1/32") as rig:
        place = f"http://127.0.0.1:{rig.port}/"
        target = f"http://good.test:{origin.port}/"
        host = f"Host: good.test:{origin.port}"
        answer = await rig.curl("-x", "", "--haproxy-protocol", "--request-target", target, "-H", host, place)
        assert f"(reason: {NOBODY})" in answer.out, answer.err
        assert rig.ledger.denials == [NOBODY]
        assert origin.untouched


async def test_proxy_protocol_before_tls(tmp_path: Path, certificate: Path, authority: Authority) -> None:
    """The header comes in front of the handshake; who asks is the address of the one and the name of the other."""
    client = authority.issue("batch", "Example")
    section = {"proxy_protocol_from": ["127.0.0.1/32"]}
    async with Origin() as origin, over_tls(tmp_path, certificate, authority, section=section) as rig:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner, outer = await rig.connect()
            outer.write(LINE)

            async def back() -> None:
                while data := await inner.read(65536):
                    writer.write(data)
                writer.close()

            task = asyncio.get_running_loop().create_task(back())
            while data := await reader.read(65536):
                outer.write(data)
            outer.close()
            await task

        async with Origin(behave=relay) as balancer:
            address = f"https://127.0.0.1:{balancer.port}"
            to = through_tls(rig, certificate, client)[2:]
            answer = await rig.curl("-x", address, *to, f"http://good.test:{origin.port}/")
            assert answer.out == "hello from the origin\n", answer.err
            await rig.settled()
        asked = who(rig)[0]
        assert (str(asked.address), asked.certificate) == ("192.0.2.7", "CN=batch,O=Example")


async def test_nothing_is_counted_twice(tmp_path: Path) -> None:
    """Connections with headers, good and bad, are all counted out again."""
    async with Origin() as origin, behind(tmp_path, "127.0.0.0/8") as rig:
        for begin in (LINE, b"", b"PROXY TCP4 x\r\n", V2 + b"\x21\x31\0\0"):
            await rig.ask(begin + get(f"good.test:{origin.port}", "Connection: close"))
        await rig.settled()
        assert rig.ledger.denials == [Reason.MALFORMED] * 3
        assert len(origin.requests) == 1


@pytest.mark.parametrize("name", ["good.test", "seen.test"])
@pytest.mark.parametrize("group", [True, False], ids=["group", "account"])
async def test_open_tunnels_of_a_user_who_is_out(tmp_path: Path, certificate: Path, name: str, group: bool) -> None:
    """At a reload, open tunnels end whose user is gone, or no longer in the group; in one line each. Others go on."""
    hashes = dict(HASHES)
    everybody = ClientGroup(name="all", users=frozenset(["batch", "anna"]))
    rules = (allow("good.test", clients=("all",)), replace(inspect("seen.test"), clients=("all",)))
    world = a_proxy(tmp_path, *rules, clients=[everybody], accounts=lambda: Accounts(dict(hashes)), trust=certificate)
    async with TlsOrigin(certificate=certificate) as origin, world as rig:
        target = f"{name}:{origin.port}"
        trust = certificate if name == "good.test" else rig.proxy.certificate
        open_now = []
        for user in (PASSWORD, "anna:anna"):
            reader, writer = await rig.connect()
            writer.write(f"CONNECT {target} HTTP/1.1\r\n{authorization(user)}\r\n\r\n".encode())
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            await start_tls(writer, client_context(trust), name)
            writer.write(f"GET / HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            await asyncio.wait_for(reader.readuntil(b"origin\n"), 20)
            open_now.append((reader, writer))
        if group:
            fewer = ClientGroup(name="all", users=frozenset(["anna"]))
            rig.judge.policy = Policy(rules=rules, clients=[fewer])
        else:
            del hashes["batch"]
        rig.judge.generation += 1
        (reader, writer), (other_reader, other_writer) = open_now
        if group and name == "seen.test":  # nothing is under way there: the next request is judged
            writer.write(f"GET / HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await asyncio.wait_for(reader.read(), 20)
        denied = [line.request.client.user for line in rig.ledger.lines if line.decision.denied]
        assert denied == ["batch"]
        assert rig.ledger.denials == [NOBODY if group else Reason.AUTH_FAILED]
        other_writer.write(f"GET / HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        await asyncio.wait_for(other_reader.readuntil(b"origin\n"), 20)
        writer.close()
        other_writer.close()
