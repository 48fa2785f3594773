"""One run of the battery: origins and name server, and a gateway of its own where no other proxy is given."""

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.selfcheck.battery import Score, run
from gateway.selfcheck.client import Target
from gateway.selfcheck.scripts import CAP
from gateway.selfcheck.world import World, a_world

POLICY = """\
version: 1
state_dir: ./state
proxy: {{listen: ["127.0.0.1:{port}"], workers: 1}}
dns: {{upstreams: ["udp://{dns}"]}}
policy:
  rules:
    - name: capped
      action: allow
      to: {{domains: [capped.test], addresses: [{good}/32], ports: [{good_port}]}}
      upload: {cap}B/1h
    - name: seen
      action: allow
      to: {{domains: [seen.test], addresses: [{good}/32], ports: [{good_port}]}}
      http: {{methods: [GET, HEAD, POST]}}
    - name: good
      action: allow
      to: {{domains: [.good.test], addresses: [{good}/32], ports: [{good_port}]}}
"""
"""What a proxy has to be configured for, in the words of this one. Nothing else is allowed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where things are. Ports that are zero are chosen."""

    proxy: str = ""
    """URL of the proxy to check; empty: a gateway that is started for it."""
    good: str = "127.0.0.1"
    good_port: int = 0
    dns: tuple[str, int] = ("127.0.0.1", 0)
    patience: float = 0.5


class SetupError(Exception):
    """The battery cannot be run. The text says why."""


async def check(setting: Setting, progress: Callable[[str], None] = lambda _: None) -> list[Score]:
    """Run the battery.

    Raises:
        SetupError: a port is in use, or the proxy does not start, or is not there.
    """
    try:
        async with contextlib.AsyncExitStack() as stack:
            world = await stack.enter_async_context(
                a_world(setting.good, good_port=setting.good_port, dns=setting.dns)
            )
            if setting.proxy:
                host, port = proxy_place(setting.proxy)
                await _reach(host, port)
            else:
                host, port = "127.0.0.1", await stack.enter_async_context(_gateway(setting, world))
            world.names.table["self.good.test"] = (host,)
            target = Target(host, port, world.good.port, world.evil.port)
            return await run(target, world, patience=setting.patience, progress=progress)
    except OSError as error:
        raise SetupError(f"the origins or the name server cannot listen: {error}") from error


def proxy_place(url: str) -> tuple[str, int]:
    """Return host and port of a proxy's URL.

    Raises:
        SetupError: it is no http:// URL with a port.
    """
    parts = urlsplit(url)
    try:
        if parts.scheme == "http" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise SetupError(f"{url!r} is no proxy: give http://host:port")


async def _reach(host: str, port: int) -> None:
    """Connect once: what is not there would pass for a proxy that lets nothing through, not even what it should."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise SetupError(
            f"no proxy answers on {host}:{port}: {os.strerror(error.errno) if error.errno else error}"
        ) from None
    writer.close()


@contextlib.asynccontextmanager
async def _gateway(setting: Setting, world: World) -> AsyncIterator[int]:
    """Run `gateway proxy` with the battery's policy. Yields its port."""
    with tempfile.TemporaryDirectory(prefix="gateway-selfcheck-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        config = Path(folder) / "policy.yaml"
        dns = f"{setting.dns[0]}:{world.dns_port}"
        config.write_text(POLICY.format(port=port, dns=dns, good=setting.good, good_port=world.good.port, cap=CAP))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", "from gateway.cli import main; main()", "proxy", "--config", str(config)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        said = asyncio.get_running_loop().create_task(process.stderr.read())
        try:
            await _await_port(port, process)
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(40):
                    await process.wait()
            except TimeoutError:
                process.kill()
            await said


async def _await_port(port: int, process: asyncio.subprocess.Process) -> None:
    for _ in range(600):
        if process.returncode is not None:
            raise SetupError(f"the gateway ended with code {process.returncode}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SetupError("the gateway did not begin to listen within 30 s")
