"""Bypasses 14 to 19: names that lead elsewhere than they should."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from gateway.decision import Reason
from tests.builders import an_address
from tests.gateway.proxy.samples import a_hello
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import a_proxy, allow
from tests.peers.http_origin import Origin


async def _note(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def test_rebinding(tmp_path: Path) -> None:
    """14: an answer that changes between two look-ups cannot get between check and use: there is only one."""
    async with Origin(behave=_note) as origin, a_proxy(tmp_path, allow("good.test")) as rig:

        def flip(_: str) -> None:
            if len(rig.names.asked) > 1:
                rig.names.table = {"good.test": (an_address("169.254.169.254"),)}

        rig.names.before = flip
        await rig.in_tunnel(f"good.test:{origin.port}", a_hello())
        assert rig.names.asked == ["good.test"]
        assert origin.connections == 1
        assert await rig.in_tunnel(f"good.test:{origin.port}", a_hello()) == bytes.fromhex("15030300020231")
        assert origin.connections == 1
        await rig.settled()
        assert rig.ledger.denials == [Reason.METADATA_ADDRESS]


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        (("10.0.0.1",), Reason.DNS_REBINDING),
        (("::1",), Reason.DNS_REBINDING),
        (("fd00::1",), Reason.DNS_REBINDING),
        (("::ffff:127.0.0.1",), Reason.DNS_REBINDING),
        (("192.168.1.1", "169.254.169.254"), Reason.DNS_REBINDING),
        (("fd00:ec2::254", "10.0.0.1"), Reason.METADATA_ADDRESS),
    ],
)
async def test_private_answers(tmp_path: Path, addresses: tuple[str, ...], reason: Reason) -> None:
    """15: a name with private addresses only is denied for the first of them."""
    async with a_world(tmp_path, names={"good.test": addresses}) as world:
        answer = await world.rig.in_tunnel(world.target, a_hello())
        await world.held(answer, reason, lookups=("good.test",))


async def test_slow_names(tmp_path: Path) -> None:
    """16: names that never resolve do not keep others waiting."""
    waiting = asyncio.Event()
    async with Origin(behave=_note) as origin, a_proxy(tmp_path, allow("good.test", "*.slow.test")) as rig:
        rig.names.before = lambda name: waiting.wait() if name.endswith(".slow.test") else None
        slow = []
        for number in range(200):
            reader, writer = await rig.tunnel(f"n{number}.slow.test:443")
            writer.write(a_hello(b"n%d.slow.test" % number))
            slow.append((reader, writer))
        async with asyncio.timeout(5):
            await rig.in_tunnel(f"good.test:{origin.port}", a_hello())
        assert origin.connections == 1
        for _, writer in slow:
            writer.close()
        waiting.set()
        await rig.settled()


async def test_a_black_hole_first(tmp_path: Path) -> None:
    """16: a first address that never answers costs a moment, not the connection."""
    with socket.socket() as hole, contextlib.ExitStack() as stack:
        async with Origin(behave=_note) as origin:
            hole.bind(("127.0.0.5", origin.port))
            hole.listen(0)
            for _ in range(3):  # then the queue is full, and the kernel drops what comes
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.5", origin.port))
            both = {"good.test": ("127.0.0.5", "127.0.0.1")}
            async with a_proxy(tmp_path, allow("good.test"), names=both) as rig:
                async with asyncio.timeout(10):
                    await rig.in_tunnel(f"good.test:{origin.port}", a_hello())
                assert origin.connections == 1
                await rig.settled()
                assert rig.ledger.denials == []


@pytest.mark.parametrize("host", ["intranet", "wpad", "good"])
async def test_no_search_list(tmp_path: Path, host: str) -> None:
    """13: a name of one label is looked up as it is, if at all: nothing is put behind it."""
    async with Origin() as origin, a_proxy(tmp_path, allow(host), names={host: ()}) as rig:
        answer = await rig.in_tunnel(f"{host}:{origin.port}", a_hello(host.encode()))
        assert answer.endswith(bytes.fromhex("15030300020270"))
        assert rig.names.asked == [host]
        assert rig.ledger.denials == [Reason.NAME_UNRESOLVABLE]
        assert len(rig.ledger.lines) == 1
        assert origin.untouched


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9"])
async def test_itself(tmp_path: Path, listen: str, address: str) -> None:
    """18: the gateway does not talk to itself under any of its addresses."""
    section = {"listen": [listen]}
    async with a_proxy(tmp_path, allow("good.test"), names={"good.test": address}, section=section) as rig:
        answer = await rig.in_tunnel(f"good.test:{rig.port}", a_hello())
        assert len(rig.ledger.lines) == 1
        if listen.startswith("0") or address == "127.0.0.1":
            assert answer == bytes.fromhex("15030300020231")
            assert rig.ledger.denials == [Reason.PRIVATE_ADDRESS]


async def test_redirect(tmp_path: Path) -> None:
    """19: a redirect is the client's to follow, and its next request is judged like any other."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n")

    async with Origin(behave=redirect) as origin, a_proxy(tmp_path, allow("good.test")) as rig:
        ran = await rig.curl("-L", f"http://good.test:{origin.port}/")
        assert "(reason: metadata-address)" in ran.out
        await rig.settled()
        assert rig.ledger.denials == [Reason.METADATA_ADDRESS]
        assert len(rig.ledger.lines) == 2
