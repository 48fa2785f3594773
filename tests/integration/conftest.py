"""Fixtures for tests with whole processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.namespace import RESOLVER, ZONE, Internet, make_certificate, wait_until
from tests.peers.tunnels_live import Lab, lab, missing


def _may_make_namespaces() -> bool:
    probe = f"egw-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "delete", probe], check=True)
    return made


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    """A namespace with public addresses, origins on ports 80 and 443, and a name server that resolv.conf names."""
    with _made(tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def shared_internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    """One for all tests of a module, which leave nothing behind in it."""
    with _made(tmp_path_factory.mktemp("shared")) as world:
        yield world


@contextmanager
def _made(tmp_path: Path) -> Iterator[Internet]:
    if not os.environ.get("CI") and not _may_make_namespaces():
        pytest.skip("making network namespaces needs root")
    namespace = f"egw-{os.getpid()}-{tmp_path.name[-12:]}".replace("_", "-")
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    resolv = Path("/etc/netns") / namespace
    resolv.mkdir(parents=True)
    (resolv / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
    world = Internet(namespace, tmp_path)
    try:
        world.run("ip", "link", "set", "lo", "up")
        for address in sorted({RESOLVER} | {address for addresses in ZONE.values() for address in addresses}):
            if not address.startswith("127."):
                world.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        make_certificate(world.ca)
        spec = {"zone": ZONE, "cert": str(tmp_path / "both.pem"), "resolver": RESOLVER}
        spec["log"] = str(tmp_path / "internet.jsonl")
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        world.start(sys.executable, "tests/peers/internet.py", str(tmp_path / "spec.json"), log="internet.log")
        wait_until(lambda: "ready" in (tmp_path / "internet.log").read_text(), "the origins to listen")
        yield world
    finally:
        world.close()


@pytest.fixture
def tunnel_lab(tmp_path: Path) -> Iterator[Lab]:
    """A client in one namespace, the resolver and the far end of a tunnel in another."""
    if not os.environ.get("CI"):
        if why := missing():
            pytest.skip(why)
        if not _may_make_namespaces():
            pytest.skip("making network namespaces needs root")
    with lab(tmp_path, f"egwt-{os.getpid()}-{tmp_path.name[-10:]}".replace("_", "-")) as made:
        yield made
