"""Tests of `gateway.proxy.server`."""

import asyncio
import socket
from pathlib import Path

import pytest

from gateway.proxy.server import ListenError, bind
from tests.integration.proxy_rig import a_proxy, allow, until


def test_shared_port() -> None:
    """Two workers can listen on one port."""
    (first,) = bind(["127.0.0.1:0"])
    port = first.getsockname()[1]
    (second,) = bind([f"127.0.0.1:{port}"])
    first.close()
    second.close()


def test_port_in_use() -> None:
    """A port that somebody else has is told in one line, and nothing else is kept."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            bind(["127.0.0.1:0", f"127.0.0.1:{port}"])
    assert str(caught.value).startswith(f"proxy.listen: 127.0.0.1:{port}: the port is in use")
    assert "\n" not in str(caught.value)


def test_foreign_address() -> None:
    """An address that this host does not have is told as such."""
    with pytest.raises(ListenError, match="does not have that address"):
        bind(["192.0.2.1:0"])


async def test_several_listeners(tmp_path: Path) -> None:
    """Every address of the configuration is served."""
    section = {"listen": ["127.0.0.1:0", "[::1]:0"]}
    async with a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        for address, port in rig.proxy.addresses:
            reader, writer = await asyncio.open_connection(str(address), port)
            writer.write(b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
            writer.close()


async def test_idle_connections_do_not_delay_the_end(tmp_path: Path) -> None:
    """Connections on which nothing was asked are closed when the proxy stops."""
    async with a_proxy(tmp_path, allow("good.test"), grace=30) as rig:
        reader, writer = await rig.connect()
        await until(lambda: rig.proxy.open_connections)
        async with asyncio.timeout(10):
            await rig.proxy.stop()
            assert await reader.read() == b""
        writer.close()
