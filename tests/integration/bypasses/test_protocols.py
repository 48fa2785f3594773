"""Bypasses 21, 22 and 25: who speaks first, who never ends, who offers a way round. The rest is in the battery."""

import asyncio
from pathlib import Path

from gateway.decision import Reason
from tests.gateway.proxy.samples import a_hello
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import a_proxy, allow
from tests.peers.http_origin import Origin


async def test_server_first(tmp_path: Path) -> None:
    """21: a server that would speak first never gets the chance: the client has to."""
    section = {"timeouts": {"hello": "150ms"}}
    async with a_world(tmp_path, section=section) as world:
        reader, writer = await world.rig.tunnel(world.target)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await world.held(answer, Reason.NOT_TLS)


async def test_never_completed(tmp_path: Path) -> None:
    """22: a ClientHello that dribbles and never ends does not reach the origin."""
    section = {"timeouts": {"hello": "150ms"}}
    async with a_world(tmp_path, section=section) as world:
        await world.held(await world.rig.in_tunnel(world.target, a_hello()[:-1]), Reason.NOT_TLS)


async def test_alt_svc(tmp_path: Path) -> None:
    """25: an offer of HTTP/3, which would go round the gateway, does not reach the client."""
    async with (
        Origin(fields=('Alt-Svc: h3=":443"; ma=86400', "X-Kept: yes")) as origin,
        a_proxy(tmp_path, allow("good.test")) as rig,
    ):
        ran = await rig.curl("-i", f"http://good.test:{origin.port}/")
        assert "X-Kept: yes" in ran.out
        assert "alt-svc" not in ran.out.lower()
