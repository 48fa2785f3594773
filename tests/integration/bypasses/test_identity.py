"""Bypass 30: claims about who asks that nobody has proven."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from gateway.decision import Reason
from gateway.htpasswd import Accounts
from gateway.proxy.tls import TlsFiles
from gateway.rule import ClientGroup
from tests.builders import networks
from tests.integration.bypasses.world import World, a_world
from tests.integration.proxy_rig import run, until
from tests.peers.certificates import Authority
from tests.peers.tls_origin import make_certificate

BATCH = ClientGroup(name="batch", addresses=networks("127.0.0.1/32"), users=frozenset(["batch"]))
FRONT = ClientGroup(name="front", addresses=networks("192.0.2.0/24"))
ACCOUNTS = Accounts(
    {
        "batch": bcrypt.hashpw(b"se:cret", bcrypt.gensalt(4)).decode(),
        "anna": bcrypt.hashpw(b"anna", bcrypt.gensalt(4)).decode(),
    }
)
ODD_PORT = Reason.PORT
"""Why nobody else gets through: the origins have odd ports, which only the rule for the group opens."""


def basic(text: str, scheme: str = "Basic") -> str:
    """Return the value of Proxy-Authorization."""
    return f"{scheme} {base64.b64encode(text.encode()).decode()}"


PROOF = basic("batch:se:cret")


@asynccontextmanager
async def with_users(folder: Path, **more: Any) -> AsyncIterator[World]:
    """Run a proxy that lets the user `batch` alone reach `good.test`."""
    async with a_world(
        folder, narrowed={"clients": ("batch",)}, clients=[BATCH], accounts=lambda: ACCOUNTS, **more
    ) as world:
        yield world


def asking(world: World, method: str, *fields: str) -> bytes:
    """Return a request for the allowed place."""
    target = world.target if method == "CONNECT" else f"http://{world.target}/"
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {world.target}", *fields, "", ""]).encode()


CLAIMS: dict[str, tuple[list[str], Reason]] = {
    "nothing": ([], ODD_PORT),
    "nothing in it": ([""], Reason.AUTH_FAILED),
    "another scheme": (["Bearer " + PROOF.removeprefix("Basic ")], Reason.AUTH_FAILED),
    "digest": (['Digest username="batch", realm="egress gateway"'], Reason.AUTH_FAILED),
    "the password up to its colon": ([basic("batch:se")], Reason.AUTH_FAILED),
    "the colon in the name": ([basic("batch%3Ase:cret")], Reason.AUTH_FAILED),
    "upper case": ([basic("BATCH:se:cret")], Reason.AUTH_FAILED),
    "a space behind the name": ([basic("batch :se:cret")], Reason.AUTH_FAILED),
    "the hash": ([basic(f"batch:{ACCOUNTS.hashes['batch']}")], Reason.AUTH_FAILED),
    "nobody known": ([basic("root:se:cret")], Reason.AUTH_FAILED),
    "a NUL behind it": ([basic("batch:se:cret\0")], Reason.AUTH_FAILED),
    "twice, the second right": ([basic("anna:anna"), PROOF], Reason.AUTH_FAILED),
    "twice, both right": ([PROOF, PROOF], Reason.AUTH_FAILED),
    "in a list": ([f"{basic('anna:anna')}, {PROOF}"], Reason.AUTH_FAILED),
    "somebody else": ([basic("anna:anna")], ODD_PORT),
    "large": ([basic("batch:" + "x" * 3000)], Reason.AUTH_FAILED),
    "huge": ([basic("batch:" + "x" * 60000)], Reason.MALFORMED),
}


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
@pytest.mark.parametrize("name", CLAIMS)
async def test_claims(tmp_path: Path, name: str, method: str) -> None:
    """30: whatever is sent as Proxy-Authorization, only the right one opens anything."""
    values, reason = CLAIMS[name]
    async with with_users(tmp_path) as world:
        answer = await world.rig.ask(asking(world, method, *(f"Proxy-Authorization: {value}" for value in values)))
        await world.held(answer, reason)
        assert (b"HTTP/1.1 407 " in answer) is (reason is Reason.AUTH_FAILED)
        assert (b"Proxy-Authenticate: Basic " in answer) is (reason is Reason.AUTH_FAILED)


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
@pytest.mark.parametrize("field", ["Authorization", "X-Proxy-Authorization", "Proxy_Authorization"])
async def test_other_fields(tmp_path: Path, field: str, method: str) -> None:
    """30: credentials in another field are none."""
    async with with_users(tmp_path) as world:
        await world.held(await world.rig.ask(asking(world, method, f"{field}: {PROOF}")), ODD_PORT)


async def test_replay_on_another_connection(tmp_path: Path) -> None:
    """30: what one user has proven opens nothing for the next request of somebody else on the same connection."""
    async with with_users(tmp_path) as world:
        theirs = asking(world, "GET", f"Proxy-Authorization: {PROOF}")
        mine = asking(world, "GET", f"Proxy-Authorization: {basic('anna:anna')}")
        answer = await world.rig.ask(theirs + mine + theirs)
        assert answer.count(b"HTTP/1.1 200 ") == 1
        assert answer.count(b"HTTP/1.1 ") == 2
        await world.rig.settled()
        assert len(world.good.requests) == 1
        assert world.rig.ledger.denials == [ODD_PORT]
        assert [line.request.client.user for line in world.rig.ledger.lines] == ["batch", "anna"]
        assert b"proxy-authorization" not in world.good.requests[0].lower()


async def test_replay_from_elsewhere(tmp_path: Path) -> None:
    """30: a stolen password is worth nothing from an address that is not the group's."""
    async with with_users(tmp_path) as world:
        url = f"http://{world.target}/"
        answer = await world.rig.curl("-i", "--interface", "127.0.0.3", "-U", "batch:se:cret", url)
        await world.held(answer.out.encode(), ODD_PORT)
        assert world.rig.ledger.lines[0].request.client.user == "batch"


FORGED = (
    "X-Forwarded-For: 192.0.2.7",
    "Forwarded: for=192.0.2.7",
    "X-Real-IP: 192.0.2.7",
    "True-Client-IP: 192.0.2.7",
    "X-Client-IP: 192.0.2.7",
    "X-Remote-User: batch",
    "X-SSL-Client-S-DN: CN=batch",
)


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
@pytest.mark.parametrize("field", FORGED)
async def test_forged_fields(tmp_path: Path, field: str, method: str) -> None:
    """30: header fields say nothing about who asks."""
    groups = [FRONT, ClientGroup(name="machines", certificates=frozenset(["CN=batch"])), BATCH]
    async with a_world(tmp_path, narrowed={"clients": ("front", "machines", "batch")}, clients=groups) as world:
        await world.held(await world.rig.ask(asking(world, method, field)), ODD_PORT)


V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 127, 0, 0, 1, 1, 1, 2, 2])
V1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 3128\r\n"


@pytest.mark.parametrize("named", [False, True], ids=["nobody may", "another may"])
@pytest.mark.parametrize("method", ["CONNECT", "GET"])
@pytest.mark.parametrize("header", [V1, V2], ids=["version 1", "version 2"])
async def test_forged_header(tmp_path: Path, header: bytes, method: str, named: bool) -> None:
    """30: a PROXY header from anybody but the named load balancers is malformed."""
    section = {"proxy_protocol_from": ["127.0.0.9/32"]} if named else {}
    async with a_world(tmp_path, narrowed={"clients": ("front",)}, clients=[FRONT], section=section) as world:
        await world.held(await world.rig.ask(header + asking(world, method)), Reason.MALFORMED)


@pytest.mark.parametrize("header", [V1, V2], ids=["version 1", "version 2"])
async def test_second_header(tmp_path: Path, header: bytes) -> None:
    """30: behind a load balancer, what the client itself says is no header any more."""
    own = b"PROXY TCP4 198.51.100.1 127.0.0.1 40000 3128\r\n"
    section = {"proxy_protocol_from": ["127.0.0.1/32"]}
    async with a_world(tmp_path, narrowed={"clients": ("front",)}, clients=[FRONT], section=section) as world:
        await world.held(await world.rig.ask(own + header + asking(world, "GET")), Reason.MALFORMED)
        assert str(world.rig.ledger.lines[0].request.client.address) == "198.51.100.1"


@pytest.mark.parametrize(
    "header", [b"", b"PROXY UDP4 192.0.2.7 127.0.0.1 1 1\r\n", V2.replace(b"\x21\x11", b"\x21\x12")]
)
async def test_balancer_without_a_header(tmp_path: Path, header: bytes) -> None:
    """30: a load balancer that does not say who its client is does not get through as itself."""
    section = {"proxy_protocol_from": ["127.0.0.1/32"]}
    async with a_world(tmp_path, section=section) as world:
        assert await world.rig.ask(header + asking(world, "GET")) == b""
        await world.rig.settled()
        assert world.rig.ledger.denials == [Reason.MALFORMED]
        assert world.good.untouched


async def test_header_in_a_tunnel(tmp_path: Path) -> None:
    """30: a PROXY header that `curl --haproxy-protocol` sends through a tunnel is not TLS, and reaches nobody."""
    async with a_world(tmp_path) as world:
        await world.rig.curl("--haproxy-protocol", "-k", f"https://{world.target}/")
        await until(lambda: world.rig.ledger.lines)
        assert world.rig.ledger.denials == [Reason.NOT_TLS]
        assert world.good.untouched


@pytest.mark.parametrize("kind", ["of another authority", "expired", "made by itself", "none"])
async def test_certificates(tmp_path: Path, kind: str) -> None:
    """30: a certificate that says the right name proves nothing unless a known authority says so, today."""
    server = make_certificate(tmp_path / "server.pem", "127.0.0.1")
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    shown = {
        "of another authority": theirs.issue("batch", "Example"),
        "expired": ours.issue("batch", "Example", days=-1),
        "made by itself": make_certificate(tmp_path / "self.pem", "batch"),
        "none": None,
    }[kind]
    group = ClientGroup(name="machines", certificates=frozenset(["CN=batch,O=Example", "CN=batch"]))
    tls, section = TlsFiles(server, server, ours.file), {"listen": ["tls://127.0.0.1:0"]}
    async with a_world(
        tmp_path, narrowed={"clients": ("machines",)}, clients=[group], tls=tls, section=section
    ) as world:
        to = ["-x", f"https://127.0.0.1:{world.rig.port}", "--proxy-cacert", str(server)]
        ran = await run(
            "curl", "-sS", *to, *(["--proxy-cert", str(shown)] if shown else []), f"http://{world.target}/"
        )
        assert ran.code
        await until(lambda: world.rig.ledger.lines)
        assert world.rig.ledger.denials == [Reason.AUTH_FAILED if shown else Reason.AUTH_REQUIRED]
        assert len(world.rig.ledger.lines) == 1
        assert world.good.untouched
