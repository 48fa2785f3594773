"""Bypasses 3 and 8: names that are the same after all, and requests behind others. The rest is in the battery."""

from pathlib import Path

import pytest

from tests.gateway.proxy.samples import a_hello
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import until


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
