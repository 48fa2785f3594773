"""`gateway selfcheck`: the battery against a gateway in a process of its own, and against an open proxy."""

import subprocess
import sys
from pathlib import Path

from gateway.selfcheck.session import Setting, check
from gateway.selfcheck.world import zone
from tests.peers.open_proxy import open_proxy

GATEWAY = str(Path(sys.executable).parent / "gateway")


def test_this_gateway() -> None:
    """Everything is resisted, and the exit code says so."""
    ran = subprocess.run([GATEWAY, "selfcheck"], capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.rstrip().endswith("pass")
    assert "FAIL" not in ran.stdout


async def test_an_open_proxy() -> None:
    """A proxy that lets everything through is found out."""
    async with open_proxy(zone("127.0.0.1")) as port:
        scores = await check(Setting(f"http://127.0.0.1:{port}", patience=0.05))
    failed = {score.number for score in scores if not score.passed}
    assert failed >= {1, 2, 6, 15, 21, 22, 23, 24, 25, 28, 31}
    assert 0 not in failed
