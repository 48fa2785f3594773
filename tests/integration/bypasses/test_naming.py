"""Bypasses 1 to 8: CONNECT, SNI and Host that do not name the same place."""

from pathlib import Path

import pytest

from gateway.decision import Reason
from tests.gateway.proxy.samples import a_hello, a_message, in_records, server_name, versions
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import until

_HELLOS: dict[str, tuple[bytes, Reason]] = {
    "1 other name": (a_hello(b"evil.test"), Reason.SNI_MISMATCH),
    "1 a parent": (a_hello(b"test"), Reason.SNI_MISMATCH),
    "1 a child": (a_hello(b"www.good.test"), Reason.SNI_MISMATCH),
    "2 no name": (in_records(a_message(versions(0x0304))), Reason.SNI_MISSING),
    "2 empty list": (in_records(a_message(server_name())), Reason.SNI_MISSING),
    "3 name twice": (
        in_records(a_message(server_name(b"good.test"), server_name(b"good.test"))),
        Reason.SNI_MISMATCH,
    ),
    "3 two names": (in_records(a_message(server_name(b"good.test", b"evil.test"))), Reason.SNI_MISMATCH),
    "3 address": (a_hello(b"127.0.0.1"), Reason.SNI_MISMATCH),
    "3 two dots": (a_hello(b"good.test.."), Reason.SNI_MISMATCH),
    "3 empty": (a_hello(b""), Reason.SNI_MISMATCH),
    "3 too long": (a_hello(b"a." * 130 + b"good.test"), Reason.SNI_MISMATCH),
    "3 NUL": (a_hello(b"good.test\0.evil.test"), Reason.SNI_MISMATCH),
    "3 not ASCII": (a_hello("gööd.test".encode()), Reason.SNI_MISMATCH),
    "3 space": (a_hello(b"good.test "), Reason.SNI_MISMATCH),
    "23 ech": (a_hello(b"good.test", (0xFE0D, b"\0" + bytes(30))), Reason.ECH),
}


@pytest.mark.parametrize("inspected", [False, True], ids=["spliced", "inspected"])
@pytest.mark.parametrize("name", sorted(set(_HELLOS) - {"23 ech"}))
async def test_server_name(tmp_path: Path, name: str, inspected: bool) -> None:
    """A ClientHello that names anything but the host of its tunnel goes nowhere, spliced or inspected."""
    hello, reason = _HELLOS[name]
    async with a_world(tmp_path, inspected=inspected) as world:
        await world.held(await world.rig.in_tunnel(world.target, hello), reason)


async def test_ech(tmp_path: Path) -> None:
    """A ClientHello that hides its real name goes nowhere."""
    hello, reason = _HELLOS["23 ech"]
    async with a_world(tmp_path) as world:
        await world.held(await world.rig.in_tunnel(world.target, hello), reason)


@pytest.mark.parametrize("name", [b"good.test.", b"GOOD.test", b"Good.Test."])
async def test_same_name(tmp_path: Path, name: bytes) -> None:
    """Upper case and a trailing dot name the same host, and change nothing."""
    async with a_world(tmp_path) as world:
        _, writer = await world.rig.tunnel(world.target)
        writer.write(a_hello(name))
        await until(lambda: world.good.connections == 1)
        writer.close()
        await world.rig.settled()
        assert world.rig.ledger.denials == []
        assert world.evil.untouched


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:443", "good.test:1", "good.test@evil.test", "good.test, evil.test"]
)
async def test_host_in_connect(tmp_path: Path, host: str) -> None:
    """7: a Host field in a CONNECT that names another place than the target is a disagreement."""
    async with a_world(tmp_path) as world:
        answer = await world.rig.ask(f"CONNECT {world.target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await world.held(answer, Reason.HOST_MISMATCH)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("evil.test", Reason.HOST_MISMATCH),
        ("good.test", Reason.HOST_MISMATCH),
        ("x@{}", Reason.HOST_MISMATCH),
        ("{},evil.test", Reason.HOST_MISMATCH),
        ("{}\r\nHost: evil.test", Reason.MALFORMED),
        ("{}\r\nHost: {}", Reason.MALFORMED),
        ("{}\r\n .evil.test", Reason.MALFORMED),
        ("", Reason.HOST_MISMATCH),
    ],
    ids=["other", "other port", "userinfo", "list", "two", "same twice", "fold", "empty"],
)
async def test_host_field(tmp_path: Path, host: str, reason: Reason) -> None:
    """6 and 7: an absolute-form request whose Host field names another place goes nowhere."""
    async with a_world(tmp_path) as world:
        sent = f"GET http://{world.target}/ HTTP/1.1\r\nHost: {host.replace('{}', world.target)}\r\n\r\n"
        await world.held(await world.rig.ask(sent.encode()), reason)


async def test_second_request(tmp_path: Path) -> None:
    """8: on a kept connection every request is judged, and nothing follows a denial."""
    async with a_world(tmp_path) as world:
        good = f"GET http://{world.target}/ HTTP/1.1\r\nHost: {world.target}\r\n\r\n".encode()
        evil = (
            f"GET http://evil.test:{world.evil.port}/ HTTP/1.1\r\nHost: evil.test:{world.evil.port}\r\n\r\n".encode()
        )
        answer = await world.rig.ask(good + evil + good)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 403 Forbidden" in answer
        await world.rig.settled()
        assert len(world.good.requests) == 1
        assert world.evil.untouched
        assert len(world.rig.ledger.denials) == 1
        assert len(world.rig.ledger.lines) == 2
